"""Parts: compiled functions as other compiled functions take them in, not yet optimised.

numba takes each function through LLVM's optimiser and code generator when it is first called, together with all that
it calls. Of functions that call functions, a leaf is so compiled once for each level above it, which was half of what
the first batch of a new version took. A part is only typed and lowered; whoever calls it links it in, and the
outermost function is optimised once, as a whole.

A part is also compiled once for `int64`, not once more for each constant that somebody passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llvmlite.binding
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, compile_result
from numba.core.registry import CPUDispatcher

__all__ = ["Part", "pack_part", "unpack_part"]


class _PartLibrary(JITCodeLibrary):
    """A function's LLVM code, with the parts that it calls, which is neither optimised nor made machine code."""

    def _optimize_final_module(self) -> None:
        """For numba: leave it to the caller's library."""

    def _finalize_final_module(self) -> None:
        """For numba: have no machine code made."""
        self._finalize_dynamic_globals()
        self._finalized = True


class _PartCompiler(Compiler):
    """numba's compiler, up to the LLVM code."""

    def compile_extra(self, function: Callable) -> Any:
        """For numba: compile a Python function."""
        self.state.library = _PartLibrary(self.state.targetctx.codegen(), function.__qualname__)
        self.state.flags.no_compile = True
        result = super().compile_extra(function)
        # numba finds what compiled code calls by an object that stands for it, elsewhere the machine code's.
        result = result._replace(entry_point=object())
        self.state.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        return result


class Part(CPUDispatcher):
    """What compiled code gets that calls a function; Python cannot call it.

    Args:
        function: the Python function.
        options: of `numba.njit`.
    """

    def __init__(self, function: Callable, options: Mapping[str, Any]) -> None:
        own = {"nopython": True, "boundscheck": None, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions={**own, **options}, pipeline_class=_PartCompiler)

    def get_call_template(self, args: Sequence[Any], kws: Mapping[str, Any]) -> Any:
        """For numba: how a call with arguments of these types is typed."""
        named = {name: types.unliteral(kind) for name, kind in kws.items()}
        return super().get_call_template([types.unliteral(kind) for kind in args], named)

    def add_overload(self, result: Any) -> None:
        """For numba: keep what was compiled. (numba's own would make it callable from Python.)"""
        self.overloads[tuple(result.signature.args)] = result


def pack_part(result: Any) -> tuple[Any, ...]:
    """What `Part` compiled, as values that can be pickled."""
    description = result.fndesc
    # Nobody needs them any more, and not all of them can be pickled.
    description.typemap = description.calltypes = None
    module = result.library._get_module_for_linking()
    return result.library.name, module.as_bitcode(), description, result.signature, result.reload_init


def unpack_part(target_context: Any, packed: tuple[Any, ...]) -> Any:
    """The opposite of `pack_part`."""
    name, bitcode, description, signature, reload_init = packed
    for function in reload_init:
        function()
    library = _PartLibrary(target_context.codegen(), name)
    library._final_module = llvmlite.binding.parse_bitcode(bitcode)
    library._finalize_final_module()
    return compile_result(
        typing_context=target_context.typing_context,
        target_context=target_context,
        entry_point=object(),
        signature=signature,
        objectmode=False,
        lifted=(),
        fndesc=description,
        library=library,
        reload_init=reload_init,
    )
