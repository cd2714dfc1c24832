"""Small made-up panels with known structure."""

import numpy as np
import pandas as pd


def seasonal_frame(n_series=3, rows=60, season=12, noise=0.02, seed=0, growth=0.01, start="2015-01-01", freq="MS"):
    """Positive monthly series: level, growth, a season of their own and a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    parts = []
    for s in range(n_series):
        shape = np.sin(2 * np.pi * (t + 3 * s) / season) + 0.5 * np.cos(4 * np.pi * t / season)
        y = 100 * (s + 1) * np.exp(growth * t + 0.2 * shape + noise * rng.standard_normal(rows))
        parts.append(pd.DataFrame({"unique_id": f"s{s}", "ds": pd.date_range(start, periods=rows, freq=freq), "y": y}))
    return pd.concat(parts, ignore_index=True)
