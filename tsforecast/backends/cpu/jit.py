"""The one place that holds compiler options.

``kernel`` is for functions called by other kernels, ``entry`` for the few called from Python (these also get the disk
cache). Rules for both: arrays in, arrays out, no raising, no allocation in time loops, no fast-math, no BLAS, no
libm, no ``parallel=True``. ``error_model="numpy"`` keeps divisions free of exceptions, ``nogil`` lets threads run
side by side. Numba's ``float(x)`` keeps float32: ``np.float64(x)`` widens.
"""

from __future__ import annotations

from numba import config, njit
from numba.extending import intrinsic

from tsforecast.backends.cpu.cache import attach
from tsforecast.backends.cpu.linking import EntryCompiler, PartCompiler

JIT_DISABLED = bool(config.DISABLE_JIT)
# The last two skip work that kernels never need: a C callback, and passes that look for array expressions.
_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "no_rewrites": True}


def kernel(function):
    """Compile a function that only other kernels call."""
    return njit(**_OPTIONS, no_cpython_wrapper=True, pipeline_class=PartCompiler)(function)


def inlined(function):
    """Compile a function into each of its callers: no library of its own to optimise saves start-up time."""
    return njit(inline="always", **_OPTIONS)(function)


def entry(function):
    """Compile a function that Python calls; its machine code is kept in the kernel cache."""
    return attach(njit(**_OPTIONS, pipeline_class=EntryCompiler)(function))


def twin_of(plain):
    """Decorate an intrinsic with its plain-Python twin, which takes its place when compilation is switched off."""

    def choose(codegen):
        return plain if JIT_DISABLED else intrinsic(codegen)

    return choose


def emit_call(context, builder, compiled, kinds, values, types_of_values):
    """Emit a call of a kernel that is compiled for the types ``kinds``, to which the values are cast."""
    result = compiled.overloads[kinds]
    context.add_linking_libs([result.library])
    given = [context.cast(builder, *value) for value in zip(values, types_of_values, kinds, strict=True)]
    context.call_internal(builder, result.fndesc, result.signature, given)
