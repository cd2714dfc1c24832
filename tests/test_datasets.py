"""The shipped data: known figures of each set, and what happens when a file is damaged."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsforecast import DataError, datasets

ROOT = Path(__file__).parent.parent


def test_air_passengers_is_series_g():
    frame = datasets.load_air_passengers()
    assert list(frame.columns) == ["unique_id", "ds", "y"]
    assert frame["y"].sum() == 40363
    assert (frame["y"].iloc[0], frame["y"].iloc[-1]) == (112, 432)
    assert (frame["ds"].iloc[0], frame["ds"].iloc[-1]) == (pd.Timestamp("1949-01-01"), pd.Timestamp("1960-12-01"))


def test_uk_seatbelts_has_its_covariates_and_the_law_of_1983():
    frame = datasets.load_uk_seatbelts()
    assert list(frame.columns) == ["unique_id", "ds", "y", "kms", "petrol_price", "law"]
    assert frame.loc[frame["law"] == 1, "ds"].min() == pd.Timestamp("1983-02-01")
    assert frame["law"].sum() == 23
    assert frame["y"].sum() == 320699


def test_sunspots_peak_in_1957():
    frame = datasets.load_sunspots_yearly()
    assert frame.loc[frame["y"].idxmax(), ["ds", "y"]].tolist() == [pd.Timestamp("1957-01-01"), 190.2]


def test_electricity_has_every_hour_of_three_years():
    frame = datasets.load_electricity_hourly_mean()
    np.testing.assert_array_equal(frame["ds"], pd.date_range("2012-01-01", "2014-12-31 23:00", freq="h"))
    assert frame["y"].mean() == pytest.approx(2538.7916, abs=1e-4)


def test_petroleum_series_are_weekly_on_fridays():
    frame = datasets.load_eia_petroleum_weekly()
    for _, series in frame.groupby("unique_id"):
        np.testing.assert_array_equal(series["ds"], pd.date_range("2000-06-02", "2020-02-07", freq="W-FRI"))
    assert frame.groupby("unique_id")["y"].max()["refinery_utilization"] == 98.1


def test_tourism_split_is_the_official_one():
    train, test = datasets.load_tourism_monthly("train"), datasets.load_tourism_monthly("test")
    assert (len(train), len(test)) == (100496, 8784)
    assert (test.groupby("unique_id").size() == 24).all()
    assert train["unique_id"].nunique() == 366
    last, first = train.groupby("unique_id")["ds"].max(), test.groupby("unique_id")["ds"].min()
    assert (first == last + 1).all()
    both = datasets.load_tourism_monthly()
    assert list(both.columns) == ["unique_id", "ds", "y"]
    assert both["y"].sum() == pytest.approx(train["y"].sum() + test["y"].sum(), rel=1e-12)


@pytest.mark.parametrize("name", datasets.list_datasets())
def test_every_set_is_tidy_and_as_its_manifest_says(name):
    frame, entry = datasets.load(name), datasets.info(name)
    assert (len(frame), frame["unique_id"].nunique()) == (entry.rows, entry.series)
    assert frame["y"].dtype == np.float64
    assert np.isfinite(frame.drop(columns=["unique_id", "ds"])).all(axis=None)
    assert not frame.duplicated(["unique_id", "ds"]).any()
    for _, ds in frame.groupby("unique_id")["ds"]:
        if isinstance(entry.freq, str):
            np.testing.assert_array_equal(ds, pd.date_range(ds.iloc[0], periods=len(ds), freq=entry.freq))
        else:
            assert (ds.diff().dropna() == entry.freq).all()
    pd.testing.assert_frame_equal(getattr(datasets, f"load_{name}")(), frame)


def test_readme_and_notice_cover_every_file():
    readme, notice = (ROOT / "datasets" / "README.md").read_text(), (ROOT / "NOTICE").read_text()
    manifest = json.loads((ROOT / "datasets" / "manifest.json").read_text())
    shipped = {path.name for path in (ROOT / "datasets").glob("*.csv*")}
    assert shipped == {entry["file"] for entry in manifest.values()}
    for name, entry in manifest.items():
        digest = hashlib.sha256((ROOT / "datasets" / entry["file"]).read_bytes()).hexdigest()
        assert digest == entry["sha256"]
        assert f"| `{entry['file']}` | `{digest}` |" in readme
        assert f"\n{name}\n" in notice


def test_unknown_names_and_splits_are_named():
    with pytest.raises(DataError, match="no data set 'air_pasengers'; there are: air_passengers, "):
        datasets.load("air_pasengers")
    with pytest.raises(DataError, match="'air_passengers' has no official split"):
        datasets.load("air_passengers", "train")
    with pytest.raises(DataError, match="split='val'"):
        datasets.load_tourism_monthly("val")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    folder = shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    monkeypatch.setattr(datasets, "_FOLDERS", (folder,))
    datasets._manifest.cache_clear()
    yield folder
    datasets._manifest.cache_clear()


def test_one_flipped_bit_is_found(copied):
    file = copied / "tourism_monthly.csv.gz"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DataError, match=r"tourism_monthly\.csv\.gz is damaged.*reinstall"):
        datasets.load_tourism_monthly()
    assert len(datasets.load_air_passengers()) == 144


def test_missing_files_are_named(copied):
    (copied / "sunspots_yearly.csv").unlink()
    with pytest.raises(DataError, match=r"cannot read .*sunspots_yearly\.csv.*reinstall"):
        datasets.load_sunspots_yearly()
    (copied / "manifest.json").unlink()
    datasets._manifest.cache_clear()
    with pytest.raises(DataError, match="data sets are missing"):
        datasets.list_datasets()
