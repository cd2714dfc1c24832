"""A monthly series with a trend and a season."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def series():
    t = np.arange(120)
    values = 50 + 0.2 * t + 8 * np.sin(2 * np.pi * t / 12) + np.random.default_rng(2).normal(size=120)
    return pd.Series(values, index=pd.period_range("2014-01", periods=120, freq="M"), name="y")
