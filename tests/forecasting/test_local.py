"""``Forecaster(scope="local")`` against a Forecaster of each series alone, to the bit."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from tsforecast import DataError, Forecaster, LSTMRegressor, ModelFileError, NotEnoughHistoryError, load_model

needs_jit = pytest.mark.needs_jit
LENGTHS = {"b": 60, "a": 48, "c": 75}
FIXED = {"horizon": 3, "n_timesteps": 8, "season_length": 4, "transform": "none", "freq": 1}


def frame(**lengths):
    """Noisy waves of different levels and lengths."""
    parts = []
    for i, (name, n) in enumerate((lengths or LENGTHS).items()):
        rng = np.random.default_rng(i)
        y = 50 * i + np.sin(np.arange(n) * np.pi / 2) + 0.2 * rng.normal(size=n)
        parts.append(pd.DataFrame({"unique_id": name, "ds": np.arange(n), "y": y}))
    return pd.concat(parts, ignore_index=True)


def network(**settings):
    return LSTMRegressor(**({"hidden_layer_sizes": 4, "max_iter": 5, "batch_size": 16} | settings))


def forecaster(estimator=None, **settings):
    return Forecaster(estimator, scope="local", **({"calibrate": False, "random_state": 0} | FIXED | settings))


def of_each_alone(df, estimator, **settings):
    """Forecasts of a global Forecaster of each series by itself."""
    make = {"calibrate": False, "random_state": 0} | FIXED | settings
    return pd.concat(
        [Forecaster(estimator, **make).fit(part).predict() for _, part in df.groupby("unique_id")], ignore_index=True
    )


@needs_jit
@pytest.mark.parametrize(
    "estimator", [None, network(), network(early_stopping=True, validation_fraction=0.2), Ridge()], ids=str
)
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_every_series_is_forecast_as_if_alone(estimator, n_jobs):
    df = frame()
    model = forecaster(estimator, n_jobs=n_jobs).fit(df)
    pd.testing.assert_frame_equal(model.predict(), of_each_alone(df, estimator), check_exact=True)
    assert list(model.estimator_) == ["a", "b", "c"]
    assert model.n_windows_ == sum(n - 10 for n in LENGTHS.values())


@needs_jit
def test_logarithms_are_scaled_series_by_series():
    df = frame().assign(y=lambda d: np.exp(d["y"] / 50) + 1)
    found = forecaster(network(), transform="log").fit(df).predict()
    pd.testing.assert_frame_equal(found, of_each_alone(df, network(), transform="log"), check_exact=True)


@needs_jit
def test_the_order_of_the_rows_means_nothing():
    df = frame()
    shuffled = df.sample(frac=1, random_state=1)
    a, b = (forecaster(network()).fit(d).predict() for d in (df, shuffled))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


@needs_jit
def test_rows_are_appended_and_past_origins_forecast():
    df = frame()
    old, new = df[df["ds"] < 40], df[df["ds"] == 40]
    model = forecaster(network()).fit(old)
    before = {name: m._params.copy() for name, m in model.estimator_.items()}
    model.update(new)
    alone = pd.concat(
        [
            Forecaster(network(), **FIXED, calibrate=False, random_state=0)
            .fit(old[old["unique_id"] == name])
            .update(new[new["unique_id"] == name])
            .predict()
            for name in ("a", "b", "c")
        ],
        ignore_index=True,
    )
    pd.testing.assert_frame_equal(model.predict(), alone, check_exact=True)
    for name, params in before.items():
        np.testing.assert_array_equal(model.estimator_[name]._params, params)
    with pytest.raises(DataError, match="'d' was not there in fit"):
        model.update(pd.DataFrame({"unique_id": "d", "ds": np.arange(20), "y": np.arange(20.0)}))


@needs_jit
@pytest.mark.parametrize("refit", [True, False])
def test_backtests_of_each_series_alone(refit):
    df = frame()
    settings = {"n_windows": 2, "refit": refit}
    found = forecaster(network()).cross_validation(df, **settings)
    single = Forecaster(network(), **FIXED, calibrate=False, random_state=0)
    wanted = pd.concat([single.cross_validation(p, **settings) for _, p in df.groupby("unique_id")], ignore_index=True)
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


@needs_jit
def test_intervals_are_calibrated_on_models_of_their_own():
    df = frame(a=150, b=200, c=180)
    model = forecaster(network(), calibrate=True).fit(df)
    out = model.predict(level=[80])
    assert (out["LSTMRegressor-lo-80"] < out["LSTMRegressor-hi-80"]).all()
    middle = (out["LSTMRegressor-lo-80"] + out["LSTMRegressor-hi-80"]) / 2
    np.testing.assert_allclose(middle, out["LSTMRegressor"], rtol=1e-12)
    pd.testing.assert_frame_equal(out.iloc[:, :3], forecaster(network()).fit(df).predict(), check_exact=True)


@needs_jit
def test_divergence_is_told_by_series_and_harms_no_other():
    """Gradient descent with a rate that steady series bear, and one that jumps up and down does not."""
    df = frame()
    t = df["ds"].to_numpy()
    df["y"] = np.where(df["unique_id"] == "b", (-1.0) ** t * (1 + t % 3), t / 10 + np.sin(t) / 50)
    settings = {"window_norm": "center", "max_iter": 40}
    plain = network(solver="sgd", momentum=0.0, max_grad_norm=None, learning_rate_init=1.0, n_iter_no_change=40)
    with pytest.warns(UserWarning, match="diverged for 1 of 3 series; .*'b': training diverged in epoch"):
        model = forecaster(plain, **settings).fit(df)
    assert [name for name, m in model.estimator_.items() if m is None] == ["b"]
    found, others = model.predict(), df[df["unique_id"] != "b"]
    alone = of_each_alone(others, plain, **settings)
    pd.testing.assert_frame_equal(
        found[found["unique_id"] != "b"].reset_index(drop=True), alone.reset_index(drop=True), check_exact=True
    )
    repeated = df[df["unique_id"] == "b"]["y"].to_numpy()[-4:-1]
    np.testing.assert_allclose(found[found["unique_id"] == "b"]["LSTMRegressor"], repeated, rtol=1e-12)


def test_every_series_needs_rows_of_its_own():
    with pytest.raises(NotEnoughHistoryError, match=r"1 of 3 series have fewer: 'b' \(10 rows\)"):
        forecaster(network()).fit(frame(a=40, b=10, c=40))


@needs_jit
def test_there_is_no_file_of_local_models(tmp_path):
    """But pickle keeps them, and each network has a file of its own."""
    df = frame()
    model = forecaster(network()).fit(df)
    with pytest.raises(ModelFileError, match="scope='local' is not stored"):
        model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict(), model.predict(), check_exact=True)
    model.estimator_["b"].save(tmp_path / "b")
    np.testing.assert_array_equal(load_model(tmp_path / "b")._params, model.estimator_["b"]._params)
