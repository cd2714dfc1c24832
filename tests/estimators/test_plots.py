"""Pictures of traces, attributions and gradient health: what is drawn is what was computed."""

import sys

import numpy as np
import pytest

from tsforecast import DataError
from tsforecast.estimators.explanations import Attributions, Trace
from tsforecast.estimators.health import GradientHealth, LayerHealth

pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def trace(rng):
    """Two layers of an LSTM, 4 windows of 6 steps."""
    gates = {(i, name): rng.uniform(size=(4, 6, 3 - i)) for i in (0, 1) for name in "ifo"}
    return Trace({(i, name): rng.normal(size=(4, 6, 3 - i)) for i in (0, 1) for name in "hcg"} | gates)


@pytest.fixture
def attributions(rng):
    return rng.normal(size=(4, 6, 2)).view(Attributions)


def test_a_trace_as_heat_maps(trace):
    axes = trace.plot(window=2, layer=1)
    assert [axis.get_title(loc="left") for axis in axes] == ["h", "c", "g", "i", "f", "o"]
    for axis in axes:
        name = axis.get_title(loc="left")
        (image,) = axis.images
        np.testing.assert_array_equal(image.get_array(), trace[1, name][2].T)
        low, high = image.get_clim()
        assert (low, high) == (0.0, 1.0) if name in "ifo" else low == -high == -np.abs(trace[1, name][2]).max()
    assert [bool(axis.get_xlabel()) for axis in axes] == [False] * 4 + [True] * 2


def test_a_trace_of_one_unit_as_lines(trace):
    states, gates = trace.plot(window=3, unit=1)
    for axis, names in ((states, "hcg"), (gates, "ifo")):
        assert [line.get_label() for line in axis.lines] == list(names)
        for line in axis.lines:
            np.testing.assert_array_equal(line.get_ydata(), trace[0, line.get_label()][3, :, 1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"window": 4}, "window must be below 4, got 4"),
        ({"layer": 2}, r"layer must be one of \[0, 1\], got 2"),
        ({"unit": 3}, "unit must be below 3, got 3"),
    ],
    ids=str,
)
def test_what_a_trace_does_not_hold_is_named(trace, wrong, words):
    with pytest.raises(DataError, match=words):
        trace.plot(**wrong)


def test_attributions_as_a_heat_map_and_as_a_frame(attributions):
    axis = attributions.plot(1)
    (image,) = axis.images
    np.testing.assert_array_equal(image.get_array(), np.asarray(attributions)[1].T)
    assert image.get_clim() == (-np.abs(attributions[1]).max(), np.abs(attributions[1]).max())
    own = plt.subplots()[1]
    assert attributions.plot(None, ax=own) is own
    np.testing.assert_allclose(own.images[0].get_array(), np.abs(np.asarray(attributions)).mean(axis=0).T)
    frame = attributions.to_frame()
    assert list(frame) == ["window", "step", "feature", "value"]
    assert frame.value.tolist() == np.asarray(attributions).ravel().tolist()
    row = frame[(frame.window == 3) & (frame.step == 4) & (frame.feature == 1)]
    assert row.value.tolist() == [attributions[3, 4, 1]]


def test_a_part_of_attributions_is_an_array_only(attributions):
    assert float(attributions.sum()) == pytest.approx(float(np.asarray(attributions).sum()))
    with pytest.raises(DataError, match=r"of shape \(4, 6\)"):
        attributions.sum(axis=2).to_frame()
    with pytest.raises(DataError, match=r"of shape \(6, 2\)"):
        attributions[0].plot()


def test_health_on_a_logarithmic_axis():
    norms = np.array([0.0, 1e-3, 1.0])
    health = GradientHealth(
        (
            LayerHealth(0, "forward", norms, 0.0, 0.0, "vanishing"),
            LayerHealth(0, "reverse", norms[::-1] + 1, 1.0, 1.0, "healthy"),
        )
    )
    axis = health.plot()
    assert axis.get_yscale() == "log"
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [np.nan, 1e-3, 1.0])
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["layer 0: vanishing", "layer 0 reverse: healthy"]


def test_without_matplotlib(trace, attributions, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (trace.plot, attributions.plot):
        with pytest.raises(ImportError, match=r"tsforecast\[plot\]"):
            draw()
