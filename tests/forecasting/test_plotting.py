"""The picture: what is drawn, and that its file is whole."""

import sys

import numpy as np
import pytest
from series import seasonal_frame
from sklearn.linear_model import Ridge

from tsforecast import DataError, Forecaster
from tsforecast.forecasting import plotting

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are saved."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def savefig(self, *args, **kwargs):
        figures.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def test_lines_and_shades(tmp_path, drawn):
    df = seasonal_frame(n_series=1)
    out = Forecaster(Ridge(), horizon=6).fit(df).predict(level=[80, 95])
    plotting.plot_forecast(df, out, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (axis,) = drawn[0].axes
    past, ahead = axis.lines
    assert past.get_ydata().tolist() == df["y"].tail(48).tolist()
    assert ahead.get_ydata().tolist() == [df["y"].iloc[-1], *out["Ridge"]]
    wide, narrow = (collection.get_paths()[0].get_extents() for collection in axis.collections)
    assert wide.height > narrow.height
    assert wide.ymax == pytest.approx(out["Ridge-hi-95"].max())
    assert [t.get_text() for t in axis.get_legend().get_texts()] == [
        "observed",
        "Ridge",
        "80 % interval",
        "95 % interval",
    ]


def test_the_first_series_of_many(tmp_path, drawn):
    df = seasonal_frame(n_series=9)
    out = Forecaster(Ridge(), horizon=6).fit(df).predict()
    plotting.plot_forecast(df, out, tmp_path / "f.svg", max_series=3)
    assert [a.get_title(loc="left") for a in drawn[0].axes if a.get_visible()] == ["s0", "s1", "s2"]


def test_one_series_without_ids(tmp_path):
    df = seasonal_frame(n_series=1).drop(columns="unique_id").assign(ds=np.arange(60))
    out = Forecaster(Ridge(), horizon=6, season_length=12).fit(df).predict(level=[50])
    plotting.plot_forecast(df, out, tmp_path / "f.pdf")
    assert (tmp_path / "f.pdf").read_bytes()[:4] == b"%PDF"


def test_wrong_name_and_missing_matplotlib(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"\.png, \.svg, \.pdf"):
        plotting.check_plot(tmp_path / "f.bmp")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"tsforecast\[plot\]"):
        plotting.check_plot(tmp_path / "f.png")
