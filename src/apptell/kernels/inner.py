"""Makes Numba dispatchers that are cheap to compile, for functions that only kernels call.

Numba optimises every function by itself, makes machine code of it and a wrapper for Python, and does the same
again for each function that calls it. Here a function stays as the code generator wrote it until it is part of
a kernel: the kernel is optimised once, with all that it calls.

Integers of any width arrive as 64-bit ones, so that a function is compiled once and not once for each width.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit, types
from numba._dynfunc import make_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

_njit: Any = njit


def inner_dispatcher(function: Any, *, forceinline: bool) -> Any:
    """Declares a function that only kernels call; called from Python, it runs as plain Python.

    Args:
        function: takes arrays, records and numbers; makes and returns no arrays.
        forceinline: whether it becomes part of each place that calls it; otherwise the optimiser decides.
    """
    compiled: Any = _njit(forceinline=forceinline, **INNER)(function)
    resolve = compiled.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        return resolve([_widened(each) for each in args], {k: _widened(v) for k, v in kws.items()})

    def add_overload(result: Any) -> None:
        compiled.overloads[tuple(result.signature.args)] = result

    def compile_for_args(*_args: Any, **_kws: Any) -> Any:
        return function

    compiled.get_call_template = get_call_template
    compiled.add_overload = add_overload  # numba's also makes it callable from Python
    compiled._compile_for_args = compile_for_args  # noqa: SLF001
    return compiled


def _widened(kind: Any) -> Any:
    """The 64-bit type of integers, any other type as it is."""
    kind = types.unliteral(kind)
    if isinstance(kind, types.Integer) and getattr(kind, "bitwidth", 64) < 64:
        return types.int64
    return kind


class _InnerLibrary(JITCodeLibrary):
    """The code of one function before optimisation; machine code is never made of it."""

    def finalize(self) -> None:
        """Takes in what the function calls."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)  # noqa: SLF001
            shared = library._get_module_for_linking()  # noqa: SLF001
            self._final_module.link_in(shared, preserve=True)
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _InnerLowering(NativeLowering):
    """Numba's lowering, to a library that is not optimised, without an entry for Python."""

    _name = "inner_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        changed = super().run_pass(state)
        lowered = state["cr"]
        kept = (state.library,)
        # callers look a function up by its entry for Python, which here leads nowhere
        entry = make_function(lowered.fndesc.lookup_module(), "inner", "", 0, lowered.env, kept)
        state["cr"] = lowered._replace(cfunc=entry)
        state.targetctx.insert_user_function(entry, lowered.fndesc, kept)
        state.reload_init.extend(state.library._reload_init)  # noqa: SLF001
        return bool(changed)


class _InnerCompiler(CompilerBase):
    """Numba's pipeline with another end."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline._finalized = False  # noqa: SLF001
        pipeline.passes = [
            (_InnerLowering, why) if step is NativeLowering else (step, why)
            for step, why in pipeline.passes
        ]
        pipeline.finalize()
        return [pipeline]


INNER: Final[dict[str, Any]] = {
    "pipeline_class": _InnerCompiler,
    "_nrt": False,  # no references to arrays are counted
    "no_cfunc_wrapper": True,
    "no_cpython_wrapper": True,
}
"""Options of functions that only kernels call."""
