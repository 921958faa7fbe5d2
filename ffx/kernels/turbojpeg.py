"""Finds libturbojpeg, and keeps its functions' addresses where compiled code finds them.

Compiled code must load from numba's cache whether or not the library is there and whichever version
it has, so it never names the library's symbols. It calls through a table of addresses that is filled
when this module is imported (`_table`, one external symbol); entry `VERSION` says what may be called:
3 (libjpeg-turbo 3 and its last betas), 2 (older), 0 (no library).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import os
import sys
import sysconfig
from typing import NamedTuple

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..errors import LibraryError
from .compiling import compiled

__all__ = [
    "LibraryInfo",
    "library",
    "library_info",
    "library_version",
    "load",
    "pack_two",
    "tj3_decompress",
    "tj3_destroy",
    "tj3_get",
    "tj3_init",
    "tj3_read_header",
    "tj3_set",
    "tj3_set_crop",
    "tj3_set_scale",
    "tj_decompress",
    "tj_destroy",
    "tj_init",
    "tj_read_header",
]

# Entries of the table.
VERSION = 0
_TJ3_FUNCTIONS = {
    "tj3Init": 1,
    "tj3DecompressHeader": 2,
    "tj3Get": 3,
    "tj3Set": 4,
    "tj3SetCroppingRegion": 5,
    "tj3SetScalingFactor": 6,
    "tj3Decompress8": 7,
    "tj3Destroy": 8,
}
_TJ2_FUNCTIONS = {"tjInitDecompress": 1, "tjDecompressHeader3": 2, "tjDecompress2": 7, "tjDestroy": 8}
_ENTRIES = 16
_TABLE_SYMBOL = "ffx_turbojpeg_table"

_i64 = ir.IntType(64)
_i32 = ir.IntType(32)

_table = np.zeros(_ENTRIES, np.int64)
llvmlite.binding.add_symbol(_TABLE_SYMBOL, _table.ctypes.data)


class LibraryInfo(NamedTuple):
    """Which libturbojpeg is in use: its path as loaded, and its interface's version (3 or 2)."""

    path: str
    version: int


_library: ctypes.CDLL | None = None
_info: LibraryInfo | None = None
_failures: list[str] = []

_HOW_TO_GET = (
    "install the Python package `turbojpeg` (pip install turbojpeg), or the system's libturbojpeg "
    "(Debian and Ubuntu: libturbojpeg0; Fedora: turbojpeg; Homebrew: jpeg-turbo), "
    "or set FFX_TURBOJPEG to the path of a shared library"
)


def _package_libraries() -> list[str]:
    """The shared library that the PyPI package `turbojpeg` carries, newest name first."""
    found = []
    folders = dict.fromkeys([sysconfig.get_paths()["platlib"], sysconfig.get_paths()["purelib"], *sys.path])
    for folder in filter(None, folders):
        for inside in ("turbojpeg.libs/libturbojpeg*", "turbojpeg.libs/turbojpeg*.dll", ".dylibs/libturbojpeg*"):
            found += sorted(glob.glob(os.path.join(glob.escape(folder), inside)), reverse=True)
    return found


def _system_libraries() -> list[str]:
    if sys.platform == "darwin":
        homebrew = "opt/jpeg-turbo/lib/libturbojpeg.dylib"
        return ["libturbojpeg.dylib", f"/opt/homebrew/{homebrew}", f"/usr/local/{homebrew}"]
    if sys.platform == "win32":
        return ["turbojpeg.dll", "libturbojpeg.dll"]
    return ["libturbojpeg.so.0", "libturbojpeg.so"]


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _use(path: str) -> bool:
    """Load one library and fill the table from it; False, and a note why, where that fails."""
    global _library, _info
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        _failures.append(f"{path}: {error}")
        return False
    # Windows passes a struct of four ints by its address, not as `tj3_set_crop` does.
    interfaces = ((2, _TJ2_FUNCTIONS),) if sys.platform == "win32" else ((3, _TJ3_FUNCTIONS), (2, _TJ2_FUNCTIONS))
    for version, functions in interfaces:
        if all(hasattr(library, name) for name in functions):
            for name, entry in functions.items():
                _table[entry] = _address(library, name)
            _library, _info = library, LibraryInfo(path, version)
            _table[VERSION] = version
            return True
    _failures.append(f"{path}: has neither tj3Decompress8 nor tjDecompress2")
    return False


def _search(thorough: bool) -> bool:
    _failures.clear()
    chosen = os.environ.get("FFX_TURBOJPEG")
    if chosen:
        return _use(chosen)
    # The system's first: it is a release, and mended when a flaw is found; what the package carries is a beta of 2023
    # (docs/guarantees.md).
    if any(_use(path) for path in [*_system_libraries(), *_package_libraries()]):
        return True
    # `find_library` may start compilers and other programs, too much for an import.
    found = ctypes.util.find_library("turbojpeg") if thorough else None
    return found is not None and _use(found)


def load() -> LibraryInfo:
    """Make sure that libturbojpeg is loaded.

    Looks at the file that the environment variable `FFX_TURBOJPEG` names, else among the system's libraries,
    else in the Python package `turbojpeg`. Once one is loaded it stays.

    Raises:
        LibraryError: there is none that works; the message says how to get one.
    """
    if _info is None and not _search(thorough=True):
        tried = "; ".join(_failures) or "no candidate was found"
        raise LibraryError(f"JPEG needs libturbojpeg, which could not be loaded ({tried}): {_HOW_TO_GET}")
    assert _info is not None
    return _info


def library_info() -> LibraryInfo:
    """Path and interface version of the libturbojpeg in use; `LibraryError` if there is none."""
    return load()


def library() -> ctypes.CDLL | None:
    """The libturbojpeg in use, for calls from Python; `None` if there is none."""
    return _library


def _read_entry(builder: ir.IRBuilder, index: ir.Value) -> ir.Value:
    table = builder.module.globals.get(_TABLE_SYMBOL)
    if table is None:
        table = ir.GlobalVariable(builder.module, ir.ArrayType(_i64, _ENTRIES), _TABLE_SYMBOL)
    return builder.load(builder.gep(table, [ir.Constant(_i64, 0), index], inbounds=True))


@intrinsic
def _entry(typing_context, index):
    """Entry `index` of the table, read each time: the library may be loaded after the code."""

    def codegen(context, builder, signature, arguments):
        return _read_entry(builder, arguments[0])

    return types.int64(types.int64), codegen


def _foreign(entry: int, result: ir.Type, *parameters: ir.Type):
    """An intrinsic that calls the function at `entry` of the table: a tuple of int64 in, int64 out."""

    @intrinsic
    def call(typing_context, arguments):
        if not isinstance(arguments, types.BaseTuple) or len(arguments) != len(parameters):
            return None

        def codegen(context, builder, signature, values):
            words = []
            given = zip(cgutils.unpack_tuple(builder, values[0]), signature.args[0], parameters, strict=True)
            for value, numba_type, kind in given:
                word = context.cast(builder, value, numba_type, types.int64)
                words.append(word if kind.width == 64 else builder.trunc(word, kind))
            function_type = ir.FunctionType(result, parameters)
            address = _read_entry(builder, ir.Constant(_i64, entry))
            outcome = builder.call(builder.inttoptr(address, function_type.as_pointer()), words)
            if isinstance(result, ir.VoidType):
                return ir.Constant(_i64, 0)
            return outcome if result.width == 64 else builder.sext(outcome, _i64)

        return types.int64(arguments), codegen

    return call


# Pointers and structs of two ints travel as 64-bit words (System V x86-64, AArch64).
tj3_init = _foreign(1, _i64, _i32)  # (kind) -> handle
tj3_read_header = _foreign(2, _i32, _i64, _i64, _i64)  # (handle, data, size)
tj3_get = _foreign(3, _i32, _i64, _i32)  # (handle, parameter)
tj3_set = _foreign(4, _i32, _i64, _i32, _i32)  # (handle, parameter, value)
tj3_set_crop = _foreign(5, _i32, _i64, _i64, _i64)  # (handle, pack_two(x, y), pack_two(width, height))
tj3_set_scale = _foreign(6, _i32, _i64, _i64)  # (handle, pack_two(numerator, denominator))
tj3_decompress = _foreign(7, _i32, _i64, _i64, _i64, _i64, _i32, _i32)  # (handle, data, size, target, pitch, format)
tj3_destroy = _foreign(8, ir.VoidType(), _i64)  # (handle)
tj_init = _foreign(1, _i64)  # () -> handle
# (handle, data, size, &width, &height, &subsampling, &colorspace)
tj_read_header = _foreign(2, _i32, _i64, _i64, _i64, _i64, _i64, _i64, _i64)
# (handle, data, size, target, width, pitch, height, format, flags)
tj_decompress = _foreign(7, _i32, _i64, _i64, _i64, _i64, _i32, _i32, _i32, _i32, _i32)
tj_destroy = _foreign(8, _i32, _i64)  # (handle)


@compiled
def library_version():
    """What compiled code may call: 3, 2 or 0 (nothing)."""
    return _entry(VERSION)


@compiled
def pack_two(first, second):
    """A struct of two C ints as the 64-bit word in which it is passed by value.

    True of little-endian System V x86-64 and AArch64, where a struct of four ints is two such words.
    """
    return np.int64(first) & np.int64(0xFFFFFFFF) | np.int64(second) << 32


_search(thorough=False)
