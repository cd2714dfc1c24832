"""Peak memory of fitting a series of a million rows, over that of the imports.

    python scripts/bench_memory.py [--rows 1000000] [--steps 64] [--json FILE]

One epoch with windows of 64 steps, in a fresh process each: windows that are views of the series (``sliding_windows``),
``WindowRegressor`` on the rows, and ``Forecaster`` on a frame. Building the windows would take 64 numbers a row: 256 MB
of float32 and 512 MB of float64 for a million.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

CHILD = """
import resource, sys
import numpy as np, pandas as pd
import tsforecast
from tsforecast import Forecaster, LSTMRegressor, WindowRegressor, sliding_windows
from tsforecast.backends.base import get_backend
way, n, T = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
quick = dict(hidden_layer_sizes=8, batch_size=1024, max_iter=1, random_state=0)
X, y = sliding_windows(np.sin(np.arange(300) / 9), T)
LSTMRegressor(**quick).fit(X, y)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
series = np.sin(np.arange(n) / 9) + np.arange(n) / n
if way == "LSTMRegressor":
    LSTMRegressor(**quick).fit(*sliding_windows(series, T))
elif way == "WindowRegressor":
    WindowRegressor(LSTMRegressor(**quick), n_timesteps=T).fit(pd.DataFrame({"y": series}), series)
else:
    df = pd.DataFrame({"ds": pd.date_range("2000", periods=n, freq="min"), "y": series})
    Forecaster(LSTMRegressor(**quick), freq="min", horizon=1, n_timesteps=T).fit(df)
print(peak() - before)
"""
WAYS = ("LSTMRegressor", "WindowRegressor", "Forecaster")


def measure(way: str, n_rows: int, n_steps: int) -> float:
    """Peak memory in MB of one way, over that of the imports and a small fit."""
    command = [sys.executable, "-c", CHILD, way, str(n_rows), str(n_steps)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    figures = {way: measure(way, options.rows, options.steps) for way in WAYS}
    for way, megabytes in figures.items():
        print(f"{way:16} {megabytes:6.0f} MB")
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, "steps": options.steps, "MB": figures}, indent=1))


if __name__ == "__main__":
    main()
