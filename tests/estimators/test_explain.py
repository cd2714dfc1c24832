"""What a network did with a window: gates, derivatives, and attributions that add up."""

import numpy as np
import pytest

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, SLSTMRegressor

T, F = 6, 2
MODELS = [
    LSTMRegressor((7, 5)),
    LSTMRegressor(6, standardize=False, linear_skip=True),
    LSTMRegressor(6, loss="quantile", quantiles=(0.4,)),
    GRURegressor((5,)),
    RNNRegressor(5),
]


@pytest.fixture(params=MODELS, ids=str)
def fitted(request, rng):
    X = rng.normal(5.0, 2.0, size=(60, T, F))
    y = np.stack([X[:, -1, 0] * 3 + X[:, 0, 1], X[:, 2, 1] ** 2], axis=1)
    model = request.param.set_params(dtype="float64", max_iter=5, random_state=0)
    return model.fit(X, y), X[:4]


@pytest.mark.parametrize("output", [0, 1])
def test_saliency_is_the_derivative_of_predict(fitted, output):
    model, X = fitted
    found = model.saliency(X, output=output)
    assert found.shape == X.shape
    step = 1e-5
    for t, f in ((0, 0), (3, 1), (T - 1, 0)):
        up, down = X.copy(), X.copy()
        up[:, t, f] += step
        down[:, t, f] -= step
        numeric = (model.predict(up) - model.predict(down))[:, output] / (2 * step)
        np.testing.assert_allclose(found[:, t, f], numeric, rtol=1e-6, atol=1e-9 * np.abs(found).max())


@pytest.mark.parametrize("baseline", [None, "last"])
def test_attributions_add_up_to_the_difference_of_forecasts(fitted, baseline):
    model, X = fitted
    means = np.zeros((T, F)) if model._x_mean is None else np.broadcast_to(model._x_mean, (T, F))
    base = means if baseline is None else X[-1]
    found = model.integrated_gradients(X, baseline=None if baseline is None else base, output=1)
    difference = (model.predict(X) - model.predict(base[None]))[:, 1]
    np.testing.assert_allclose(found.sum(axis=(1, 2)), difference, rtol=1e-6, atol=1e-8)
    if baseline is not None:
        assert not found[-1].any()


def test_attributions_that_do_not_add_up_warn(rng):
    """Normalised sums of the mean window are zero, and a step lies there."""
    X, y = rng.normal(size=(30, T, F)), rng.normal(size=30)
    model = LSTMRegressor(4, layer_norm=True, max_iter=2, random_state=0, device="reference").fit(X, y)
    with pytest.warns(UserWarning, match="attributions miss up to"):
        model.integrated_gradients(X[:4])


def test_a_linear_map_gets_its_own_weights(rng):
    """Where the network is the skip alone, attributions are weight times distance, whatever the points."""
    X = rng.normal(size=(30, T))
    model = LSTMRegressor(3, linear_skip=True, standardize=False, dtype="float64", max_iter=3, random_state=0)
    model.fit(X, X[:, 0])
    views = model._spec().views(model._params)
    views["head.w"][:] = 0
    found = model.integrated_gradients(X, n_points=1)
    np.testing.assert_allclose(found[..., 0], X * views["skip.w"][:, 0], rtol=1e-12)
    np.testing.assert_allclose(model.saliency(X)[..., 0], np.broadcast_to(views["skip.w"][:, 0], X.shape), rtol=1e-12)


def test_a_trace_obeys_the_equations_and_ends_in_the_forecast(rng):
    X = rng.normal(size=(5, T * F))
    model = LSTMRegressor((7, 4), n_features_per_step=F, dtype="float64", max_iter=2, random_state=0).fit(X, X[:, 0])
    found = model.trace(X)
    for layer, units in enumerate((7, 4)):
        i, f, g, o, c, h = (found[layer, name] for name in "ifgoch")
        assert h.shape == (5, T, units)
        np.testing.assert_allclose(c[:, 1:], f[:, 1:] * c[:, :-1] + i[:, 1:] * g[:, 1:], rtol=0, atol=1e-14)
        np.testing.assert_allclose(h, o * np.tanh(c), rtol=0, atol=1e-14)
    head = model._spec().views(model._params)
    last = found[1, "h"][:, -1] @ head["head.w"] + head["head.b"]
    np.testing.assert_allclose(last[:, 0] * model._y_scale + model._y_mean, model.predict(X), rtol=0, atol=1e-12)
    frame = found.to_frame()
    assert list(frame) == ["window", "step", "layer", "name", "unit", "value"]
    row = frame[(frame.window == 3) & (frame.step == 2) & (frame.layer == 1) & (frame.name == "f") & (frame.unit == 1)]
    assert row.value.tolist() == [found[1, "f"][3, 2, 1]]
    assert len(frame) == sum(values.size for values in found.values())


def test_names_of_a_gru(rng):
    X = rng.normal(size=(4, T))
    found = GRURegressor(3, max_iter=1, random_state=0).fit(X, X[:, 0]).trace(X)
    n, z, h = (found[0, name] for name in "nzh")
    np.testing.assert_allclose(h[:, 1:], (1 - z[:, 1:]) * n[:, 1:] + z[:, 1:] * h[:, :-1], rtol=0, atol=1e-14)


def test_names_of_an_slstm(rng):
    X = rng.normal(size=(4, T))
    found = SLSTMRegressor(3, max_iter=1, random_state=0).fit(X, X[:, 0]).trace(X)
    c, n, m, i, f, z, o, h = (found[0, name] for name in "cnmifzoh")
    np.testing.assert_allclose(c[:, 1:], f[:, 1:] * c[:, :-1] + i[:, 1:] * z[:, 1:], rtol=0, atol=1e-14)
    np.testing.assert_allclose(n[:, 1:], f[:, 1:] * n[:, :-1] + i[:, 1:], rtol=0, atol=1e-14)
    np.testing.assert_allclose(h, o * c / n, rtol=0, atol=1e-14)
    assert n.min() >= 1
    assert m.shape == h.shape


def test_names_of_minimal_cells(rng):
    X = rng.normal(size=(4, T))
    for model, old, new in ((GRURegressor, None, "z"), (LSTMRegressor, "f", "i")):
        found = model(3, variant="minimal", max_iter=1, random_state=0).fit(X, X[:, 0]).trace(X)
        write, g, h = (found[0, name][:, 1:] for name in (new, "g", "h"))
        keep = 1 - write if old is None else found[0, old][:, 1:]
        np.testing.assert_allclose(h, keep * found[0, "h"][:, :-1] + write * g, rtol=0, atol=1e-14)


def test_what_cannot_be_attributed_is_refused(rng):
    X = rng.normal(size=(20, T))
    model = LSTMRegressor(3, window_norm="center", max_iter=1, random_state=0).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="need window_norm='none'"):
        model.saliency(X)
    assert model.trace(X)[0, "h"].shape == (20, T, 3)
    plain = LSTMRegressor(3, max_iter=1, random_state=0).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="a step of the horizon, 0 to 0, got 1"):
        plain.integrated_gradients(X, output=1)
