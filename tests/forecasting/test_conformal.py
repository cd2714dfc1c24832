"""Intervals: the finite-sample rank, coverage on exchangeable data, and what is held out."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge

from tsforecast import Forecaster
from tsforecast.data.panel import Panel
from tsforecast.forecasting.conformal import _choose_origins, calibration_scores, half_widths
from tsforecast.forecasting.state import make_spec
from tsforecast.forecasting.training import Recipe


@pytest.mark.parametrize(
    ("n", "level", "rank"), [(19, 95, 19), (99, 95, 95), (100, 95, 96), (9, 80, 8), (4, 80, 4), (99, 99, 99)]
)
def test_rank(n, level, rank):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))[:, None]
    assert half_widths(scores, level).tolist() == [float(rank)]


def test_stretching_beyond_the_largest_score():
    """18 scores reach 94.7 %; 95 % lies a little above, 99 % at 2.576 / 1.938 of the largest."""
    scores = np.arange(1.0, 19.0)[:, None]
    assert half_widths(scores, 95)[0] == pytest.approx(18 * 1.959964 / 1.937932, rel=1e-5)
    assert half_widths(scores, 99)[0] == pytest.approx(18 * 2.575829 / 1.937932, rel=1e-5)
    widths = [half_widths(scores, level)[0] for level in np.linspace(1, 99.9, 200)]
    assert (np.diff(widths) >= 0).all()
    assert half_widths(np.ones((1, 2)), 99.9).tolist() == pytest.approx([4.8785] * 2, rel=1e-3)


def test_coverage_of_exchangeable_scores():
    """Over many draws of n scores the next one is covered with probability rank / (n + 1), exactly."""
    rng = np.random.default_rng(1)
    draws = np.abs(rng.standard_normal((4000, 25)))
    covered = [draw[-1] <= half_widths(draw[:-1, None], 80)[0] for draw in draws]
    assert np.mean(covered) == pytest.approx(20 / 25, abs=4 * np.sqrt(0.8 * 0.2 / 4000))


class LastSeason(RegressorMixin, BaseEstimator):
    """Forecasts the base (zeros), and remembers what it was trained on."""

    seen = ()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y):
        LastSeason.seen = (*LastSeason.seen, len(X))
        self.width_ = y.shape[1]
        return self

    def predict(self, X):
        return np.zeros((len(X), self.width_))


def recipe(season=4, horizon=3, steps=8):
    LastSeason.seen = ()
    return Recipe(make_spec(steps, horizon, season, "standard", True), False, lambda n: LastSeason())


def test_scores_are_errors_of_held_out_rows_in_the_series_own_unit():
    rng = np.random.default_rng(2)
    df = pd.DataFrame(
        {"unique_id": np.repeat(list("abcdefgh"), 60), "ds": np.tile(np.arange(60), 8), "y": rng.standard_normal(480)}
    )
    panel = Panel.from_frame(df)
    scores = calibration_scores(panel, recipe())
    origins = len(scores) // 8
    assert origins == 24  # the cap: twice a year
    drop = 3 + origins - 1
    assert LastSeason.seen == (8 * (60 - drop - 11 + 1),)  # windows of 8 + 3 that end before the held-out rows
    for s in (0, 7):
        y = panel.series(s)
        unit = np.abs(y[4:] - y[:-4]).mean()  # of the whole history: widths are multiplied with it
        for j in (0, 5):
            end = 60 - 3 - j
            expected = np.abs(y[end : end + 3] - y[end - 4 : end - 1]) / unit
            np.testing.assert_allclose(scores[s * origins + j], expected, rtol=1e-9)


def test_short_history_falls_back_on_the_seasonal_naive_errors():
    y = np.random.default_rng(3).standard_normal(16)
    scores = calibration_scores(Panel.from_frame(pd.DataFrame({"ds": np.arange(16), "y": y})), recipe())
    assert LastSeason.seen == ()
    unit = np.abs(y[4:] - y[:-4]).mean()
    expected = [np.abs(y[e : e + 3] - y[e - 4 : e - 1]) / unit for e in range(4, 14)]
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("lengths", "origins"),
    [([144], 24), ([60], 0), ([100] * 50, 4), ([100] * 500, 1), ([49] * 500, 0), ([5000], 24)],
)
def test_how_many_origins_are_held_out(lengths, origins):
    """Windows of 36 + 12: enough scores, but a third of the windows stays."""
    assert _choose_origins(np.array(lengths), 48, 12, 12, 36) == origins


def test_intervals_cover_new_data():
    """200 independent noisy series: the 80 % interval of a linear model covers the truth to within sampling error."""
    from tsforecast.forecasting.forecaster import Forecaster

    rng = np.random.default_rng(4)
    ids, t = np.repeat(np.arange(200), 52), np.tile(np.arange(52), 200)
    y = np.sin(2 * np.pi * t / 4) * (1 + ids % 3) + rng.standard_normal(len(t)) * (1 + ids % 5)
    df = pd.DataFrame({"unique_id": ids, "ds": t, "y": y})
    model = Forecaster(Ridge(), horizon=4, season_length=4).fit(df[df.ds < 48])
    out = df[df.ds >= 48].merge(model.predict(level=[80]), on=["unique_id", "ds"])
    inside = (out.y >= out["Ridge-lo-80"]) & (out.y <= out["Ridge-hi-80"])
    assert inside.mean() == pytest.approx(0.8, abs=0.05)


def test_series_that_just_began_do_not_widen_the_intervals_of_others():
    """Silent until the held-out rows, then large: in the unit of the silence their errors would be astronomical."""
    rng = np.random.default_rng(8)
    rows, ordinary = 120, 30
    y = 100 + 10 * rng.standard_normal((ordinary + 6, rows))
    y[ordinary:] = 0.0
    y[ordinary:, -6:] = 5000 + 100 * rng.standard_normal((6, 6))
    widths = {}
    for n in (ordinary, ordinary + 6):
        df = pd.DataFrame(
            {"unique_id": np.repeat(np.arange(n), rows), "ds": np.tile(np.arange(rows), n), "y": y[:n].ravel()}
        )
        model = Forecaster(Ridge(), horizon=3, season_length=1, n_timesteps=6).fit(df)
        out = model.predict(level=[80])
        widths[n] = (out["Ridge-hi-80"] - out["Ridge-lo-80"])[: 3 * ordinary].median()
    assert widths[ordinary + 6] < 3 * widths[ordinary]
