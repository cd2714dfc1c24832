"""A saved forecaster forecasts the same bits, and a file that does not fit together is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from series import seasonal_frame
from sklearn.linear_model import Ridge

from tsforecast import Forecaster, LSTMRegressor, ModelFileError, load_model
from tsforecast.forecasting.stored import from_arrays, to_arrays


def fitted(df=None, **params):
    network = LSTMRegressor((3,), max_iter=2, device="reference")
    options = {"horizon": 3, "n_timesteps": 12, "random_state": 0, **params}
    return Forecaster(network, **options).fit(seasonal_frame() if df is None else df)


def test_the_same_bits_come_back(tmp_path):
    model = fitted()
    model.save(tmp_path / "m.tsf")
    again = load_model(tmp_path / "m.tsf")
    pd.testing.assert_frame_equal(again.predict(level=[80, 95]), model.predict(level=[80, 95]), check_exact=True)
    for name in ("freq_", "n_timesteps_", "season_length_", "transform_", "n_windows_"):
        assert getattr(again, name) == getattr(model, name)
    assert again.get_params(deep=False).keys() == model.get_params(deep=False).keys()
    assert again.horizon == 3
    assert isinstance(again.estimator, LSTMRegressor)


def test_a_loaded_model_takes_new_rows_and_can_be_fitted_again(tmp_path):
    df = seasonal_frame(rows=66)
    early, late = df[df.ds < "2020-01-01"], df[df.ds >= "2020-01-01"]
    model = fitted(early)
    model.save(tmp_path / "m.tsf")
    again = load_model(tmp_path / "m.tsf").update(late)
    pd.testing.assert_frame_equal(again.predict(level=[80]), model.update(late).predict(level=[80]), check_exact=True)
    pd.testing.assert_frame_equal(again.fit(df).predict(), model.fit(df).predict(), check_exact=True)


@pytest.mark.parametrize(
    "df",
    [
        seasonal_frame().assign(unique_id=np.repeat([10, 9, 8], 60)),
        seasonal_frame().assign(ds=np.tile(np.arange(0, 120, 2), 3)),
        seasonal_frame().assign(ds=np.tile(pd.date_range("2024-03-29", periods=60, freq="h", tz="Europe/Berlin"), 3)),
        pl.from_pandas(seasonal_frame()).with_columns(pl.col("ds").cast(pl.Date)),
    ],
    ids=["integer ids", "integer time", "zone", "polars dates"],
)
def test_ids_and_times_of_every_kind(tmp_path, df):
    model = fitted(df, season_length=4, calibrate=False)
    model.save(tmp_path / "m.tsf")
    one, two = model.predict(), load_model(tmp_path / "m.tsf").predict()
    assert type(one) is type(two)
    for name in one.columns:
        assert one[name].dtype == two[name].dtype
        assert list(one[name]) == list(two[name])


def test_what_cannot_be_stored(tmp_path):
    with pytest.raises(ModelFileError, match="Ridge"):
        Forecaster(Ridge(), horizon=3).fit(seasonal_frame()).save(tmp_path / "m.tsf")
    with pytest.raises(ModelFileError, match="text or whole numbers"):
        fitted(seasonal_frame().assign(unique_id=np.repeat([0.5, 1.5, 2.5], 60))).save(tmp_path / "m.tsf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda a, m: a.pop("values"),
        lambda a, m: a.update(values=a["values"][:-1]),
        lambda a, m: a.update(values=a["values"].astype(np.float32)),
        lambda a, m: a.update(indptr=a["indptr"] + 1),
        lambda a, m: a.update(scale=a["scale"][:2]),
        lambda a, m: a.update(scores=a["scores"][:, :2]),
        lambda a, m: a.update(scores=a["scores"][:0]),
        lambda a, m: a.update({"ids.ends": a["ids.ends"][:2]}),
        lambda a, m: m.update(horizon=4),
        lambda a, m: m.update(n_timesteps=11),
        lambda a, m: m.update(model_class="Forecaster"),
        lambda a, m: m.update(model_class="os.system"),
        lambda a, m: m.update(library="os"),
        lambda a, m: m.update(time_dtype="O"),
        lambda a, m: m.pop("freq"),
    ],
)
def test_parts_that_do_not_fit_together(change):
    arrays, meta = to_arrays(fitted()._state)
    change(arrays, meta)
    with pytest.raises((ModelFileError, KeyError, ValueError, TypeError)):  # load_model makes one error of all of them
        from_arrays(arrays, meta)
