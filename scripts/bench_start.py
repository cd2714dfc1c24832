"""Measure what a user waits for at the start: imports, the first fit with an empty kernel cache, and with a warm one.

    python scripts/bench_start.py [--repeats 3] [--json FILE]

Every figure is that of a fresh process. The fit is ``LSTMRegressor().fit(X, y)`` on 200 windows of 24 steps; then
``predict``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import time
start = time.perf_counter()
import numpy as np
import sklearn.base
from tsforecast import LSTMRegressor
from tsforecast.backends.base import get_backend
get_backend("cpu")
imported = time.perf_counter()
X = np.sin(np.arange(223) / 4.0)[np.arange(200)[:, None] + np.arange(24)]
y = np.sin(np.arange(24, 224) / 4.0)
model = LSTMRegressor(random_state=0).fit(X, y)
fitted = time.perf_counter()
model.predict(X)
predicted = time.perf_counter()
model = LSTMRegressor(random_state=0).fit(X, y)
again = time.perf_counter()
print(imported - start, fitted - imported, predicted - fitted, again - predicted)
"""
ROWS = ("imports", "first fit", "first predict", "second fit")


def measure(cache: Path, script: Path) -> list[float]:
    """Seconds of each row of ``ROWS`` in one process."""
    env = {**os.environ, "TSFORECAST_CACHE_DIR": str(cache)}
    out = subprocess.run([sys.executable, str(script)], env=env, check=True, capture_output=True, text=True).stdout
    return [float(x) for x in out.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the medians here, too")
    options = parser.parse_args()
    cold, warm = [], []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "child.py"
        script.write_text(CHILD)
        for i in range(options.repeats):
            cache = Path(folder) / f"cache{i}"
            cold.append(measure(cache, script))
            warm.append(measure(cache, script))
    medians = {
        state: {row: statistics.median(run[k] for run in runs) for k, row in enumerate(ROWS)}
        for state, runs in (("cold", cold), ("warm", warm))
    }
    print(f"{'seconds, median of ' + str(options.repeats):<28}{'cold cache':>12}{'warm cache':>12}")
    for row in ROWS:
        print(f"{row:<28}{medians['cold'][row]:>12.2f}{medians['warm'][row]:>12.2f}")
    if options.json:
        options.json.write_text(json.dumps(medians, indent=1) + "\n")


if __name__ == "__main__":
    main()
