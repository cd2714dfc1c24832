"""Kernels compile to machine code without a GPU, and what is read of it is true."""

import numpy as np
import offline
import pytest
import toy_kernels as toy

pytest.importorskip("numba_cuda", reason="compiling CUDA kernels needs the extra cuda: pip install tsforecast[cuda]")


def two_arrays():
    from numba import float32

    return float32[::1], float32[::1]


@pytest.mark.parametrize("target", offline.TARGETS)
def test_a_kernel_is_compiled_for_each_architecture(target):
    used = offline.compile_kernel(toy.neighbour_sum, two_arrays(), target)
    assert f".target {target}" in used.ptx
    assert used.registers > 4
    assert used.shared_bytes % 1024 == 4 * toy.N  # the assembler may reserve one KiB of its own
    assert used.stack_bytes == used.spill_bytes == 0
    assert not offline.FLOAT64.search(used.ptx)


def test_float64_is_seen():
    assert offline.FLOAT64.search(offline.compile_kernel(toy.in_float64, two_arrays()).ptx)


def test_a_local_array_in_memory_is_seen():
    from numba import int32

    assert offline.compile_kernel(toy.local_array, (*two_arrays(), int32)).stack_bytes >= 512


def test_spilled_registers_are_seen():
    used = offline.compile_kernel(toy.many_values, two_arrays())
    assert used.spill_bytes == 0
    assert used.registers > 64
    assert offline.compile_kernel(toy.many_values_in_few_registers, two_arrays()).spill_bytes > 0


def test_launch_bounds_reach_the_assembler():
    assert f".maxntid {toy.N}" in offline.compile_kernel(toy.within_bounds, two_arrays()).ptx


def test_the_barrier_of_a_grid_is_linked():
    used = offline.compile_kernel(toy.grid_total, (*two_arrays(), two_arrays()[0]))
    assert used.registers > 4


def test_launches_of_host_code_are_recorded_with_their_types():
    from numba import cuda, float32

    with offline.recording() as launches:
        x = cuda.to_device(np.zeros(2 * toy.N, np.float32))
        toy.dynamic_reverse[2, (toy.N,), cuda.stream(), 4 * toy.N](x, cuda.device_array(toy.N, np.float32))
    (launch,) = launches
    assert launch.argtypes == (float32[::1], float32[::1])
    assert (launch.name, launch.grid, launch.block, launch.shared_bytes) == ("dynamic_reverse", (2,), (64,), 256)
    assert offline.compile_kernel(launch.kernel, launch.argtypes).spill_bytes == 0
