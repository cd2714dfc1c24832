"""Memory of the device, as numba-cuda hands it out down to a driver that is played (``fake_driver``)."""

import gc
import re
from unittest import mock

import numpy as np
import pytest
from fake_driver import train, windows_of

from tsforecast import BackendUnavailableError, LSTMRegressor, fit_many
from tsforecast.backends.cuda import memory
from tsforecast.backends.cuda.launches import is_out_of_memory

pytest.importorskip("numba_cuda", reason="launching CUDA kernels needs the extra cuda: pip install tsforecast[cuda]")


def test_an_epoch_after_the_first_allocates_nothing(gpu):
    from tsforecast.backends.cuda.backend import CudaBackend

    for units in (16, 200):
        backend, windows = CudaBackend(), windows_of(100)
        train(units, backend=backend, windows=windows)
        pointers = set(gpu.allocated)
        with mock.patch.object(gpu, "cuMemAlloc", side_effect=AssertionError):
            train(units, backend=backend, windows=windows)
        assert set(gpu.allocated) == pointers


def test_nothing_stays_on_the_device(gpu, rng):
    X, y = rng.normal(size=(50, 12)), rng.normal(size=50)
    models = [LSTMRegressor(4, device="cuda", max_iter=1, random_state=0) for _ in range(2)]
    fit_many(models, [X, X], [y, y])
    models[0].fit(X, y).predict(X)
    gc.collect()
    gpu.context.memory_manager.deallocations.clear()
    assert gpu.used == 0


def test_windows_are_uploaded_once_and_told_apart(gpu):
    from tsforecast.backends.cuda.memory import Store

    store, first = Store(), windows_of(5)
    on_device, _ = store.windows(first)
    assert store.windows(first)[0] is on_device
    for n in range(6, 20):  # each may come to lie where the last one lay
        other = windows_of(n)
        np.testing.assert_array_equal(store.windows(other)[0].x_starts.copy_to_host(), other.x_starts)
    del first, other
    store.windows(windows_of(3))
    assert len(store._windows) == 1


def test_a_full_memory_is_told_from_other_errors():
    from cuda.bindings.driver import CUresult
    from cuda.core._utils.cuda_utils import CUDAError
    from numba.cuda.cudadrv.driver import CudaAPIError

    assert is_out_of_memory(CudaAPIError(CUresult.CUDA_ERROR_OUT_OF_MEMORY, "full"))
    assert is_out_of_memory(CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed because ..."))
    assert not is_out_of_memory(CudaAPIError(CUresult.CUDA_ERROR_INVALID_VALUE, "wrong"))
    assert not is_out_of_memory(CUDAError("CUDA_ERROR_INVALID_VALUE: after CUDA_ERROR_OUT_OF_MEMORY"))


def test_too_little_memory_to_load_or_start_a_kernel(gpu):
    from cuda.core._utils.cuda_utils import CUDAError

    gpu.at_launch = mock.Mock(side_effect=CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed because ..."))
    with pytest.raises(BackendUnavailableError, match="no memory left for the kernel train; free memory of the GPU"):
        train()
    gpu.at_launch = mock.Mock(side_effect=CUDAError("CUDA_ERROR_LAUNCH_FAILED: ..."))
    with pytest.raises(CUDAError, match="LAUNCH_FAILED"):
        train()


def test_tiles_take_what_memory_is_left(gpu, monkeypatch):
    monkeypatch.setattr(memory, "SPARE", 1 << 16)
    train(units=64, n=600, batch_size=512, n_timesteps=24)
    tiles, sizes = [], [600_000, *range(1 << 20, 30 << 20, 3 << 20)]
    for gpu.capacity in sizes:
        gc.collect()
        gpu.context.memory_manager.deallocations.clear()
        train(units=64, n=600, batch_size=512, n_timesteps=24)
        tiles.append(gpu.launches[-1].arguments["n_buffers"])
    assert (tiles[0], tiles[-1]) == (1, 128)
    assert tiles == sorted(tiles)
    gpu.capacity = 420_000
    with pytest.raises(BackendUnavailableError, match=r"tile of 4 windows needs 0.2 MiB .* left. No batch_size"):
        train(units=64, n=600, batch_size=512, n_timesteps=24)


@pytest.mark.parametrize("capacity", [24 << 20, 40 << 20, 70 << 20])
def test_a_batch_that_is_said_to_fit_fits(gpu, monkeypatch, capacity):
    monkeypatch.setattr(memory, "SPARE", 1 << 16)
    gpu.capacity = capacity
    with pytest.raises(BackendUnavailableError, match="batch of 512 windows needs") as caught:
        train(units=200, n=600, batch_size=512, n_timesteps=24)
    batch_size = int(re.search(r"batch_size=(\d+) would fit", str(caught.value))[1])
    del caught  # whose frames hold what the first try had allocated
    gc.collect()
    train(units=200, n=600, batch_size=batch_size, n_timesteps=24)
    assert gpu.launches[-1].arguments["batch_rows"][1] == batch_size


def test_too_little_memory_leaves_model_and_weights(gpu, rng, monkeypatch):
    monkeypatch.setattr(memory, "SPARE", 1 << 16)
    X, y = rng.normal(size=(200, 12)), rng.normal(size=200)
    model = LSTMRegressor(8, max_iter=1, device="cuda", random_state=0).fit(X, y)
    expected = model.set_params(device="reference").predict(X)
    gpu.capacity = 100_000
    with pytest.raises(BackendUnavailableError, match=r"MiB left.* model is as it was"):
        model.set_params(device="cuda", hidden_layer_sizes=128).fit(X, y)
    np.testing.assert_array_equal(model.set_params(device="reference").predict(X), expected)
    with pytest.raises(BackendUnavailableError, match="MiB left"):
        fit_many([LSTMRegressor(128, device="cuda")], [X], [y])
