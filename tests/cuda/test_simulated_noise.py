"""Dropout in the simulator: the masks of the reference, and training under them."""

from dataclasses import replace

import numpy as np
import pytest
import simulator
from cuda_cases import REFERENCE, Case, close, epochs

from tsforecast import LSTMRegressor, fit_many
from tsforecast.backends.base import TrainState, get_backend
from tsforecast.backends.cuda import noise, plan
from tsforecast.backends.cuda.backend import CudaBackend
from tsforecast.backends.reference.noise import Noise
from tsforecast.spec import NetworkSpec

CUDA = get_backend("cuda")
NETWORKS = {
    "one_layer": {"hidden_sizes": (5,)},
    "stack": {"hidden_sizes": (3, 2, 4), "cell": "gru", "window_norm": "standard"},
    "concat": {"bidirectional": "concat", "linear_skip": True},
    "residual_sum": {"residual": True, "bidirectional": "sum", "hidden_sizes": (3, 3)},
}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (7, 3), (2**64 + 5, 12345), (-1, 2**40)])
def test_masks_are_those_of_the_reference(seed, step, rate):
    spec = NetworkSpec(3, 1, (4, 2), 1, bidirectional="sum", dropout=rate)
    table = plan.make_plan(spec, plan.TRAINING).table
    key = noise.step_keys(noise.words([seed]), np.array([step + 1]))[0]
    for i, run in enumerate(spec.topology.runs):
        expected = Noise(spec, seed, step, 6).dropout(i)
        layer = plan.N_NET + i * plan.N_LAYER
        with np.errstate(over="ignore"):
            places = np.ndindex(3, 6, run.units)
            found = [noise.dropout_factor(table, layer, key, row, t, unit) for t, row, unit in places]
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=2e-7)


def trained(backend, case, seed=11, step=4):
    """Losses and state after two epochs of two batches each, the second with fewer rows than the first."""
    params, windows = case.of(backend)
    state = TrainState(params.copy(), step=step, seed=seed)
    order, rates = np.arange(len(windows), dtype=np.int64)[::-1].copy(), np.full(2, 0.05)
    losses = [backend.train_epoch(case.spec, case.rule, state, windows, order, 5, rates, 1) for _ in range(2)]
    return losses, state


@pytest.mark.parametrize("name", NETWORKS)
def test_epochs_equal_the_reference(name, rng):
    case = Case(rng, settings={"alpha": 0.1}, dropout=0.4, **NETWORKS[name])
    (losses, ours), (expected, theirs) = trained(CUDA, case), trained(REFERENCE, case)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    close(ours.params, theirs.params, 1e-5)
    assert not np.array_equal(trained(CUDA, case, seed=12)[1].params, ours.params), "another seed, other masks"


def test_forecasts_scores_and_gradients_have_no_noise(rng):
    case = Case(rng, dropout=0.4, bidirectional="concat")
    plain, windows = replace(case.spec, dropout=0.0), case.windows
    x = rng.normal(size=(3, 6, 2)).astype(np.float32)
    cotangent = rng.normal(size=(3, 4)).astype(np.float32)
    for ask in (
        lambda spec: CUDA.predict(spec, case.params, windows.values, windows.x_starts, 1),
        lambda spec: CUDA.evaluate(spec, case.rule, case.params, windows, 1),
        lambda spec: np.concatenate([a.ravel() for a in CUDA.gradient(spec, case.params, x, cotangent)]),
    ):
        np.testing.assert_array_equal(ask(case.spec), ask(plain))


def test_a_rate_that_draws_nobody_changes_no_bit(rng):
    """Of one in ``2**32`` words, the least rate that is not none: the kernels for noise, and no unit drawn."""
    case = Case(rng)
    losses, state = epochs(CUDA, case, n=1)
    case.spec = replace(case.spec, dropout=3e-10)
    assert plan.make_plan(case.spec, plan.TRAINING).table[plan.LIMIT] == 1
    few_losses, few = epochs(CUDA, case, n=1)
    assert few_losses == losses
    np.testing.assert_array_equal(few.params, state.params)


def test_no_races_and_the_same_bits_in_any_order_of_threads(rng):
    case = Case(rng, dropout=0.4, hidden_sizes=(2, 2))
    case.spec = replace(case.spec, n_timesteps=3)
    results = []
    for watch, order in ((True, "forward"), (False, 7)):
        with simulator.options(order=order, watch=watch):
            results.append(trained(CUDA, case))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1].params, results[1][1].params)


@pytest.mark.parametrize("network", [{}, {"bidirectional": "concat"}], ids=str)
def test_wide_layers_equal_the_reference(network, rng, monkeypatch):
    monkeypatch.setattr(plan, "WIDEST_OF_A_BLOCK", 0)
    plan.make_plan.cache_clear()
    case = Case(rng, dropout=0.4, hidden_sizes=(3, 3), **network)
    case.spec = replace(case.spec, n_timesteps=2)
    losses, ours = trained(CudaBackend(n_processors=1), case)
    plan.make_plan.cache_clear()
    expected, theirs = trained(REFERENCE, case)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    close(ours.params, theirs.params, 1e-5)


def test_fits_and_fleets_follow_the_reference(rng):
    X, y = rng.normal(size=(20, 6)), rng.normal(size=20)

    def models(device, n):
        options = {"dropout": 0.3, "batch_size": 8, "max_iter": 2, "early_stopping": True, "device": device}
        return [LSTMRegressor((3, 2), random_state=i, **options) for i in range(n)]

    exact = models("reference", 3)
    for model in exact:
        model.fit(X, y)
    (alone,), many = models("cuda", 1), models("cuda", 3)
    alone.fit(X, y)
    fit_many(many, [X] * 3, [y] * 3)
    for ours, theirs in zip([alone, *many], [exact[0], *exact], strict=True):
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-4)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-4)
