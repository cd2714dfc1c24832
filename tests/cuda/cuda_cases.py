"""Small networks and windows in two precisions, for tests of the CUDA backend wherever it runs."""

from dataclasses import replace

import numpy as np
from kernel_cases import network, random_params, series_windows, step_gradient, step_rule

from tsforecast.backends.base import TrainState, get_backend

REFERENCE = get_backend("reference")
N_ROWS = 6  # a tile of four rows, and half of one
SOLVERS = {
    "adam": {"solver": "adam", "alpha": 0.1},
    "adamw": {"solver": "adamw", "alpha": 0.1},
    "sgd": {"solver": "sgd", "momentum": 0.0, "nesterov": False, "alpha": 0.1},
    "momentum": {"solver": "sgd", "momentum": 0.8, "nesterov": False},
    "nesterov": {"solver": "sgd", "momentum": 0.8, "nesterov": True},
    "rmsprop": {"solver": "rmsprop", "beta_2": 0.9},
}


def close(ours, theirs, tolerance=3e-6):
    """Equal up to the rounding of float32, in units of the largest number."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


class Case:
    """A network with its weights and windows, in float32 for the GPU and the same numbers in float64."""

    def __init__(self, rng, loss="squared_error", settings=None, **frame):
        self.spec, self.rule = network(loss, **frame), step_rule(loss, **(settings or {}))
        self.params = random_params(rng, self.spec).astype(np.float32)
        all_windows = series_windows(rng, self.spec, np.float32)
        rows = {name: getattr(all_windows, name)[:N_ROWS] for name in ("x_starts", "y_starts", "weights")}
        self.windows = replace(all_windows, **rows)
        fields = {name: getattr(self.windows, name) for name in ("values", "targets", "weights")}
        self.exact_windows = replace(self.windows, **{name: a.astype(np.float64) for name, a in fields.items()})

    def of(self, backend):
        """Weights and windows in the type of the backend."""
        if backend is REFERENCE:
            return self.params.astype(float), self.exact_windows
        return self.params, self.windows


def close_to_reference(backend, case, tolerance=3e-6):
    """Forecasts, loss, and the loss and gradient of a step, as the reference has them."""
    found, expected = [], []
    for each, answers in ((backend, found), (REFERENCE, expected)):
        params, windows = case.of(each)
        answers.append(each.predict(case.spec, params, windows.values, windows.x_starts, 1))
        answers.append(each.evaluate(case.spec, case.rule, params, windows, 1))
        answers.extend(step_gradient(each, case.spec, case.rule, params, windows))
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, tolerance)


def epochs(backend, case, batch_size=5, n=2, rate=0.05):
    params, windows = case.of(backend)
    state, n_rows = TrainState(params.copy()), len(windows)
    order = np.arange(n_rows, dtype=np.int64)[::-1].copy()
    rates = np.full(-(-n_rows // batch_size), rate)
    losses = [backend.train_epoch(case.spec, case.rule, state, windows, order, batch_size, rates, 1) for _ in range(n)]
    return losses, state
