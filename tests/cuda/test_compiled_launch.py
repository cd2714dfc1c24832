"""What a launch does on the host, by numba-cuda's own code up to the driver's door."""

from unittest import mock

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="launching CUDA kernels needs the extra cuda: pip install tsforecast[cuda]")


def test_a_small_grid_is_launched_without_a_warning():
    import toy_kernels
    from numba.cuda import dispatcher

    from tsforecast.backends.cuda.launches import launch

    done = mock.Mock()
    with (
        mock.patch.object(dispatcher.driver, "_to_core_stream", side_effect=lambda stream: stream),
        mock.patch.object(dispatcher.CUDADispatcher, "call", autospec=True, side_effect=done),
    ):
        x = np.zeros(3, np.float32)
        launch(toy_kernels.neighbour_sum, (2, 1), 64, x, x)
    _, arguments, sizes = done.call_args.args
    assert arguments[0] is x
    assert (sizes.griddim, sizes.blockdim, sizes.sharedmem) == ((2, 1, 1), (64, 1, 1), 0)


def test_a_full_memory_is_told_from_other_errors_of_the_driver():
    from cuda.bindings.driver import CUresult
    from numba.cuda.cudadrv.driver import CudaAPIError

    from tsforecast.backends.cuda.memory import is_out_of_memory

    assert is_out_of_memory(CudaAPIError(CUresult.CUDA_ERROR_OUT_OF_MEMORY, "full"))
    assert not is_out_of_memory(CudaAPIError(CUresult.CUDA_ERROR_INVALID_VALUE, "wrong"))
