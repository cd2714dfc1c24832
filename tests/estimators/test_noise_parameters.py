"""dropout, recurrent_dropout and zoneout on the public classes."""

import numpy as np
import pytest

from tsforecast import GRURegressor, LSTMRegressor, SLSTMRegressor, fit_many, load_model, sliding_windows
from tsforecast.exceptions import ModelFileError

T = 12
NOISE = {"dropout": 0.1, "recurrent_dropout": 0.1, "zoneout": 0.1}


@pytest.fixture(scope="module")
def windows():
    return sliding_windows(np.sin(np.arange(150) / 5) + 0.1 * np.cos(np.arange(150)), T)


@pytest.mark.needs_jit
def test_it_learns_streams_and_comes_back_from_a_file(windows, tmp_path):
    X, y = windows
    model = LSTMRegressor(16, max_iter=150, learning_rate_init=0.01, random_state=0, n_jobs=2, dtype="float64", **NOISE)
    assert model.fit(X[:110], y[:110]).score(X[110:], y[110:]) > 0.8
    expected = model.predict(X[110:])
    model.save(tmp_path / "model.ts")
    loaded = load_model(tmp_path / "model.ts")
    np.testing.assert_array_equal(loaded.predict(X[110:]), expected)
    assert loaded.zoneout == 0.1
    stream = model.stream()
    for x in X[120]:
        forecast = stream.push(x)
    assert forecast == expected[10]
    models = [LSTMRegressor(**(model.get_params() | {"max_iter": 3, "random_state": i})) for i in range(2)]
    alone = [LSTMRegressor(**m.get_params()).fit(X, y)._params for m in models]
    fit_many(models, [X, X], [y, y])
    np.testing.assert_array_equal([m._params for m in models], alone)
    assert (alone[0] != alone[1]).any()


@pytest.mark.parametrize("name", NOISE)
def test_the_seed_decides_and_a_rate_of_zero_is_none(name, windows):
    X, y = windows

    def weights(**settings):
        return GRURegressor(3, max_iter=2, device="reference", **{"random_state": 0} | settings).fit(X, y)._params

    np.testing.assert_array_equal(weights(**{name: 0.3}), weights(**{name: 0.3}))
    assert (weights(**{name: 0.3}) != weights()).any()
    np.testing.assert_array_equal(weights(**{name: 0}), weights())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LSTMRegressor(dropout=1.0), "'dropout' parameter"),
        (LSTMRegressor(zoneout=-0.1), "'zoneout' parameter"),
        (SLSTMRegressor(zoneout=0.1), "no mean for inference"),
        (LSTMRegressor(recurrent_dropout=0.1, variant="minimal"), "no recurrent multiply"),
        (GRURegressor(dropout=0.1, decoder="recurrent"), "belong to decoder='dense'"),
    ],
)
def test_noise_without_meaning_is_refused(model, message, windows):
    with pytest.raises(ValueError, match=message):
        model.fit(*windows)


@pytest.mark.parametrize(("rate", "message"), [(1.0, "zoneout must be a rate"), ("0.1", "zoneout must be numbers")])
def test_a_file_with_an_impossible_rate_is_refused(rate, message, windows, tmp_path):
    model = LSTMRegressor(3, max_iter=1, random_state=0, device="reference", zoneout=0.1).fit(*windows)
    model._network = model._network | {"zoneout": rate}
    model.save(tmp_path / "model.ts")
    with pytest.raises(ModelFileError, match=message):
        load_model(tmp_path / "model.ts")
