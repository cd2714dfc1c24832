"""Layers that all blocks work on together: their numbers and barriers, at sizes that a simulator can take."""

from types import SimpleNamespace

import numpy as np
import pytest
import simulator
from cuda_cases import REFERENCE, Case, close, epochs
from numba import cuda

from tsforecast.backends.base import TrainState
from tsforecast.backends.cuda import cells, plan, wide_gradient
from tsforecast.backends.cuda.backend import CudaBackend
from tsforecast.backends.members import Member
from tsforecast.exceptions import BackendUnavailableError


@pytest.fixture
def backend(monkeypatch):
    """One multiprocessor, two blocks; every network counts as wide, whatever its size, and its sums come in parts."""
    monkeypatch.setattr(plan, "WIDEST_OF_A_BLOCK", 0)
    monkeypatch.setattr(wide_gradient, "LEAST_ROWS", 16)
    plan.make_plan.cache_clear()
    yield CudaBackend(n_processors=1)
    plan.make_plan.cache_clear()


@pytest.mark.parametrize("cell", cells.CELLS)
def test_gradients_equal_the_reference(cell, backend, rng, monkeypatch):
    if cell == "gru":
        monkeypatch.setattr(wide_gradient, "LEAST_ROWS", 100)  # in one part
    hidden_sizes = (36, 5) if cell in ("lstm", "gru") else (18,)  # two tiles of units, and a part of one
    case = Case(rng, hidden_sizes=hidden_sizes, linear_skip=True, cell=cell)
    spec = case.spec
    x = rng.normal(size=(5, spec.n_timesteps, spec.n_features)).astype(np.float32)
    cotangent = rng.normal(size=(5, spec.head_size)).astype(np.float32)
    ours = backend.gradient(spec, case.params, x, cotangent)
    theirs = REFERENCE.gradient(spec, case.params.astype(float), x.astype(float), cotangent.astype(float))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b)


@pytest.mark.parametrize(("units", "n_rows", "parts"), [(1024, 43008, 1), (256, 43008, 12), (256, 70, 2), (256, 9, 1)])
def test_parts_of_a_sum_follow_from_the_sizes(units, n_rows, parts):
    assert wide_gradient.count_parts(units, units, 1, n_rows)[1] == parts


def test_training_equals_the_reference_and_has_no_races(backend, rng):
    frame = {"window_norm": "standard", "linear_skip": True, "cell": "lstm_peephole"}
    case = Case(rng, "squared_error", {"solver": "sgd", "alpha": 0.1}, **frame)
    with simulator.options(order=5, watch=True):
        losses, state = epochs(backend, case, n=1)
        score = backend.evaluate(case.spec, case.rule, state.params, case.windows, 1)
        forecasts = backend.predict(case.spec, state.params, case.windows.values, case.windows.x_starts, 1)
    exact_losses, exact = epochs(REFERENCE, case, n=1)
    close(losses, exact_losses)
    close(state.params, exact.params)
    close(score, REFERENCE.evaluate(case.spec, case.rule, exact.params, case.exact_windows, 1))
    exact_values = case.exact_windows.values
    close(forecasts, REFERENCE.predict(case.spec, exact.params, exact_values, case.exact_windows.x_starts, 1))


def test_too_large_a_batch_names_one_that_fits_and_leaves_the_model(backend, rng, monkeypatch):
    case = Case(rng)
    layout = plan.make_plan(case.spec, plan.TRAINING, 8)
    device_array = cuda.device_array

    def small_device(shape, *args, **kwargs):
        if np.prod(shape) == layout.n_work:
            raise MemoryError
        return device_array(shape, *args, **kwargs)

    free = SimpleNamespace(free=4 * layout.n_work * 6 // 8)
    monkeypatch.setattr(cuda, "device_array", small_device)
    monkeypatch.setattr(cuda, "current_context", lambda: SimpleNamespace(get_memory_info=lambda: free))
    before = case.params.copy()
    with pytest.raises(BackendUnavailableError, match=r"a batch of 6 windows needs .* batch_size=4 would fit"):
        epochs(backend, case, batch_size=6)
    np.testing.assert_array_equal(case.params, before)


def test_fleets_of_wide_networks_are_refused(backend, rng):
    case = Case(rng)
    member = Member(TrainState(case.params), case.windows, None, 4, 0.1, np.ones((1, 2)), None, 0, 0.0, 1)
    with pytest.raises(BackendUnavailableError, match="one by one"):
        backend.train_fleet(case.spec, case.rule, [member], 1)
