"""Compiling leaves Python's collector as it was, and lets nobody see what an entry point calls."""

import gc

import pytest
from llvmlite.binding import Linkage
from numba import float64, int64, types
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from tsforecast.backends.cpu.jit import JIT_DISABLED, entry, kernel
from tsforecast.backends.cpu.steps import transpose_panel

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")


@pytest.fixture(params=[True, False], ids=["enabled", "disabled"])
def was_enabled(request):
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def observer(seen):
    @intrinsic
    def observe(typingctx):
        seen.append(gc.isenabled())
        return types.int64(), lambda context, builder, sig, args: context.get_constant(types.int64, 7)

    return observe


def test_collector_waits_while_a_function_is_compiled(was_enabled):
    seen = []
    observe = observer(seen)

    @kernel
    def inner():
        return observe()

    @entry
    def outer():
        return inner()

    assert outer() == 7
    assert seen
    assert not any(seen)
    assert gc.isenabled() == was_enabled


def test_collector_goes_on_after_code_that_does_not_compile(was_enabled):
    @entry
    def wrong(x):
        return x.no_such_attribute

    with pytest.raises(NumbaError):
        wrong(1.0)
    assert gc.isenabled() == was_enabled


def test_what_an_entry_point_calls_is_its_own():
    """Else code from the cache would call code of the same name that another process has numbered the same."""

    @entry
    def outer(panel, weights):
        transpose_panel(panel, weights)

    outer.compile((int64[::1], float64[::1]))
    (result,) = outer.overloads.values()
    linkage = {function.name: function.linkage for function in result.library.get_defined_functions()}
    assert any("transpose_panel" in name for name in linkage), "inlined, which shows nothing"
    visible = [name for name, kind in linkage.items() if kind != Linkage.internal]
    assert visible
    assert all("outer" in name and linkage[name] == Linkage.external for name in visible)
