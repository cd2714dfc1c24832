"""Forecast competition sets from file to file with the default Forecaster; score them on their official splits.

    python scripts/benchmark_accuracy.py DATA [--sets hospital m3_monthly ...] [--seed 0] [--n-jobs 2] [--json FILE]

DATA is a folder with one folder a set (``data.csv.gz`` with columns unique_id, ds, y, split; ``meta.json`` with
pandas_freq and horizon) and the scorer ``score.py`` (``score(set, frame)`` gives a table of MASE and sMAPE by model).
Each set is written to a CSV file without its test part, forecast by ``tsforecast forecast`` in a process of its own,
read back and scored. The time is that of the whole process: start, reading, training, writing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

# Highest MASE that is accepted, and that of (seasonal) naive on the same split. Many variants of the recipe were
# compared on the first four sets; the last two, which have no bar, were scored once, when it was done.
BARS = {
    "m3_monthly": (0.92, 1.146),
    "m3_quarterly": (1.17, 1.425),
    "tourism_monthly": (1.50, 1.631),
    "hospital": (0.78, 0.921),
    "aus_retail": (None, 1.465),
    "m3_yearly": (None, 3.172),
}


def forecast(folder: Path, name: str, seed: int, n_jobs: int, work: Path) -> tuple[pd.DataFrame, float]:
    """Write the training part, run the command, read the forecasts; return them and the seconds it took."""
    meta = json.loads((folder / name / "meta.json").read_text())
    frame = pd.read_csv(folder / name / "data.csv.gz", dtype={"unique_id": str})
    train, out = work / f"{name}.csv", work / f"{name}-forecast.csv"
    frame.loc[frame["split"] == "train", ["unique_id", "ds", "y"]].to_csv(train, index=False)
    freq = meta["pandas_freq"] if isinstance(meta["pandas_freq"], str) else str(meta["pandas_freq"])
    command = [sys.executable, "-m", "tsforecast", "forecast", train, "--horizon", meta["horizon"], "--freq", freq]
    command += ["--seed", seed, "--n-jobs", n_jobs, "--quiet", "-o", out]
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True)
    seconds = time.perf_counter() - start
    forecasts = pd.read_csv(out, dtype={"unique_id": str})
    return forecasts[[c for c in forecasts.columns if "-lo-" not in c and "-hi-" not in c]], seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the sets and score.py")
    parser.add_argument("--sets", nargs="+", default=list(BARS), help="sets to forecast")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the table here, too")
    options = parser.parse_args()
    sys.path.insert(0, str(options.data.resolve()))
    from score import score

    rows = []
    print(f"{'set':<18}{'MASE':>8}{'bar':>8}{'seasonal naive':>16}{'sMAPE':>8}{'seconds':>9}")
    with tempfile.TemporaryDirectory() as work:
        for name in options.sets:
            forecasts, seconds = forecast(options.data, name, options.seed, options.n_jobs, Path(work))
            table = score(name, forecasts)[0].iloc[0]
            bar, naive = BARS.get(name, (None, None))
            row = {"set": name, "MASE": round(float(table["MASE"]), 4), "bar": bar, "seasonal_naive": naive}
            row |= {"sMAPE": round(float(table["sMAPE"]), 3), "seconds": round(seconds, 1), "seed": options.seed}
            rows.append(row)
            known = "".join(f"{'-' if x is None else format(x, '.3f'):>{n}}" for x, n in ((bar, 8), (naive, 16)))
            print(f"{name:<18}{row['MASE']:>8.3f}{known}{row['sMAPE']:>8.2f}{seconds:>9.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["bar"] is not None and row["MASE"] > row["bar"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
