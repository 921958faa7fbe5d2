"""How long arrays live whose addresses kernels hand on: numba frees an array behind its last use by name."""

import importlib
import pkgutil

import numpy as np
from numba import njit
from numba.core import compiler, ir
from numba.core.dispatcher import Dispatcher
from numba.core.postproc import PostProcessor

import ffx.kernels
from ffx import libffcv
from ffx.kernels.step import NativeKernel

# They need a GPU's package.
WITHOUT = {"crop_triton"}


def freed_behind_their_address(function):
    """Names of a function's own arrays whose last use is that their address is taken."""
    code = compiler.run_frontend(function)
    PostProcessor(code).run(emit_dels=True)
    names = {argument.target.name for argument in code.blocks[min(code.blocks)].find_insts(ir.Assign)
             if isinstance(argument.value, ir.Arg)}  # fmt: skip
    found = set()
    for block in code.blocks.values():
        last = {}
        for statement in block.body:
            if isinstance(statement, ir.Del):
                name = statement.value
                if not name.startswith("$") and name not in names and last.get(name) == "ctypes":
                    found.add(name)
                continue
            taken = statement.value if isinstance(statement, ir.Assign) else None
            attribute = taken.attr if isinstance(taken, ir.Expr) and taken.op == "getattr" else None
            for variable in statement.list_vars():
                last[variable.name] = attribute
    return found


def functions_of(module):
    for value in vars(module).values():
        if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__:
            yield value.py_func
        elif isinstance(value, NativeKernel):
            yield value._function


@njit
def too_short(count):
    room, other = np.empty(count, np.uint8), np.empty(count, np.uint8)
    return room.ctypes.data + other.ctypes.data + other.size


def test_an_array_that_is_freed_too_early_is_found():
    assert freed_behind_their_address(too_short.py_func) == {"room"}


def test_no_kernel_uses_an_array_s_address_when_it_is_gone():
    names = [name for _, name, _ in pkgutil.iter_modules(ffx.kernels.__path__) if name not in WITHOUT]
    modules = [libffcv, *(importlib.import_module(f"ffx.kernels.{name}") for name in names)]
    functions = [function for module in modules for function in functions_of(module)]
    assert len(functions) > 100
    found = {f"{each.__module__}.{each.__name__}": freed_behind_their_address(each) for each in functions}
    assert {name: arrays for name, arrays in found.items() if arrays} == {}
