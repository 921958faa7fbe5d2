"""Which of the refusals of `ffx.format` were seen: every call of `require` and its kin should be."""

import ast
import functools
from pathlib import Path

import ffx.format
from ffx.errors import FormatError

__all__ = ["UNREACHABLE", "all_refusals", "refusal_of"]

_FOLDER = Path(ffx.format.__file__).parent
_PREFIX = f"{_FOLDER}/"
_CALLS = {"require", "require_all", "refuse", "check_sum"}
# Why no file can bring them about, by the beginning of their text.
UNREACHABLE = {
    'layout.py check_array_type: require(bool(plain), "array type"': "its text is compared with the list before",
    "layout.py check_array_type: require(len(shape) <= MAX_DIMENSIONS": "a file has room for 32 extents",
    "file.py read: require(len(data) == count": "the file would have to shrink meanwhile",
    'opening.py _read_metadata: require(good, "metadata", "records of at least one byte': "only a custom field can",
    "opening.py read_index: refuse(": "it repeats another refusal with the file's name",
}


@functools.cache
def _calls(file: str) -> list[tuple[int, int, str]]:
    """First and last line of each call, and its name here: `file:function: text`."""
    found: list[tuple[int, int, str]] = []
    if file == "refusing.py":
        return found
    source = (_FOLDER / file).read_text()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
                text = " ".join(ast.get_source_segment(source, node).split())
                found.append((node.lineno, node.end_lineno, f"{file} {function.name}: {text}"))
    return found


def all_refusals() -> set[str]:
    """Every call that may refuse a file."""
    files = [path.name for path in _FOLDER.glob("*.py")]
    return {name for file in files for _, _, name in _calls(file)}


def refusal_of(error: BaseException) -> str | None:
    """The call that an error came from; `None` where it is none of them."""
    if isinstance(error.__context__, FormatError):
        # It is the same one, raised again with the file's name.
        error = error.__context__
    found, trace = None, error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path.startswith(_PREFIX):
            calls, line = _calls(path[len(_PREFIX) :]), trace.tb_lineno
            found = next((name for first, last, name in calls if first <= line <= last), found)
        trace = trace.tb_next
    return found
