"""The house rules that a reader of one file cannot see: imports point one way, and every module introduces itself.

`docs/architecture.md` explains the layers. What only type checkers read (`if TYPE_CHECKING:`) is free.
"""

import ast
import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lower numbers know nothing of higher ones. A package stands for all its modules; a longer name wins.
LAYERS = {
    "ffx.errors": 0,
    "ffx.kernels": 1,
    "ffx.libffcv": 2,
    "ffx.format": 2,
    "ffx.pipeline": 3,
    "ffx.fields": 4,
    "ffx.transforms": 4,
    "ffx.remote": 4,
    "ffx.reader": 5,
    "ffx.memory_managers": 6,
    "ffx.traversal_order": 6,
    "ffx.page_allocator": 6,
    "ffx.writer": 6,
    "ffx.verifying": 6,
    "ffx.loader": 7,
    "ffx.commands": 7,
    "ffx.__main__": 8,
    "ffx": 8,
}
# Beside the order of the layers: what a module may use at all.
ALLOWED_ONLY = {"ffx.libffcv": {"ffx.errors", "ffx.kernels"}}

# What programs may import: the names that FFCV's users know, and the errors.
PUBLIC = {
    "ffx",
    "ffx.errors",
    "ffx.fields",
    "ffx.fields.base",
    "ffx.fields.basics",
    "ffx.fields.bytes",
    "ffx.fields.decoders",
    "ffx.fields.rgb_image",
    "ffx.libffcv",
    "ffx.loader",
    "ffx.loader.epoch_iterator",
    "ffx.loader.loader",
    "ffx.memory_managers",
    "ffx.pipeline",
    "ffx.pipeline.allocation_query",
    "ffx.pipeline.compiler",
    "ffx.pipeline.graph",
    "ffx.pipeline.operation",
    "ffx.pipeline.pipeline_spec",
    "ffx.pipeline.state",
    "ffx.reader",
    "ffx.remote",
    "ffx.transforms",
    "ffx.transforms.common",
    "ffx.transforms.ops",
    "ffx.traversal_order",
    "ffx.traversal_order.base",
    "ffx.writer",
}
PROGRAMS = ("writer", "examples", "benchmarks")
# A kernel cannot be measured from outside.
KERNELS_TOO = {"benchmarks/kernels.py"}


@dataclass(frozen=True)
class Import:
    """One imported module, by its absolute name; `names` are the names taken from it."""

    module: str
    names: tuple[str, ...]
    line: int
    at_top: bool
    relative: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


LIBRARY = {module_name(path): path for path in python_files("ffx")}


def is_type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports_of(path: Path) -> list[Import]:
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[Import] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, (), node.lineno, at_top, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*parents, module] if module else parents)
            names = tuple(alias.name for alias in node.names)
            found.append(Import(module, names, node.lineno, at_top, bool(node.level)))
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
        for child in children:
            visit(child, at_top and not inside_function)

    visit(ast.parse(path.read_text()), True)
    return found


def imported_modules(path: Path, only_top: bool = False) -> set[str]:
    """Modules of ffx that a file needs; `from .package import module` counts as the module."""
    modules = set()
    for item in imports_of(path):
        if only_top and not item.at_top:
            continue
        submodules = {f"{item.module}.{name}" for name in item.names} & LIBRARY.keys()
        modules |= submodules or ({item.module} & LIBRARY.keys())
        if set(item.names) - {name.rpartition(".")[2] for name in submodules}:
            modules |= {item.module} & LIBRARY.keys()
    return modules


def layer_name(module: str) -> str | None:
    while module and module not in LAYERS:
        module = module.rpartition(".")[0]
    return module or None


def defined_here(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize("name", LIBRARY)
def test_module_stands_in_a_layer(name):
    assert name == "ffx" or layer_name(name) != "ffx", f"{name}: give it a layer in tests/test_layers.py"


@pytest.mark.parametrize("name", LIBRARY)
def test_imports_point_to_lower_layers(name):
    own = layer_name(name)
    for module in imported_modules(LIBRARY[name]):
        other = layer_name(module)
        if other == own:
            continue
        assert LAYERS[other] <= LAYERS[own], f"{name} (layer {LAYERS[own]}) imports {module} (layer {LAYERS[other]})"
        assert other in ALLOWED_ONLY.get(own, {other}), f"{name} may not import {module}"


@pytest.mark.parametrize("name", LIBRARY)
def test_library_imports_itself_relatively_and_no_program(name):
    for item in imports_of(LIBRARY[name]):
        top = item.module.partition(".")[0]
        assert item.relative or top != "ffx", f"{name}:{item.line}: write this import relatively"
        assert top not in {*PROGRAMS, "tests"}, f"{name}:{item.line}: the library imports {item.module}"


def test_modules_import_each_other_without_a_cycle():
    graph = {name: imported_modules(path, only_top=True) - {name} for name, path in LIBRARY.items()}
    # Importing a module runs its packages first, but a package that lists its modules is no cycle by itself.
    done: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "cycle: " + " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                follow(other, (*way, name))
            done.add(name)

    for name in graph:
        follow(name, ())


@pytest.mark.parametrize("name", LIBRARY)
def test_module_has_docstring_and_all(name):
    tree = ast.parse(LIBRARY[name].read_text())
    assert ast.get_docstring(tree), f"{name} does not say what it is for"
    assert "__all__" in defined_here(tree), f"{name} has no __all__"


@pytest.mark.parametrize("name", LIBRARY)
def test_public_names_exist(name):
    module = importlib.import_module(name)
    missing = [public for public in module.__all__ if not hasattr(module, public)]
    assert not missing, f"{name}.__all__ lists {missing}"


@pytest.mark.parametrize("name", LIBRARY)
def test_library_never_prints(name):
    for node in ast.walk(ast.parse(LIBRARY[name].read_text())):
        called = node.func if isinstance(node, ast.Call) else None
        prints = isinstance(called, ast.Name) and called.id == "print"
        assert not prints, f"{name}:{node.lineno} prints"


@pytest.mark.parametrize("path", python_files(*PROGRAMS), ids=lambda path: str(path.relative_to(ROOT)))
def test_programs_use_the_public_library_only(path):
    for item in imports_of(path):
        if item.module.partition(".")[0] != "ffx":
            continue
        # A name may be a module of its own: `from ffx.kernels import resize`.
        used = {item.module} | ({f"{item.module}.{name}" for name in item.names} & LIBRARY.keys())
        if str(path.relative_to(ROOT)) in KERNELS_TOO:
            used = {module for module in used if layer_name(module) != "ffx.kernels"}
        assert used <= PUBLIC, f"{path}:{item.line}: {sorted(used - PUBLIC)} is not public"
        hidden = [name for name in item.names if name.startswith("_")]
        assert not hidden, f"{path}:{item.line}: {hidden} is not public"


def test_import_brings_in_neither_programs_nor_what_only_they_need():
    code = "import sys, ffx, ffx.loader, ffx.writer, ffx.transforms; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    unwanted = {
        "matplotlib",
        "sklearn",
        "fastargs",
        "webdataset",
        "fsspec",
        "botocore",
        "urllib3",
        "writer",
        "examples",
        "benchmarks",
        "ffcv",
    }
    assert not unwanted & set(loaded)
