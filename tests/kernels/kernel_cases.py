"""Small odd networks and windows that several kernel tests share."""

import numpy as np

from tsforecast.backends.base import StepRule, TrainState, Windows
from tsforecast.spec import NetworkSpec

QUANTILES = (0.1, 0.5, 0.9)
LOSSES = ("squared_error", "absolute_error", "huber", "quantile")
N_ROWS = 11

# How windows enter and leave: with a normalisation, a season that is shorter than the horizon of 4, a skip.
FRAMES = {
    "plain": {},
    "skip": {"linear_skip": True},
    "center": {"window_norm": "center"},
    "center_season_skip": {"window_norm": "center", "season_length": 3, "linear_skip": True},
    "standard": {"window_norm": "standard"},
    "standard_season_skip": {"window_norm": "standard", "season_length": 3, "linear_skip": True},
    "season": {"season_length": 3},
}


def network(loss="squared_error", hidden_sizes=(3, 2), **frame):
    """6 steps of 2 features, 4 outputs (3 quantiles of each for the quantile loss)."""
    return NetworkSpec(6, 2, hidden_sizes, 4, n_quantiles=3 if loss == "quantile" else 1, **frame)


def step_rule(loss="squared_error", **settings):
    """Plain gradient descent (with learning rate 1 the step is minus the gradient), unless told otherwise."""
    plain = {"solver": "sgd", "momentum": 0.0, "nesterov": False, "max_grad_norm": None, "delta": 0.4}
    quantiles = QUANTILES if loss == "quantile" else (0.5,)
    return StepRule(loss=loss, quantiles=quantiles, **(plain | settings))


def series_windows(rng, spec, dtype=np.float64):
    """Overlapping windows of one series with a trend and two features; targets continue feature 0."""
    n_steps = spec.n_timesteps + spec.n_outputs + N_ROWS - 1
    series = rng.normal(size=(n_steps, spec.n_features)) + np.linspace(2.0, 5.0, n_steps)[:, None]
    values = np.ascontiguousarray(series.ravel(), dtype=dtype)
    starts = np.arange(N_ROWS, dtype=np.int64) * spec.n_features
    return Windows(
        values=values,
        x_starts=starts,
        targets=values,
        y_starts=starts + spec.n_timesteps * spec.n_features,
        weights=rng.uniform(0.5, 2.0, N_ROWS).astype(dtype),
        y_stride=spec.n_features,
    )


def random_params(rng, spec):
    """Weights large enough that no gradient is negligible, biases included."""
    return rng.normal(scale=0.5, size=spec.n_params)


def one_step(backend, spec, rule, params, windows, rows=None, learning_rate=1.0):
    """One optimiser step on ``rows`` (all of them by default): the loss and the new state."""
    rows = np.arange(len(windows), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)
    state = TrainState(params.copy())
    loss = backend.train_epoch(spec, rule, state, windows, rows, len(rows), np.array([learning_rate]), 1)
    return loss, state


def step_gradient(backend, spec, rule, params, windows, rows=None):
    """Loss and gradient as ``train_epoch`` sees them, read off a plain step with learning rate 1."""
    loss, state = one_step(backend, spec, rule, params, windows, rows)
    return loss, params - state.params


def is_weight(spec):
    """Mark weights, not biases, in the flat vector."""
    flags = np.zeros(spec.n_params, dtype=bool)
    for block in spec.blocks:
        flags[block.offset : block.offset + block.size] = block.name.rpartition(".")[2].startswith("w")
    return flags
