"""What calls of the backend do on the host, by numba-cuda's own code down to the driver's door (``fake_driver``)."""

import gc
import importlib
import itertools
import re
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import offline
import pytest
from fake_driver import PROCESSORS, machine

from tsforecast import BackendUnavailableError, LSTMRegressor, fit_many
from tsforecast.backends.base import StepRule, TrainState, Windows
from tsforecast.backends.cuda import availability, launches, memory
from tsforecast.backends.cuda.launches import is_out_of_memory
from tsforecast.spec import NetworkSpec

pytest.importorskip("numba_cuda", reason="launching CUDA kernels needs the extra cuda: pip install tsforecast[cuda]")


@pytest.fixture
def gpu(monkeypatch):
    """A device with 80 GiB, seen by the whole package."""
    found = availability.Gpu("NVIDIA H100", (9, 0), 80 << 30, (13, 1))
    monkeypatch.setattr(availability, "find_gpu", lambda: found)
    with machine() as there:
        yield there


def windows_of(n, n_timesteps=6):
    series, starts = np.zeros(n + n_timesteps, np.float32), np.arange(n, dtype=np.int64)
    return Windows(series, starts, series, starts + n_timesteps, np.ones(n, np.float32))


def train(units=16, n=100, batch_size=32, n_timesteps=6, backend=None, windows=None):
    """An epoch."""
    from tsforecast.backends.cuda.backend import CudaBackend

    spec = NetworkSpec(n_timesteps, 1, (units,), 1)
    state, windows = TrainState(np.arange(spec.n_params, dtype=np.float32)), windows or windows_of(n, n_timesteps)
    (backend or CudaBackend()).train_epoch(
        spec, StepRule(), state, windows, np.arange(n), batch_size, np.ones(-(-n // batch_size)), 1
    )


@pytest.mark.parametrize("units", [24, 200])
def test_every_kernel_of_a_models_life_is_compiled_for_one_list_of_types(gpu, rng, units, tmp_path):
    X, y = rng.normal(size=(203, 12)), rng.normal(size=(203, 2))
    settings = {"device": "cuda", "max_iter": 2, "random_state": 0, "window_norm": "standard", "batch_size": 32}
    model = LSTMRegressor(units, **settings).fit(X, y)
    model.predict(X[:1])
    model.set_params(warm_start=True).fit(X[:101], y[:101], sample_weight=rng.uniform(size=101))
    model.set_params(early_stopping=True, warm_start=False, loss="quantile").fit(X, y)
    frozen = X.copy()
    frozen.flags.writeable = False
    np.save(tmp_path / "X.npy", X)
    for rows in (frozen, np.load(tmp_path / "X.npy", mmap_mode="r"), np.asfortranarray(X), X.astype(np.float32)):
        model.set_params(early_stopping=False).partial_fit(rows, y).predict(rows)
    kernels = {"train_wide", "infer_wide", "measure"} if units > 128 else {"train", "infer", "measure"}
    assert {kernel.__name__ for kernel in gpu.compiled} == kernels
    assert [len(types) for types in gpu.compiled.values()] == [1] * len(kernels)


def test_every_kernel_of_a_fleet_is_compiled_for_one_list_of_types(gpu, rng):
    rows = [rng.normal(size=(n, 12)) for n in (40, 41, 77)]
    targets = [x[:, -1] for x in rows]
    for more in ({}, {"early_stopping": True}, {"dropout": 0.2}):
        models = [LSTMRegressor(8, device="cuda", max_iter=2, random_state=i, **more) for i in range(3)]
        fit_many(models, rows, targets)
        assert all(model.n_iter_ == 2 for model in models)
    names = [kernel.__name__ for kernel in gpu.compiled]
    # With dropout the network is no chain, and its kernels are others.
    assert sorted(names) == ["find_non_finite", "infer", "train", "train", "turn"]
    assert [len(types) for types in gpu.compiled.values()] == [1] * len(names)
    assert {launch.config.grid for launch in gpu.launches if launch.name == "train"} == {(3, 1, 1)}


def test_sizes_of_launches(gpu):
    train(batch_size=4)
    train(batch_size=100)
    train(batch_size=1000, n=1000)
    train(units=130, batch_size=100)
    grids = [launch.config.grid for launch in gpu.launches]
    # 25 tiles, each with two parts of the weights' gradient; more tiles than processors; wide layers.
    assert grids == [(1, 1, 1), (50, 1, 1), (PROCESSORS, 1, 1), (2 * PROCESSORS, 1, 1)]
    assert [launch.config.block for launch in gpu.launches] == [(64, 1, 1)] * 3 + [(256, 1, 1)]


def test_an_epoch_of_many_launches(gpu, monkeypatch):
    monkeypatch.setattr(launches, "LAUNCH_SECONDS", 2e-4)
    train(batch_size=7)
    parts = [launch.arguments for launch in gpu.launches]
    assert len(parts) > 2
    assert sum(int(part["ends"][0]) for part in parts) == 15
    np.testing.assert_array_equal(np.concatenate([part["batch_rows"] for part in parts])[::2], np.arange(0, 100, 7))
    for part, after in itertools.pairwise(parts):  # each writes its losses behind those of the one before
        assert len(part["losses"]) - len(after["losses"]) == part["ends"][0]
    assert len(parts[-1]["losses"]) >= parts[-1]["ends"][0]
    assert [len(types) for types in gpu.compiled.values()] == [1]


def test_threads_train_at_once(gpu, rng):
    X, y = rng.normal(size=(60, 12)), rng.normal(size=60)

    def fit(seed):
        return LSTMRegressor(4, device="cuda", max_iter=3, random_state=seed).fit(X, y).predict(X)

    alone = [fit(seed) for seed in range(8)]
    launched = len(gpu.launches)
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(fit, range(8))), alone)
    assert len(gpu.launches) == 2 * launched
    assert [len(types) for types in gpu.compiled.values()] == [1, 1]


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


def test_a_small_grid_is_launched_without_a_warning(gpu):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(batch_size=4)
    assert caught == []


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


@pytest.mark.parametrize("n_models", [1, 3])
def test_an_interrupted_launch_costs_its_epoch(gpu, rng, n_models):
    X, y = rng.normal(size=(60, 12)), rng.normal(size=60)
    models = [LSTMRegressor(4, device="cuda", max_iter=5, random_state=i) for i in range(n_models)]
    launched = []

    def interrupt_the_third(name):
        launched.append(name)
        if name == "train" and launched.count("train") == 3:
            raise KeyboardInterrupt

    gpu.at_launch = interrupt_the_third
    with pytest.raises(KeyboardInterrupt):
        models[0].fit(X, y) if n_models == 1 else fit_many(models, [X] * 3, [y] * 3)
    gpu.at_launch = lambda name: None
    assert [model.n_iter_ for model in models] == [2] * n_models
    assert np.isfinite(models[-1].predict(X)).all()


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


@pytest.fixture
def jobs(monkeypatch):
    """``scripts/gpu_jobs.py``, what is measured on a GPU without PyTorch."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    return importlib.import_module("gpu_jobs")


@pytest.mark.parametrize("units", [16, 200])
def test_each_kernel_is_launched_under_the_tools(gpu, jobs, units):
    jobs.one_of_each(units)
    kernels = Counter(kernel.__name__.removesuffix("_wide") for kernel in gpu.compiled)
    # For a network that is a chain and one that is none; narrow ones train in one block and in several.
    assert kernels == {"train": 4 if units == 16 else 2, "infer": 2, "differentiate": 2}
    assert max(np.prod(launch.config.grid) for launch in gpu.launches) <= 8


def test_kernels_that_measure_launches_compile(jobs):
    with offline.recording() as launches:
        row = jobs.launch_cost(3)
    assert set(row) == {"blocks", "launch_us", "grid_barrier_us", "counted_barrier_us"}
    assert {launch.name for launch in launches} == {"empty", "barriers", "counted_barriers"}
    for launch in {launch.name: launch for launch in launches}.values():
        used = offline.compile_kernel(launch.kernel, launch.argtypes)
        assert used.cooperative == (launch.name != "empty")
        assert used.blocks_per_processor(launch.n_threads, "sm_90") >= 1


def test_calls_that_are_timed_by_the_first(gpu, jobs):
    assert jobs.first_calls(16, 3)["units"] == 16
    assert [len(types) for types in gpu.compiled.values()] == [1]
