"""Measure forecasting in service: one window, one step of a stream, the first forecast of a process, a backtest.

    python scripts/bench_serving.py [--repeats 5] [--json FILE]

One window goes through ``model.predict``, one step through ``stream.push``, beside PyTorch where it is installed, in
turns and on one thread. First forecasts are those of fresh processes, beyond imports, by a model from a file: as it is
(NumPy), and by kernels with an empty and a warm cache. The backtest, without refits, is compared with ``update`` and
``predict`` at one cut-off after the other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tsforecast import Forecaster, LSTMRegressor, sliding_windows

STEPS, UNITS = 24, (32, 64)
CHILD = """
import sys, time, numpy as np, sklearn.utils, tsforecast
from tsforecast.backends import plain
model = tsforecast.load_model(sys.argv[1])
if sys.argv[2] == "kernels":
    plain.is_worth_it = lambda spec, n_windows, dtype: False
window = np.linspace(0, 1, {steps})[None]
began = time.perf_counter()
model.predict(window)
print(time.perf_counter() - began)
"""


def in_turns(calls: dict[str, Callable[[], object]], rounds: int, calls_a_round: int) -> dict[str, float]:
    """Median microseconds of each call over rounds, all contenders in each round."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(calls_a_round):
                call()
            found[name].append((time.perf_counter() - began) / calls_a_round * 1e6)
    return {name: statistics.median(times) for name, times in found.items()}


def torch_calls(units: int, window: np.ndarray) -> dict[str, dict[str, Callable[[], object]]]:
    """PyTorch's way through a window and through one step; nothing where it is not installed."""
    try:
        import torch
    except ImportError:
        return {"window": {}, "step": {}}
    torch.set_num_threads(1)
    lstm, head = torch.nn.LSTM(1, units, batch_first=True), torch.nn.Linear(units, 1)
    state = [None]

    @torch.inference_mode()
    def through_window():
        hidden, _ = lstm(torch.tensor(window, dtype=torch.float32)[:, :, None])
        return head(hidden[:, -1]).numpy()

    @torch.inference_mode()
    def through_step():
        hidden, state[0] = lstm(torch.full((1, 1, 1), 0.5), state[0])
        return head(hidden[:, -1]).item()

    return {"window": {"torch": through_window}, "step": {"torch": through_step}}


def serve(units: int, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of one window and of one step."""
    X, y = sliding_windows(np.sin(np.arange(300) / 9), STEPS)
    model = LSTMRegressor(units, max_iter=1, random_state=0).fit(X, y)
    stream, others = model.stream(), torch_calls(units, X[:1])
    model.predict(X)  # all windows at once: kernels from here on
    return {
        "window": in_turns({"ours": lambda: model.predict(X[:1]), **others["window"]}, rounds, 200),
        "step": in_turns({"ours": lambda: stream.push(0.5), **others["step"]}, rounds, 1000),
    }


def first_forecasts(repeats: int) -> dict[str, float]:
    """Seconds of the first forecast of a process, beyond imports."""
    X, y = sliding_windows(np.sin(np.arange(300) / 9), STEPS)
    found: dict[str, list[float]] = {"NumPy": [], "kernels, empty cache": [], "kernels, warm cache": []}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.tsf"
        LSTMRegressor(50, max_iter=1, random_state=0).fit(X, y).save(model)
        for i in range(repeats):
            env = {**os.environ, "TSFORECAST_CACHE_DIR": str(Path(folder) / f"cache{i}")}
            for name, times in found.items():
                way = "NumPy" if name == "NumPy" else "kernels"
                command = [sys.executable, "-c", CHILD.format(steps=STEPS), str(model), way]
                ran = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
                times.append(float(ran.stdout))
    return {name: statistics.median(times) for name, times in found.items()}


def backtests(n_series: int = 50, n_rows: int = 300, n_windows: int = 100) -> dict[str, float]:
    """Seconds of training, and of training with a backtest in one pass or cut-off by cut-off; same bits asserted."""
    t = np.arange(n_rows)
    frames = [
        pd.DataFrame({"unique_id": f"s{s:03}", "ds": t, "y": 9 + np.sin(t / (2 + s % 5)) + 0.01 * t})
        for s in range(n_series)
    ]
    df, first = pd.concat(frames), n_rows - n_windows
    network = LSTMRegressor(16, max_iter=1, random_state=0)
    make = {"horizon": 1, "freq": 1, "season_length": 7, "n_timesteps": 28, "calibrate": False}

    def fitted():
        return Forecaster(network, **make).fit(df[df.ds < first])

    def one_by_one():
        model, parts = fitted(), []
        for cutoff in range(first, n_rows):
            parts.append(model.predict())
            model.update(df[df.ds == cutoff])
        return parts

    def at_once():
        return Forecaster(network, **make).cross_validation(df, n_windows, step_size=1, refit=False)

    parts, found = one_by_one(), at_once()
    micros = in_turns({"training": fitted, "one pass": at_once, "one cut-off at a time": one_by_one}, 5, 1)
    forecasts = pd.concat(parts).sort_values(["unique_id", "ds"])["LSTMRegressor"]
    assert (forecasts.to_numpy() == found["LSTMRegressor"].to_numpy()).all()
    return {name: value / 1e6 for name, value in micros.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    figures: dict[str, dict] = {}
    for units in UNITS:
        for what, row in serve(units, options.repeats).items():
            figures[f"one {what}, {units} units, us"] = row
    figures["first forecast of a process, s"] = first_forecasts(options.repeats)
    figures["backtest of 50 series from 100 cut-offs, s"] = backtests()
    for what, row in figures.items():
        print(f"{what:45}" + "   ".join(f"{name} {value:.4g}" for name, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
