"""Kernels against the readable equations on networks drawn at random: steps of training, forecasts, all gradients."""

import numpy as np
import pytest
from random_networks import Case

from tsforecast.backends.base import TrainState, get_backend
from tsforecast.backends.cpu.jit import JIT_DISABLED

REFERENCE, CPU = get_backend("reference"), get_backend("cpu")
TOLERANCE = 1e-10  # of the largest number


def assert_close(found, expected, case):
    size = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * size, err_msg=f"{case.spec}\n{case.rule}")


def after_an_epoch(backend, case, batch_size, n_jobs):
    """Loss, weights and moments after one epoch in batches."""
    n = len(case.windows)
    state = TrainState(case.params.copy(), step=3, seed=11)
    rates = np.full(-(-n // batch_size), 0.01)
    order = np.arange(n, dtype=np.int64)[::-1].copy()
    loss = backend.train_epoch(case.spec, case.rule, state, case.windows, order, batch_size, rates, n_jobs)
    return np.array([loss]), state.params, state.m


def check(case):
    spec, windows = case.spec, case.windows
    n, n_jobs = len(windows), int(case.rng.integers(1, 4))
    batch_size = int(case.rng.integers(max(1, n // 4), n + 1))  # few steps: each makes more of what rounding leaves
    for found, expected in zip(
        after_an_epoch(CPU, case, batch_size, n_jobs), after_an_epoch(REFERENCE, case, batch_size, 1), strict=True
    ):
        assert_close(found, expected, case)
    found, expected = (b.evaluate(spec, case.rule, case.params, windows, n_jobs) for b in (CPU, REFERENCE))
    assert_close(found, expected, case)
    found, expected = (b.predict(spec, case.params, windows.values, windows.x_starts, n_jobs) for b in (CPU, REFERENCE))
    assert_close(found, expected, case)
    if spec.window_norm == "none" and not spec.season_length:
        x = windows.values[windows.x_starts[:, None] + np.arange(spec.row_size)]
        x = x if spec.n_future else x.reshape(len(windows), spec.n_timesteps, spec.n_features)
        cotangent = case.rng.normal(size=(len(windows), spec.head_size))
        for ours, theirs in zip(*(b.gradient(spec, case.params, x, cotangent) for b in (CPU, REFERENCE)), strict=True):
            assert_close(ours, theirs, case)


@pytest.mark.skipif(not JIT_DISABLED, reason="would compile nearly as many networks as there are")
@pytest.mark.parametrize("seed", range(60))
def test_any_network(seed):
    check(Case(seed, most_rows=5, most_steps=4))


# What decides which kernels are compiled: two sets that other tests compile, too. All else is drawn.
COMPILED = {
    "gru_noisy": {"cell": "gru", "attention": "none", "decoder": "dense", "n_future": 0, "dropout": 0.2},
    "lstm_decoder": {"cell": "lstm", "attention": "none", "decoder": "recurrent_attention", "n_future": 1,
                     "dropout": 0.0, "recurrent_dropout": 0.0, "zoneout": 0.0},
}  # fmt: skip


@pytest.mark.needs_jit
@pytest.mark.parametrize("name", COMPILED)
def test_any_sizes(name):
    for seed in range(40):
        check(Case(seed, most_rows=60, most_steps=9, **COMPILED[name]))
