"""Forecast single short series, each by a default Forecaster of its own, beside seasonal naive.

    python scripts/benchmark_single.py [--months 48 72 120] [--seed 0]

Every seventh series of the shipped tourism set that is long enough, the first 45 of them: the 12 months at its end are
forecast from the given number of months before them. MASE is in units of the seasonal naive error in those months.
The lengths of windows and training for little data (``forecasting/defaults.py``) were chosen by these very figures.
"""

import argparse

import numpy as np
import pandas as pd

from tsforecast import Forecaster, datasets

HORIZON, SEASON, SERIES = 12, 12, 45


def mase(y: np.ndarray, seed: int) -> tuple[float, float]:
    """MASE of the Forecaster and of seasonal naive on the last ``HORIZON`` values of ``y``."""
    train, test = y[:-HORIZON], y[-HORIZON:]
    frame = pd.DataFrame({"ds": pd.date_range("2000", periods=len(train), freq="MS"), "y": train})
    model = Forecaster(horizon=HORIZON, freq="MS", random_state=seed, calibrate=False).fit(frame)
    scale = np.abs(train[SEASON:] - train[:-SEASON]).mean()
    forecasts = model.predict()["LSTMRegressor"].to_numpy(), train[-SEASON:]
    ours, naive = (float(np.abs(forecast - test).mean() / scale) for forecast in forecasts)
    return ours, naive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, nargs="+", default=[48, 72, 120])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    groups = [g["y"].to_numpy() for _, g in datasets.load_tourism_monthly().groupby("unique_id", sort=False)][::7]
    print(f"{'months':>6}{'series':>8}{'MASE':>8}{'seasonal naive':>16}{'worse than it':>15}")
    for months in options.months:
        tails = [y[-(months + HORIZON) :] for y in groups if len(y) >= months + HORIZON][:SERIES]
        scores = np.array([mase(y, options.seed) for y in tails])
        worse = (scores[:, 0] > scores[:, 1]).mean()
        print(f"{months:>6}{len(tails):>8}{scores[:, 0].mean():>8.3f}{scores[:, 1].mean():>16.3f}{worse:>15.0%}")


if __name__ == "__main__":
    main()
