"""The CUDA backend, run thread by thread: its numbers, its order of sums, and its barriers."""

import itertools

import numpy as np
import pytest
import simulator
from cuda_cases import REFERENCE, SOLVERS, Case, close, close_to_reference, epochs
from kernel_cases import FRAMES, LOSSES, one_step

from tsforecast.backends.auto import AutoBackend
from tsforecast.backends.base import TrainState, get_backend
from tsforecast.backends.cuda import tile
from tsforecast.backends.cuda.backend import CudaBackend
from tsforecast.exceptions import BackendUnavailableError, DivergedError

CUDA = get_backend("cuda")


@pytest.mark.parametrize(("frame", "loss"), [*zip(FRAMES, itertools.cycle(LOSSES), strict=False)])
def test_forecast_loss_and_gradient_equal_the_reference(frame, loss, rng):
    case = Case(rng, loss, **FRAMES[frame])
    close_to_reference(CUDA, case)


@pytest.mark.parametrize("hidden_sizes", [(1,), (16, 16), (17, 3, 33)], ids=str)
def test_any_width_equals_the_reference(hidden_sizes, rng):
    case = Case(rng, hidden_sizes=hidden_sizes, linear_skip=True)
    params, _ = case.of(CUDA)
    x, cotangent = rng.normal(size=(5, 6, 2)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    ours = CUDA.gradient(case.spec, params, x, cotangent)
    theirs = REFERENCE.gradient(case.spec, params.astype(float), x.astype(float), cotangent.astype(float))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b)
    assert ours[1].dtype == ours[2].dtype == np.float32


def test_one_block_that_takes_several_tiles(rng, monkeypatch):
    monkeypatch.setitem(tile.BLOCKS_PER_PROCESSOR, 16, 1)
    alone = CudaBackend(n_processors=1)
    case = Case(rng, settings={"solver": "adam", "max_grad_norm": 0.5}, **FRAMES["standard_season_skip"])
    losses, ours = epochs(alone, case)
    expected_losses, theirs = epochs(REFERENCE, case)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    close(ours.params, theirs.params, 1e-5)
    exact_params, exact = case.of(REFERENCE)
    close(
        alone.predict(case.spec, case.params, case.windows.values, case.windows.x_starts, 1),
        REFERENCE.predict(case.spec, exact_params, exact.values, exact.x_starts, 1),
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bounds", [{}, {"max_grad_norm": 0.5}, {"max_grad_norm": 0.5, "max_grad_value": 0.2}], ids=str)
def test_epochs_equal_the_reference(solver, bounds, rng):
    """A batch of two tiles, of which the second has one row, and a batch of one row."""
    case = Case(rng, settings=SOLVERS[solver] | bounds)
    losses, ours = epochs(CUDA, case)
    expected_losses, theirs = epochs(REFERENCE, case)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert ours.step == theirs.step == 4
    # RMSprop and Adam divide by the root of v: entries with a tiny gradient keep fewer digits.
    for a, b in ((ours.params, theirs.params), (ours.m, theirs.m), (ours.v, theirs.v)):
        close(a, b, 1e-4 if "v" in vars(ours) and theirs.v.any() else 1e-5)


def test_no_bit_depends_on_the_order_of_threads(rng):
    case = Case(rng, settings={"solver": "adam", "max_grad_norm": 0.5}, **FRAMES["standard_season_skip"])
    results = []
    for order in ("forward", "reverse", 1):
        with simulator.options(order=order):
            results.append(epochs(CUDA, case))
    for losses, state in results[1:]:
        assert losses == results[0][0]
        np.testing.assert_array_equal(state.params, results[0][1].params)
        np.testing.assert_array_equal(state.v, results[0][1].v)


@pytest.mark.parametrize("order", ["forward", 1])
def test_no_races(order, rng):
    case = Case(rng, "quantile", {"solver": "adam", "alpha": 0.1, "max_grad_norm": 0.5}, **FRAMES["center_season_skip"])
    plain = Case(rng, linear_skip=True)
    x, cotangent = rng.normal(size=(5, 6, 2)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    with simulator.options(order=order, watch=True):
        epochs(CUDA, case, n=1)
        CUDA.evaluate(case.spec, case.rule, case.params, case.windows, 1)
        CUDA.predict(case.spec, case.params, case.windows.values, case.windows.x_starts, 1)
        CUDA.gradient(plain.spec, plain.params, x, cotangent)


@pytest.mark.parametrize("rows", [slice(1, None), slice(1)], ids=["first", "last"])  # `epochs` goes backward
def test_a_batch_without_weight_is_passed_over(rows, rng):
    """Also where Adam still has a direction from the batch before."""
    case = Case(rng, settings={"solver": "adam"})
    case.windows.weights[rows] = 0
    losses, state = epochs(CUDA, case, n=1)
    assert state.step == 1
    case.exact_windows.weights[rows] = 0
    expected, reference = epochs(REFERENCE, case, n=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    close(state.params, reference.params, 1e-5)


def test_divergence_is_an_error(rng):
    case = Case(rng)
    case.windows.targets[case.windows.y_starts[4]] = np.float32(3e38)
    with pytest.raises(DivergedError, match="loss"):
        epochs(CUDA, case)


def test_saturated_gates_stay_finite(rng):
    case = Case(rng)
    case.params *= np.float32(1e4)
    params, windows = case.of(CUDA)
    ours = CUDA.predict(case.spec, params, windows.values, windows.x_starts, 1)
    exact_params, exact = case.of(REFERENCE)
    close(ours, REFERENCE.predict(case.spec, exact_params, exact.values, exact.x_starts, 1), 1e-5)


def test_one_step_on_one_row(rng):
    case = Case(rng)
    params, windows = case.of(CUDA)
    exact_params, exact = case.of(REFERENCE)
    loss, state = one_step(CUDA, case.spec, case.rule, params, windows, rows=[3])
    expected, reference = one_step(REFERENCE, case.spec, case.rule, exact_params, exact, rows=[3])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    close(state.params, reference.params)


class TestRefusals:
    def test_float64(self, rng):
        case = Case(rng)
        params, windows = case.of(REFERENCE)
        with pytest.raises(BackendUnavailableError, match="float32"):
            CUDA.predict(case.spec, params, windows.values, windows.x_starts, 1)

    def test_wide_layers(self, rng):
        case = Case(rng, hidden_sizes=(2000,))
        with pytest.raises(BackendUnavailableError, match=r"2000.*device='cpu'"):
            CUDA.predict(case.spec, case.params, case.windows.values, case.windows.x_starts, 1)


def test_float64_goes_to_the_processor_where_the_device_is_auto(rng):
    case = Case(rng)
    params, windows = case.of(REFERENCE)
    both = AutoBackend(CUDA, REFERENCE)
    np.testing.assert_array_equal(
        both.predict(case.spec, params, windows.values, windows.x_starts, 1),
        REFERENCE.predict(case.spec, params, windows.values, windows.x_starts, 1),
    )
    assert isinstance(get_backend("auto"), AutoBackend)


def test_truncated_gradients_are_refused_before_anything_changes(rng):
    case = Case(rng, settings={"bptt_steps": 5})
    state, order = TrainState(case.params.copy()), np.arange(len(case.windows), dtype=np.int64)
    with pytest.raises(BackendUnavailableError, match=r"not through 5 steps of them; use device='cpu'"):
        CUDA.train_epoch(case.spec, case.rule, state, case.windows, order, 6, np.array([0.1]), 1)
    np.testing.assert_array_equal(state.params, case.params)
