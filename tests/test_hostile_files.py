"""Files of real models: the same bits after a round trip, and hostile ones that are signed correctly."""

import copy
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from tsforecast import Forecaster, LSTMRegressor, ModelFileError, TsForecastError, load_model, persistence

HOSTILE = [None, True, -1, 0, 1, 3, 2**31, 2**63, 10**30, 0.5, -2.5, float("nan"), float("inf"), "", "x", "float64"]
HOSTILE += [[], (), (0,), (3, -1), (2**40,), {}, {"a": 1}]


@pytest.fixture(scope="module")
def regressor():
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal(size=(12, 6)), columns=[f"größe_lag{i}" for i in range(6, 0, -1)])
    model = LSTMRegressor((3, 2), loss="quantile", quantiles=(0.2, 0.5, 0.8), max_iter=2, random_state=np.int64(3))
    return model.fit(X, rng.normal(size=(12, 2))), X


@pytest.fixture(scope="module")
def forecaster():
    rows = 10
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(["b", "a"], rows),
            "ds": np.tile(pd.date_range("2024-01-31", periods=rows, freq="ME", tz="Europe/Paris"), 2),
            "y": np.random.default_rng(2).uniform(1, 2, 2 * rows),
        }
    )
    model = Forecaster(
        LSTMRegressor(3, max_iter=2), horizon=2, freq="ME", n_timesteps=4, season_length=2, random_state=0
    )
    return model.fit(frame)


def test_a_regressor_comes_back_to_the_bit(regressor, tmp_path):
    model, X = regressor
    model.save(tmp_path / "m.tsf")
    again = load_model(tmp_path / "m.tsf")
    assert type(again) is LSTMRegressor
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict_quantiles(X), model.predict_quantiles(X))
    assert list(again.feature_names_in_) == list(X.columns)
    assert (again.loss_curve_, again.n_iter_, again.best_loss_) == (model.loss_curve_, model.n_iter_, model.best_loss_)
    y = np.arange(24.0).reshape(12, 2)
    np.testing.assert_array_equal(
        again.partial_fit(X, y).predict(X), copy.deepcopy(model).partial_fit(X, y).predict(X), "training goes on alike"
    )


def test_a_forecaster_comes_back_to_the_bit(forecaster, tmp_path):
    forecaster.save(tmp_path / "f.tsf")
    again = load_model(tmp_path / "f.tsf")
    pd.testing.assert_frame_equal(again.predict(level=[80]), forecaster.predict(level=[80]), check_exact=True)


def changed(value, path, new):
    """A copy of nested plain values with the leaf at ``path`` replaced."""
    if not path:
        return new
    copied = list(value) if isinstance(value, (list, tuple)) else dict(value)
    copied[path[0]] = changed(value[path[0]], path[1:], new)
    return tuple(copied) if isinstance(value, tuple) else copied


def leaves(value, path=()):
    yield path
    if isinstance(value, (dict, list, tuple)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def mutants(arrays, meta, rng, n):
    """``n`` states in which one value, one array, or one array's shape or type is not what it should be."""
    paths = [path for path in leaves(meta) if path]
    for i in range(n):
        bad_arrays, bad_meta = dict(arrays), meta
        name = list(arrays)[int(rng.integers(len(arrays)))]
        kind = i % 5
        if kind <= 2:
            path = paths[int(rng.integers(len(paths)))]
            bad_meta = changed(meta, path, HOSTILE[int(rng.integers(len(HOSTILE)))])
        elif kind == 3:
            other = list(arrays)[int(rng.integers(len(arrays)))]
            bad_arrays[name] = arrays[other]
        else:
            array = arrays[name]
            ways = [
                array[:-1],
                array[:0],
                array.reshape(-1, 1),
                np.repeat(array, 2),
                array.astype(np.float64),
                array.astype(np.int64),
                -array if array.dtype != np.uint8 else ~array,
                np.full_like(array, 2**60 if array.dtype == np.int64 else 200),
            ]
            bad_arrays[name] = ways[int(rng.integers(len(ways)))]
        yield bad_arrays, bad_meta


@pytest.mark.parametrize("which", ["regressor", "forecaster"])
def test_hostile_files_are_refused_or_harmless(which, request, tmp_path):
    """A file may say anything in good form: it is refused by name, or gives a model that works or says why not."""
    model = request.getfixturevalue(which)
    model, X = (model, None) if which == "forecaster" else model
    refused, path = 0, tmp_path / "m.tsf"
    rng = np.random.default_rng(5)
    for arrays, meta in mutants(*model._model_state(), rng, 400):
        persistence.save_model(path, type(model).__name__, arrays, meta)
        try:
            loaded = load_model(path)
        except ModelFileError:
            refused += 1
            continue
        with suppress(TsForecastError, ValueError):
            loaded.predict() if X is None else loaded.predict(X)
    assert refused >= 100
