"""Small kernels with and without their barriers, for the tests of the test tools."""

import math

from numba import cuda, float32

N = 64
TWO_BUFFERS = 2 * N  # a shape has to be a plain number


@cuda.jit
def neighbour_sum(x, y):
    # y[i] = sum over a block of x[i] + x[i + 1], through shared memory
    cell = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    cell[i] = x[cuda.grid(1)]
    cuda.syncthreads()
    y[cuda.grid(1)] = cell[i] + cell[(i + 1) % N]


@cuda.jit
def without_barrier(x, y):
    cell = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    cell[i] = x[i]
    y[i] = cell[i] + cell[(i + 1) % N]


@cuda.jit
def single_buffered(x, y):
    # The second write may overtake the first reads: one barrier a round is not enough with one buffer.
    cell = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    for _ in range(2):
        cell[i] = x[i]
        cuda.syncthreads()
        y[i] = cell[(i + 1) % N]


@cuda.jit
def double_buffered(x, y):
    cell = cuda.shared.array(TWO_BUFFERS, float32)
    i = cuda.threadIdx.x
    for k in range(4):
        cell[k % 2 * N + i] = x[i] + float32(k)
        cuda.syncthreads()
        y[i] = cell[k % 2 * N + (i + 1) % N]


@cuda.jit
def divergent_barrier(x):
    if cuda.threadIdx.x < N // 2:
        x[cuda.threadIdx.x] = float32(1)
        cuda.syncthreads()
    else:
        cuda.syncthreads()


@cuda.jit
def skipped_barrier(x):
    if cuda.threadIdx.x < N // 2:
        cuda.syncthreads()
    x[cuda.threadIdx.x] = float32(1)


@cuda.jit
def unwritten_shared(y):
    cell = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    if i > 0:
        cell[i] = float32(i)
    cuda.syncthreads()
    y[i] = cell[i]


@cuda.jit
def blocks_collide(y):
    y[cuda.threadIdx.x] = float32(cuda.blockIdx.x)


@cuda.jit
def before_the_array(y):
    y[cuda.threadIdx.x - 1] = float32(1)


@cuda.jit
def grid_total(x, partial, y):
    # total over all blocks, twice through the grid's barrier
    i = cuda.grid(1)
    partial[i] = x[i]
    cuda.cg.this_grid().sync()
    total = float32(0)
    for j in range(x.size):
        total += partial[j]
    cuda.cg.this_grid().sync()
    y[i] = total
    partial[i] = total


@cuda.jit
def warp_total(x, y):
    i = cuda.threadIdx.x
    value = x[i]
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_xor_sync(0xFFFFFFFF, value, step)
    y[i] = value


@cuda.jit
def other_lane(x, y):
    # Only half of the warp takes part, and asks for a lane of the other half.
    i = cuda.threadIdx.x
    if i < 16:
        y[i] = cuda.shfl_sync(0xFFFF, x[i], i + 16)


@cuda.jit
def lanes_apart(x, y):
    i = cuda.threadIdx.x
    if i % 2 == 0:
        cuda.syncwarp()
        y[i] = cuda.shfl_xor_sync(0xFFFFFFFF, x[i], 1)
    else:
        y[i] = cuda.shfl_xor_sync(0xFFFFFFFF, x[i], 1)
        cuda.syncwarp()


@cuda.jit
def through_the_warp(x, y):
    # Two warps; each exchanges through shared memory with a barrier of the warp alone.
    cell = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    cell[i] = x[i]
    cuda.syncwarp()
    y[i] = cell[i ^ 1]


@cuda.jit
def across_warps(x, y):
    cell = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    cell[i] = x[i]
    cuda.syncwarp()
    y[i] = cell[i ^ 32]


@cuda.jit
def count_positive(x, counter):
    if x[cuda.threadIdx.x] > 0:
        cuda.atomic.add(counter, 0, 1)


@cuda.jit
def sigmoid(x, y):
    i = cuda.threadIdx.x
    y[i] = float32(1) / (float32(1) + math.exp(-x[i]))


@cuda.jit
def dynamic_reverse(x, y):
    cell = cuda.shared.array(0, float32)
    i = cuda.threadIdx.x
    cell[i] = x[i]
    cuda.syncthreads()
    y[i] = cell[N - 1 - i]


@cuda.jit
def in_float64(x, y):
    i = cuda.threadIdx.x
    y[i] = x[i] * 0.1


@cuda.jit
def local_array(x, y, n):
    # An array whose index is not known while compiling lies in memory, not in registers.
    cells = cuda.local.array(128, float32)
    i = cuda.threadIdx.x
    for k in range(128):
        cells[k] = x[i * k]
    y[i] = cells[n + i]


@cuda.jit(launch_bounds=(N, 1))
def within_bounds(x, y):
    y[cuda.threadIdx.x] = x[cuda.threadIdx.x]


def _sum_of_sums(x, y):
    # All values are in use from the first line to the last.
    i = cuda.threadIdx.x
    cells = cuda.local.array(96, float32)
    for k in range(96):
        cells[k] = x[i + k * N]
    cuda.syncthreads()
    for k in range(96):
        y[i + k * N] = cells[k] * cells[95 - k]


many_values = cuda.jit(_sum_of_sums)
many_values_in_few_registers = cuda.jit(max_registers=32)(_sum_of_sums)
