"""The simulator runs right kernels right, in any order of threads, and refuses wrong ones."""

import math

import numpy as np
import pytest
import simulator
import toy_kernels as toy
from races import RaceError, SimulationError, UninitializedError
from toy_kernels import N

ORDERS = ("forward", "reverse", 1, 2)


@pytest.fixture
def x(rng):
    return rng.normal(size=N).astype(np.float32)


@pytest.fixture
def y():
    return np.full(N, np.nan, np.float32)


@pytest.fixture(params=[False, True], ids=["plain", "watched"])
def watch(request):
    return request.param


@pytest.fixture(params=ORDERS)
def any_order(request, watch):
    with simulator.options(order=request.param, watch=watch):
        yield


@pytest.fixture
def watched():
    with simulator.options(watch=True):
        yield


@pytest.mark.usefixtures("any_order")
class TestRightKernels:
    def test_shared_memory(self, x, y):
        toy.neighbour_sum[1, N](x, y)
        np.testing.assert_array_equal(y, x + np.roll(x, -1))

    def test_dynamic_shared_memory(self, x, y):
        toy.dynamic_reverse[1, N, 0, 4 * N](x, y)
        np.testing.assert_array_equal(y, x[::-1])

    def test_two_buffers_need_one_barrier_a_round(self, x, y):
        toy.double_buffered[1, N](x, y)
        np.testing.assert_array_equal(y, np.roll(x, -1) + np.float32(3))

    def test_blocks_have_shared_memory_of_their_own(self, x):
        two, y = np.concatenate([x, 2 * x]), np.full(2 * N, np.nan, np.float32)
        toy.neighbour_sum[2, N](two, y)
        np.testing.assert_array_equal(y, np.concatenate([x + np.roll(x, -1), 2 * (x + np.roll(x, -1))]))

    def test_grid_barrier_over_several_blocks(self, x, y):
        toy.grid_total[4, N // 4](x, np.full(N, np.nan, np.float32), y)
        np.testing.assert_array_equal(y, np.cumsum(x)[-1])

    def test_shuffles(self, x, y):
        toy.warp_total[1, N](x, y)
        np.testing.assert_allclose(y, np.repeat(x.reshape(2, 32).sum(axis=1), 32), rtol=1e-5)

    def test_barrier_of_a_warp(self, x, y):
        toy.through_the_warp[1, N](x, y)
        np.testing.assert_array_equal(y, x.reshape(-1, 2)[:, ::-1].ravel())

    def test_atomics(self, x):
        counter = np.zeros(1, np.int32)
        toy.count_positive[1, N](x, counter)
        assert counter[0] == (x > 0).sum()


def test_math_keeps_float32_and_overflows_to_infinity(y):
    x = np.linspace(-1000, 1000, N).astype(np.float32)
    toy.sigmoid[1, N](x, y)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, np.float32(1) / (np.float32(1) + np.exp(-x)))
    with pytest.raises(OverflowError):
        math.exp(1000.0)  # outside of kernels all is as before


@pytest.mark.parametrize("order", ORDERS)
def test_a_missing_barrier_is_a_race(order, x, y):
    with simulator.options(order=order, watch=True), pytest.raises((RaceError, UninitializedError)):
        toy.without_barrier[1, N](x, y)
    with simulator.options(order=order):  # and gives NaN where nothing is watched
        toy.without_barrier[1, N](x, y)
    assert np.isnan(y).any()


@pytest.mark.parametrize("order", ORDERS)
def test_a_buffer_that_is_reused_too_early_is_a_race(order, x, y):
    with simulator.options(order=order, watch=True), pytest.raises(RaceError, match="race on shared array of line"):
        toy.single_buffered[1, N](x, y)


@pytest.mark.usefixtures("watched")
class TestWrongMemory:
    def test_a_barrier_of_a_warp_does_not_order_two_warps(self, x, y):
        with pytest.raises((RaceError, UninitializedError)):
            toy.across_warps[1, N](x, y)

    def test_unwritten_shared_memory(self, y):
        with pytest.raises(UninitializedError, match=r"thread 0 of block \(0, 0, 0\) reads shared array .*\[0\]"):
            toy.unwritten_shared[1, N](y)

    def test_blocks_that_write_one_cell(self, y):
        with pytest.raises(RaceError, match=r"write-after-write race on y\[0\]"):
            toy.blocks_collide[2, N](y)

    def test_arrays_that_alias_are_one_memory(self, x):
        with pytest.raises(RaceError, match="write-after-read race on y"):
            toy.dynamic_reverse[2, N, 0, 4 * N](x, x)

    def test_index_before_the_array(self, y):
        with pytest.raises(IndexError, match=r"y\[-1\] lies before the array"):
            toy.before_the_array[1, N](y)


def test_unwritten_memory_is_nan_where_nothing_is_watched(y):
    toy.unwritten_shared[1, N](y)
    assert np.isnan(y[0])
    from numba import cuda

    assert np.isnan(cuda.device_array(3, np.float32).copy_to_host()).all()


def test_index_behind_the_array(x, watch):
    with simulator.options(watch=watch), pytest.raises(IndexError, match="out of bounds"):
        toy.neighbour_sum[1, N](x, np.zeros(N - 1, np.float32))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (toy.divergent_barrier, "divergent barrier: .* and 31 more wait"),
        (toy.skipped_barrier, "barrier that 32 threads never reach"),
    ],
)
def test_barriers_that_not_all_threads_share(kernel, message, order, y):
    with simulator.options(order=order), pytest.raises(SimulationError, match=message):
        kernel[1, N](y)


def test_lanes_in_different_operations(x, y):
    with pytest.raises(SimulationError, match="divergent warp operation"):
        toy.lanes_apart[1, 32](x, y)


def test_a_lane_that_takes_no_part(x, y):
    with pytest.raises(SimulationError, match="takes the value of lane 16, which takes no part"):
        toy.other_lane[1, 32](x, y)


def test_an_error_ends_the_launch_and_the_next_one_works(x, y):
    with pytest.raises(SimulationError):
        toy.skipped_barrier[1, N](y)
    toy.neighbour_sum[1, N](x, y)
    np.testing.assert_array_equal(y, x + np.roll(x, -1))
