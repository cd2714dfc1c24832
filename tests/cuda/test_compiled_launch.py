"""What calls of the backend do on the host, by numba-cuda's own code down to the driver's door (``fake_driver``)."""

import importlib
import itertools
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import offline
import pytest
from fake_driver import PROCESSORS, train

from tsforecast import LSTMRegressor, fit_many
from tsforecast.backends.cuda import launches

pytest.importorskip("numba_cuda", reason="launching CUDA kernels needs the extra cuda: pip install tsforecast[cuda]")


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


def test_a_small_grid_is_launched_without_a_warning(gpu):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(batch_size=4)
    assert caught == []


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
