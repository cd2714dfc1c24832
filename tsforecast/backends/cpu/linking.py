"""Compilers for kernels: less work than Numba's own, for the same machine code, which no other code is mixed up with.

Numba optimises every function by itself, makes machine code of it, and does both once more in each caller, into which
it links the function's code. Kernels that only other kernels call are left as code to be linked: the entry point is
optimised as a whole, once.

Numba tells functions of one name apart by a number, counted up in each process, and leaves them visible: of two that
come from the cache with the same name and number, the one that is loaded first would serve the callers of both. Here
all that an entry point calls is its own and visible to nobody else.

Python's collector of cycles waits meanwhile: it would take a third of the time and find nothing. Numba compiles one
function at a time, with all that it calls, so no second thread can be in here.
"""

from __future__ import annotations

import gc

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _Part(JITCodeLibrary):
    """Code of a function that is not called but through its callers."""

    @property
    def codegen(self):
        """What the address of the environment is given to: itself, since there is no code that would look there."""
        return self

    def set_env(self, env_name, env):
        """Nothing to do: the entry point has the only environment."""

    def get_pointer_to_function(self, name):  # noqa: ARG002
        """Null, as for every name that is not defined."""
        self._ensure_finalized()
        return 0

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalized = True


class _Whole(JITCodeLibrary):
    """Code of an entry point with all that it calls."""

    def _finalize_final_module(self):
        for function in self.get_defined_functions():
            if function.linkage in (Linkage.linkonce_any, Linkage.linkonce_odr):
                function.linkage = "internal"
        super()._finalize_final_module()


class EntryCompiler(Compiler):
    """For functions that Python calls."""

    def define_pipelines(self):
        """Numba's own passes, into a library of another kind."""
        state = self.state
        state.library = _Whole(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().define_pipelines()

    def compile_extra(self, func):
        """Compile a Python function."""
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if was_enabled:
                gc.enable()


class PartCompiler(Compiler):
    """For functions that only other kernels call."""

    def define_pipelines(self):
        """Numba's own passes, into a library of another kind."""
        state = self.state
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().define_pipelines()
