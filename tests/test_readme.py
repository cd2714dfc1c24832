"""The README's programs run as they stand, and do what the text around them says."""

import re
from pathlib import Path

import numpy as np
import pytest

import tsforecast
from tsforecast._arguments import EPILOG

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def run(block, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_there_is_one_program_for_each_way_in_and_for_what_a_fitted_network_tells():
    assert len(BLOCKS) == 6
    assert all(len(block.strip().splitlines()) <= 16 for block in BLOCKS)


@pytest.mark.needs_jit
def test_the_estimator_beats_yesterday(tmp_path, monkeypatch):
    names = run(BLOCKS[0], tmp_path, monkeypatch)
    assert names["error"] < 0.95 * names["error_of_yesterday"]


@pytest.mark.needs_jit
def test_the_grid_search_beats_the_day_before(tmp_path, monkeypatch):
    names = run(BLOCKS[1], tmp_path, monkeypatch)
    # Rows of the folds of TimeSeriesSplit(4), each forecast by the row 24 hours before it.
    y, splits = names["frame"]["y"], names["search"].cv.split(names["frame"])
    naive = [y.diff(24).abs().iloc[test].mean() for _, test in splits]
    assert -names["search"].best_score_ < sum(naive) / len(naive)


@pytest.mark.needs_jit
def test_the_forecaster_beats_seasonal_naive(tmp_path, monkeypatch, capsys):
    names = run(BLOCKS[2], tmp_path, monkeypatch)
    table = names["metrics"].mase(names["past"], ["LSTMRegressor"], seasonality=12, train_df=names["frame"][:-36])
    assert table["LSTMRegressor"].item() < 1.175, "seasonal naive on the same three years"
    assert [c for c in names["forecast"] if "-" in c] == [
        f"LSTMRegressor-{s}-{p}" for p in (80, 95) for s in ("lo", "hi")
    ]


def test_exit_codes_are_those_of_the_command():
    documented = re.search(r"^Exit codes: (.*?)\. Errors derive", README, re.DOTALL | re.MULTILINE)[1]
    codes = [entry.split()[0] for entry in documented.replace("\n", " ").split("; ")]
    assert codes == re.findall(r"^  (\d+) ", EPILOG, re.MULTILINE)


def test_files_that_the_text_names_exist():
    root = Path(__file__).parent.parent
    named = re.findall(r"(?:bash |`)((?:scripts|datasets|backends)/[\w./]*\w)", README)
    assert named
    for name in named:
        assert (root / name).exists() or (root / "tsforecast" / name).exists(), name


@pytest.mark.needs_jit
def test_streams_and_explanations_do_what_they_say(tmp_path, monkeypatch):
    names = run(BLOCKS[4] + BLOCKS[5], tmp_path, monkeypatch)
    assert names["forecast"] == names["model"].predict(names["X"][:1])[0]
    assert names["gates"][0, "f"].shape == (5, 32, 16)
    assert names["slopes"].shape == names["shares"].shape == (5, 32, 1)
    mean_window = np.broadcast_to(names["model"]._x_mean, (1, 32, 1))
    difference = names["model"].predict(names["X"][:5]) - names["model"].predict(mean_window)
    np.testing.assert_allclose(names["shares"].sum(axis=(1, 2)), difference, rtol=0, atol=1e-5)
    assert str(names["health"]).startswith("layer 0: healthy, first step / last step ")
    for name in ("gates", "slopes", "shares", "health"):
        assert callable(names[name].plot)
        assert len(names[name].to_frame()) > 0


@pytest.mark.needs_jit
def test_many_networks_are_those_trained_alone(tmp_path, monkeypatch):
    names = run(BLOCKS[3], tmp_path, monkeypatch)
    alone = tsforecast.LSTMRegressor(8, max_iter=30, random_state=3).fit(names["X"][3], names["y"][3])
    np.testing.assert_array_equal(names["estimators"][3]._params, alone._params)
