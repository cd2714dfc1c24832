"""Learn tasks whose answer is known, and print how well and how fast.

    python scripts/known_tasks.py            seed 0
    python scripts/known_tasks.py --seeds 5  seeds 0 to 4

Every task is learned from one set of windows and scored on others, which are drawn anew. Seconds are those of ``fit``,
after the kernels have been compiled.

- adding: 200 steps of a random number and a marker; the answer is the sum of the two marked numbers, one in each half
  (Hochreiter, Schmidhuber 1997; Le et al. 2015). Scored by the mean squared error; that of answering 1 is 1/6. The
  plain recurrent network learns nothing at the rate that suits the LSTM; at a tenth of it, it begins to in 20 epochs.
- copy: 20 random signs, then 50 steps of zeros; the answers are all 20 signs at once. There are a million such windows,
  so nearly none is seen twice. Scored by the windows with a wrong sign.
- Mackey-Glass: the chaotic series of delay 17, one value every 6 units of time, the next one from the last 20
  (Mackey, Glass 1977). Scored by the root of the mean squared error over the standard deviation of the series; the best
  linear forecast of it has 0.29, the last value 0.82.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, sliding_windows
from tsforecast.estimators.base import RecurrentRegressor

STEPS, SIGNS, DELAY, LAGS = 200, 20, 50, 20
SETTINGS = {"batch_size": 32, "learning_rate_init": 1e-2, "tol": 0.0, "n_iter_no_change": 100}


def adding_windows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows ``[n, 200, 2]`` of numbers from 0 to 1 and markers, and the sums ``[n]`` of the marked numbers."""
    rng, row = np.random.default_rng(seed), np.arange(n)
    X = np.zeros((n, STEPS, 2))
    X[:, :, 0] = rng.random((n, STEPS))
    first, second = rng.integers(0, STEPS // 2, n), rng.integers(STEPS // 2, STEPS, n)
    X[row, first, 1] = X[row, second, 1] = 1.0
    return X, X[row, first, 0] + X[row, second, 0]


def copy_windows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows ``[n, 70]``, signs and then zeros, and the signs ``[n, 20]``."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(n, SIGNS))
    return np.hstack([signs, np.zeros((n, DELAY))]), signs


def mackey_glass(n: int, every: int = 6, delay: int = 17, seed: int = 0) -> np.ndarray:
    """``[n]`` values of dx/dt = 0.2 x(t - delay) / (1 + x(t - delay)^10) - 0.1 x(t), by Runge-Kutta in steps of 0.1.

    The value half a step on in the delayed series is the mean of its neighbours; the first 300 units are left out.
    """
    step, lag = 0.1, 10 * delay
    x = [*(1.2 + 0.1 * np.random.default_rng(seed).uniform(-1, 1, lag + 1)).tolist()]

    def slope(now: float, past: float) -> float:
        return 0.2 * past / (1.0 + past**10) - 0.1 * now

    for i in range(10 * (every * n + 300)):
        now, past, next_past = x[-1], x[i], x[i + 1]
        halfway = (past + next_past) / 2
        a = slope(now, past)
        b = slope(now + step / 2 * a, halfway)
        c = slope(now + step / 2 * b, halfway)
        d = slope(now + step * c, next_past)
        x.append(now + step / 6 * (a + 2 * b + 2 * c + d))
    return np.array(x[-10 * every * n :: 10 * every])


def _fit(make, X, y, seed: int) -> tuple[RecurrentRegressor, float]:
    """Train a new model, after a compilation that is not timed; the model and its seconds."""
    make(0).set_params(max_iter=1).fit(X[:2], y[:2])
    began = time.perf_counter()
    model = make(seed).fit(X, y)
    return model, time.perf_counter() - began


def adding(make, seed: int = 0) -> tuple[float, float]:
    """Mean squared error on 2,000 new windows, and seconds."""
    model, seconds = _fit(make, *adding_windows(10_000, 2 * seed), seed)
    X, y = adding_windows(2_000, 2 * seed + 1)
    return float(np.mean((model.predict(X) - y) ** 2)), seconds


def copying(make, seed: int = 0) -> tuple[float, float]:
    """Share of 2,000 new windows of which any sign is wrong, and seconds."""
    model, seconds = _fit(make, *copy_windows(10_000, 2 * seed), seed)
    X, y = copy_windows(2_000, 2 * seed + 1)
    return float(np.mean((model.predict(X) * y <= 0).any(axis=1))), seconds


def chaos(make, seed: int = 0) -> tuple[float, float]:
    """Error on the last quarter of 4,000 values in units of their deviation, and seconds."""
    X, y = sliding_windows(mackey_glass(4_000, seed=seed), LAGS)
    n = 3 * len(y) // 4
    model, seconds = _fit(make, X[:n], y[:n], seed)
    X_test, y_test = X[n + LAGS :], y[n + LAGS :]  # no value of these was trained on
    return float(np.sqrt(np.mean((model.predict(X_test) - y_test) ** 2)) / y_test.std()), seconds


def lstm_for_adding(seed: int) -> LSTMRegressor:
    return LSTMRegressor(32, bias_init="chrono", random_state=seed, max_iter=4, **SETTINGS)


def rnn_for_adding(seed: int) -> RNNRegressor:
    return RNNRegressor(32, random_state=seed, max_iter=4, **SETTINGS)


def gru_for_copying(seed: int) -> GRURegressor:
    return GRURegressor(64, bias_init="chrono", learning_rate="cosine", random_state=seed, max_iter=10, **SETTINGS)


def lstm_for_chaos(seed: int) -> LSTMRegressor:
    return LSTMRegressor(32, learning_rate="cosine", random_state=seed, max_iter=60, **SETTINGS)


TASKS = {
    "adding, LSTM": (adding, lstm_for_adding),
    "adding, plain recurrent network": (adding, rnn_for_adding),
    "copy, GRU": (copying, gru_for_copying),
    "Mackey-Glass, LSTM": (chaos, lstm_for_chaos),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 on")
    n_seeds = parser.parse_args().seeds
    for name, (task, make) in TASKS.items():
        found = [task(make, seed) for seed in range(n_seeds)]
        errors, seconds = " ".join(f"{error:.4f}" for error, _ in found), max(s for _, s in found)
        print(f"{name:32s} error {errors}   {seconds:.1f} s")


if __name__ == "__main__":
    main()
