"""An index that carries time keeps windows in order: what counts as the next row, as a gap, as rows of the past."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, TimeSeriesSplit, cross_val_score

from tsforecast import DataError, WindowRegressor


@pytest.fixture
def table(rng):
    """60 days of a target and one more column."""
    return pd.DataFrame(rng.normal(size=(60, 2)), columns=["y", "x"], index=pd.date_range("2024", periods=60))


INDEXES = {
    "days": pd.date_range("2024-01-01", periods=60),
    "months": pd.date_range("2020-01-31", periods=60, freq="ME"),
    "business days": pd.bdate_range("2024-01-01", periods=60),
    "periods": pd.period_range("2020-01", periods=60, freq="M"),
    "numbers": pd.Index(np.arange(100, 220, 2)),
    "irregular": pd.DatetimeIndex(pd.Timestamp("2024") + pd.to_timedelta(np.arange(60) ** 2, unit="h")),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_carries_time_is_checked(table, name):
    table = table.set_axis(INDEXES[name])
    model = WindowRegressor(LinearRegression(), 3).fit(table[:40], table["y"][:40])
    assert len(model.predict(table[40:])) == 20
    with pytest.raises(DataError, match=r"start at .*, but the training rows end at .*: their history is not stored"):
        model.predict(table[:40])
    with pytest.raises(DataError, match="history is not stored"):
        model.predict(table[20:50])
    if name != "irregular":
        with pytest.raises(DataError, match="rows are missing between"):
            model.predict(table[42:])


def test_shuffled_doubled_and_gapped_rows_are_refused(table):
    model = WindowRegressor(LinearRegression(), 3)
    with pytest.raises(DataError, match=r"not in time order: 2024-02-28 .* comes after 2024-02-29"):
        model.fit(table[::-1], table["y"][::-1])
    doubled = pd.concat([table[:30], table[29:]])
    with pytest.raises(DataError, match="2024-01-30 00:00:00 twice"):
        model.fit(doubled, doubled["y"])
    with pytest.raises(DataError, match="history is not stored"):
        cross_val_score(model, table, table["y"], cv=KFold(5), error_score="raise")
    with pytest.raises(DataError, match=r"TimeSeriesSplit: gap=0"):
        cross_val_score(model, table, table["y"], cv=TimeSeriesSplit(3, gap=2), error_score="raise")


def days(n, start="2024-10-01", **kwargs):
    return pd.date_range(start, periods=n, tz="Europe/Berlin", **kwargs)


# Summer time ends in Berlin on 2024-10-27 and begins on 2024-03-31. Index, and numbers of training rows to try.
ACROSS_CLOCK_CHANGES = {
    "days, shorter": (days(40), range(3, 38)),
    "days, longer": (days(40, "2024-03-10"), range(3, 38)),
    "weeks": (days(40, "2024-01-01", freq="W-WED"), range(3, 38)),
    "weekdays": (days(60, "2024-10-01", freq="B"), range(6, 58)),
    "months": (days(30, "2023-01-01", freq="MS"), range(3, 28)),
    "15th of each month": (
        pd.DatetimeIndex([f"2024-{m:02}-15" for m in range(1, 13)], tz="Europe/Berlin"),
        range(3, 10),
    ),
    "half days": (
        days(80, freq="12h").tz_localize(None).floor("12h").drop_duplicates().tz_localize("Europe/Berlin"),
        range(3, 70),
    ),
    "hours": (days(60, "2024-10-26", freq="h"), range(3, 58)),
    "hours, longer": (days(60, "2024-03-30", freq="h"), range(3, 58)),
    "days of UTC": (pd.date_range("2024-10-01", periods=40, tz="UTC").tz_convert("Europe/Berlin"), range(3, 38)),
}


# Training rows that end where their first distances no longer hold, and the row after them.
SHORT = {
    "leap year": (pd.DatetimeIndex(["2021-01-01", "2022-01-01", "2023-01-01", "2024-01-01"]), "2025-01-01"),
    "friday": (pd.bdate_range("2024-01-02", periods=4), "2024-01-08"),
    "opening hours": (days(24, "2024-10-23 09:00", freq="bh"), "2024-10-28 09:00"),
    "change day": (days(27), "2024-10-28"),
}


@pytest.mark.parametrize("name", SHORT)
def test_the_row_after_a_short_training_set_is_found(rng, name):
    index, following = SHORT[name]
    table = pd.DataFrame({"y": rng.normal(size=len(index))}, index=index)
    model = WindowRegressor(LinearRegression(), 1).fit(table, table["y"])
    stamp = pd.DatetimeIndex([following], tz=index.tz)
    assert len(model.predict(table[:1].set_axis(stamp))) == 1
    with pytest.raises(DataError, match="rows are missing between"):
        model.predict(table[:1].set_axis(stamp + pd.Timedelta(days=1)))


def test_the_error_names_the_first_row_that_is_missing(rng):
    table = pd.DataFrame({"y": rng.normal(size=40)}, index=days(40))
    model = WindowRegressor(LinearRegression(), 2).fit(table[:27], table["y"][:27])
    with pytest.raises(DataError, match=r"pass all rows from 2024-10-28 00:00:00\+01:00 on"):
        model.predict(table[28:])


@pytest.mark.parametrize("name", ACROSS_CLOCK_CHANGES)
def test_a_change_to_summer_time_is_no_gap(rng, name):
    index, ends = ACROSS_CLOCK_CHANGES[name]
    table = pd.DataFrame({"y": rng.normal(size=len(index))}, index=index)
    for end in ends:
        model = WindowRegressor(LinearRegression(), 2).fit(table[:end], table["y"][:end])
        assert len(model.predict(table[end:])) == len(table) - end
        with pytest.raises(DataError, match="rows are missing between"):
            model.predict(table[end + 1 :])


def test_a_grid_search_over_a_clock_change_scores_every_fold(rng):
    table = pd.DataFrame({"y": rng.normal(size=40)}, index=days(40, "2024-10-12"))
    folds = TimeSeriesSplit(10, test_size=2)  # each day around the change ends one training set or another
    search = GridSearchCV(WindowRegressor(LinearRegression(), 2), {"n_timesteps": [1, 2]}, cv=folds).fit(
        table, table["y"]
    )
    scores = [search.cv_results_[f"split{i}_test_score"] for i in range(10)]
    assert np.isfinite(scores).all()
    # Every row has the forecast that the same rows give without an index.
    bare = cross_val_score(WindowRegressor(LinearRegression(), 2), table.to_numpy(), table["y"].to_numpy(), cv=folds)
    assert_array_equal([score[1] for score in scores], bare)


def test_kfold_on_a_default_index_does_not_predict_the_past(table):
    fresh = table.reset_index(drop=True)
    model = WindowRegressor(LinearRegression(), 3)
    for labels in (fresh, fresh.set_axis(pd.Index(np.arange(60))), fresh.set_axis(pd.Index(np.arange(60.0)))):
        with pytest.raises(DataError, match=r"rows to predict start at 0.*, but the training rows end at 59"):
            cross_val_score(model, labels, labels["y"], cv=KFold(5), error_score="raise")
        folds = list(KFold(5).split(labels))
        with pytest.raises(DataError, match=r"rows are missing between 11.* and 24"):
            model.fit(labels.iloc[folds[1][0]], labels["y"].iloc[folds[1][0]])
        train, test = folds[4]  # the only fold that follows its training rows
        assert len(model.fit(labels.iloc[train], labels["y"].iloc[train]).predict(labels.iloc[test])) == 12


def test_labels_that_are_known_hold_for_slices_of_any_kind(table):
    fresh = table.reset_index(drop=True)
    model = WindowRegressor(LinearRegression(), 3).fit(fresh[:40], fresh["y"][:40])
    with pytest.raises(DataError, match="rows to predict start at 10, but the training rows end at 39"):
        model.predict(fresh[10:30])
    with pytest.raises(DataError, match="rows to predict start at 10, but"):
        model.predict(fresh.iloc[np.r_[10:20]].set_axis(pd.Index(np.arange(10, 20))))
    with pytest.raises(DataError, match="pass all rows from 40 on"):
        model.predict(fresh[41:])
    # Counted from 0 on both sides: nothing tells new rows from old ones, and they are taken for new.
    assert_array_equal(model.predict(fresh[40:].reset_index(drop=True)), model.predict(fresh[40:]))
    later = WindowRegressor(LinearRegression(), 3).fit(fresh[20:40], fresh["y"][20:40])
    with pytest.raises(DataError, match="rows to predict start at 0, but the training rows end at 39"):
        later.predict(fresh[40:].reset_index(drop=True))
    dated = WindowRegressor(LinearRegression(), 3).fit(table[:40], table["y"][:40])
    assert_array_equal(dated.predict(fresh[40:].reset_index(drop=True)), dated.predict(table[40:]))
    with pytest.raises(DataError, match=r"holds numbers \(40, ...\), that of the training rows time stamps without"):
        dated.predict(fresh[40:])


def test_rows_with_and_without_a_zone_are_not_compared(table):
    zoned = table.tz_localize("Europe/Berlin")
    model = WindowRegressor(LinearRegression(), 3).fit(zoned[:40], zoned["y"][:40])
    with pytest.raises(DataError, match=r"up to 2024-02-09 .*X\.tz_localize\('Europe/Berlin'\) before predict"):
        model.predict(table[40:])
    assert len(model.predict(zoned[40:].tz_convert("Asia/Tokyo"))) == 20
    model = WindowRegressor(LinearRegression(), 3).fit(table[:40], table["y"][:40])
    with pytest.raises(DataError, match=r"X\.tz_localize\(None\) before predict"):
        model.predict(zoned[40:])
    months = table.set_axis(pd.period_range("2020-01", periods=60, freq="M"))
    model = WindowRegressor(LinearRegression(), 3).fit(months[:40], months["y"][:40])
    with pytest.raises(
        DataError, match=r"holds periods of frequency D .*, that of the training rows periods of frequency M"
    ):
        model.predict(table[40:].to_period("D"))


@pytest.mark.parametrize(
    ("index", "before", "after"),
    [
        (pd.date_range("2024-01-01", periods=60), "2024-01-20", "2024-01-22"),
        (pd.date_range("2024-01-01", periods=60, freq="15min"), "04:45:00", "05:15:00"),
        (pd.date_range("2022-01-01", periods=60, freq="MS"), "2023-08-01", "2023-10-01"),
        (pd.date_range("2022-01-01", periods=60, freq="ME"), "2023-08-31", "2023-10-31"),
        (pd.date_range("2000-01-01", periods=60, freq="BQE"), "2004-12-31", "2005-06-30"),
        (pd.period_range("2020-01", periods=60, freq="Q"), "2024Q4", "2025Q2"),
        (pd.RangeIndex(60), "19", "21"),
        (pd.Index(np.arange(60) * 0.1), r"1\.9\d*", r"2\.1\d*"),
        (pd.to_timedelta(np.arange(60), unit="h"), "0 days 19:00:00", "0 days 21:00:00"),
        (days(60), r"2024-10-20 00:00:00\+02:00", r"2024-10-22 00:00:00\+02:00"),
        (days(60, "2024-10-26", freq="h"), r"2024-10-26 19:00:00\+02:00", r"2024-10-26 21:00:00\+02:00"),
    ],
)
def test_a_hole_among_training_rows_is_refused(table, index, before, after):
    table = table.set_axis(index)
    model = WindowRegressor(LinearRegression(), 3)
    holed = table.drop(table.index[20])
    with pytest.raises(DataError, match=f"rows are missing between .*{before}.* and .*{after}.*X.reset_index"):
        model.fit(holed, holed["y"])
    fitted = model.fit(table.iloc[:18], table["y"].iloc[:18])
    with pytest.raises(DataError, match=f"rows are missing between .*{before}.* and .*{after}"):
        fitted.predict(holed.iloc[18:])  # the first rows follow, a later one is missing
    counted = holed.reset_index(drop=True)
    assert len(model.fit(counted.iloc[:50], counted["y"].iloc[:50]).predict(counted.iloc[50:])) == 9


def test_holidays_and_irregular_rows_are_no_holes(table):
    weekdays = pd.bdate_range("2023-11-01", periods=64)
    trading = weekdays[~weekdays.isin(pd.to_datetime(["2023-11-23", "2023-12-25", "2024-01-01", "2024-01-15"]))]
    model = WindowRegressor(LinearRegression(), 3)
    for index in (
        trading,
        trading.tz_localize("America/New_York"),
        pd.DatetimeIndex(pd.Timestamp("2024") + pd.to_timedelta(np.arange(60) ** 2, unit="min")),
        pd.Index(np.cumsum(np.arange(60) % 7 + 1)),
        pd.Index(np.sqrt(np.arange(60.0))),
    ):
        irregular = table.set_axis(index)
        assert len(model.fit(irregular.iloc[:40], table["y"].iloc[:40].to_numpy()).predict(irregular.iloc[45:])) == 15
    closed = table.set_axis(weekdays[:30].append(pd.bdate_range("2024-06-03", periods=30)))
    with pytest.raises(DataError, match=r"rows are missing between 2023-12-12 .* and 2024-06-03"):
        model.fit(closed, closed["y"])


def test_a_target_with_other_labels_is_refused(table):
    model = WindowRegressor(LinearRegression(), 3)
    with pytest.raises(DataError, match=r"row 0 is 2024-01-01 .* in X and 2024-01-02 .* in y\. Align them"):
        model.fit(table.iloc[:40], table["y"][1:41])
    counted = table.reset_index(drop=True)
    with pytest.raises(DataError, match=r"row 5 is 5 in X and 6 in y"):
        model.fit(counted.iloc[:40], counted["y"].drop(5)[:40])
    for y in (table[["y"]].set_axis(table.index.as_unit("s")), table["y"].to_numpy(), table["y"].tolist()):
        assert len(model.fit(table, y).predict(table.reset_index(drop=True)[:2])) == 2


def test_a_label_that_is_missing_is_named(table):
    index = table.index.to_series().mask(np.arange(60) == 7)
    with pytest.raises(DataError, match="no label in row 7"):
        WindowRegressor(LinearRegression(), 3).fit(table.set_axis(pd.DatetimeIndex(index)), table["y"].to_numpy())
