"""bidirectional, residual, dilations and learn_initial_state on the public classes."""

import numpy as np
import pytest

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, fit_many, load_model, sliding_windows

T = 12
MODELS = {
    "both": LSTMRegressor(6, bidirectional=True),
    "sum": GRURegressor((6, 6), bidirectional="sum", residual=True),
    "dilated": LSTMRegressor((6, 6, 6), residual=True, dilations=[1, 2, 4], learn_initial_state=True),
    "learned": RNNRegressor(6, learn_initial_state=True),
}


@pytest.fixture(scope="module")
def windows():
    return sliding_windows(np.sin(np.arange(150) / 5) + 0.1 * np.cos(np.arange(150)), T)


@pytest.mark.needs_jit
@pytest.mark.parametrize("name", MODELS)
def test_it_learns_streams_and_comes_back_from_a_file(name, windows, tmp_path):
    X, y = windows
    model = MODELS[name].set_params(max_iter=60, learning_rate_init=0.01, random_state=0).fit(X[:110], y[:110])
    assert model.score(X[110:], y[110:]) > 0.9
    expected = model.predict(X[110:])
    model.save(tmp_path / "model.ts")
    np.testing.assert_array_equal(load_model(tmp_path / "model.ts").predict(X[110:]), expected)
    stream = model.stream()
    for x in X[120]:
        forecast = stream.push(x)
    assert forecast == expected[10]
    stream.reset()
    for x in X[125]:
        forecast = stream.push(x)
    assert forecast == expected[15]


@pytest.mark.needs_jit
def test_a_fleet_of_them_has_the_bits_of_each_alone(windows):
    X, y = windows
    params = MODELS["dilated"].get_params() | {"max_iter": 3}
    models = [LSTMRegressor(**(params | {"random_state": i})) for i in range(2)]
    alone = [LSTMRegressor(**m.get_params()).fit(X, y)._params for m in models]
    fit_many(models, [X, X], [y, y])
    np.testing.assert_array_equal([m._params for m in models], alone)


@pytest.mark.needs_jit
def test_attributions_of_a_bidirectional_network_add_up(windows):
    X, y = windows
    model = LSTMRegressor(6, bidirectional=True, max_iter=30, random_state=0, dtype="float64").fit(X, y)
    baseline = np.zeros(T)
    parts = np.asarray(model.integrated_gradients(X[:5], baseline=baseline))
    change = model.predict(X[:5]) - model.predict(baseline[None])
    np.testing.assert_allclose(parts.reshape(5, -1).sum(axis=1), change, rtol=0, atol=1e-6 * np.abs(change).max())
    assert model.trace(X[:5])[0, "h"].shape == (5, T, 12)


def test_a_learned_start_changes_with_training(windows):
    X, y = windows
    model = LSTMRegressor(4, learn_initial_state=True, max_iter=2, random_state=0, device="reference").fit(X, y)
    views = model._spec().views(model._params)
    assert views["layers.0.h_0"].all()
    assert views["layers.0.c_0"].all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LSTMRegressor(4, residual=True), "has only one"),
        (LSTMRegressor((4, 5), residual=True), "equal width"),
        (LSTMRegressor((4, 5), dilations=[1]), "one a layer"),
        (LSTMRegressor(4, dilations=[1.5]), "positive integers"),
        (LSTMRegressor(4, dilations=[T + 1]), f"does not fit into windows of {T} steps"),
        (LSTMRegressor(4, bidirectional="both"), "'bidirectional' parameter"),
    ],
)
def test_what_cannot_be_joined_is_refused(model, message, windows):
    with pytest.raises(ValueError, match=message):
        model.fit(*windows)


def test_a_refit_that_is_refused_leaves_the_fit_before(windows):
    X, y = windows
    model = LSTMRegressor(3, max_iter=1, random_state=0, device="reference").fit(X, y)
    before = model.predict(X[:3])
    with pytest.raises(ValueError, match="does not go with bidirectional"):
        model.set_params(bidirectional=True, bptt_steps=2).fit(X, y)
    np.testing.assert_array_equal(model.predict(X[:3]), before)


def test_dilations_of_one_are_the_plain_network(windows):
    plain, ones = (
        LSTMRegressor((3, 2), dilations=d, max_iter=1, random_state=0, device="reference").fit(*windows)
        for d in (None, [1, 1])
    )
    assert plain._spec() == ones._spec()
    np.testing.assert_array_equal(plain._params, ones._params)
