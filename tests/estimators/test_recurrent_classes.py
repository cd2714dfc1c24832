"""The public classes and options of every recurrent cell: they train, stream, save and refuse what excludes itself."""

import inspect

import numpy as np
import pytest

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, SLSTMRegressor, load_model, sliding_windows
from tsforecast.cells import CELLS
from tsforecast.estimators.lstm import VARIANTS

T = 10
MODELS = {
    "gru": GRURegressor(8),
    "mingru": GRURegressor((8, 8), variant="minimal"),
    "minlstm": LSTMRegressor((8, 8), variant="minimal"),
    "slstm": SLSTMRegressor(8),
    "rnn_tanh": RNNRegressor(8),
    "rnn_relu": RNNRegressor(8, activation="relu"),
    "lstm_peephole": LSTMRegressor(8, peepholes=True),
    "lstm_coupled": LSTMRegressor(8, coupled_gates=True),
    "lstm_layer_norm": LSTMRegressor(8, layer_norm=True),
    "gru_layer_norm": GRURegressor(8, layer_norm=True),
    # In float64, for which the tests of kernels compile these, too.
    **{f"lstm_{v}": LSTMRegressor(8, variant=v, dtype="float64") for v in VARIANTS},
}


@pytest.fixture(scope="module")
def windows():
    return sliding_windows(np.sin(np.arange(160) / 5) + 0.1 * np.cos(np.arange(160)), T)


def test_every_cell_has_a_public_way_in():
    assert set(MODELS) | {"lstm"} == set(CELLS)
    assert {model._cell for model in MODELS.values()} == set(MODELS)


@pytest.mark.needs_jit
@pytest.mark.filterwarnings("ignore:layer_norm=True on windows of one feature")
@pytest.mark.parametrize("cell", MODELS)
def test_it_learns_streams_and_comes_back_from_a_file(cell, windows, tmp_path):
    X, y = windows
    model = MODELS[cell].set_params(max_iter=80, learning_rate_init=0.01, random_state=0).fit(X[:120], y[:120])
    assert model.score(X[120:], y[120:]) > 0.9
    expected = model.predict(X[120:])
    model.save(tmp_path / "model.ts")
    loaded = load_model(tmp_path / "model.ts")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded.predict(X[120:]), expected)
    stream = model.stream()
    for x in X[130]:
        forecast = stream.push(x)
    assert forecast == expected[10]


@pytest.mark.needs_jit
@pytest.mark.parametrize("cell", ["gru", "slstm", "minlstm", "rnn_tanh", "lstm_peephole", "lstm_full_gate_recurrence"])
def test_the_bits_do_not_depend_on_threads(cell, windows):
    X, y = windows
    fits = [
        MODELS[cell].set_params(max_iter=3, batch_size=64, random_state=0, n_jobs=n).fit(X, y)._params for n in (1, 3)
    ]
    np.testing.assert_array_equal(*fits)


@pytest.mark.needs_jit
def test_layer_norm_warns_where_only_signs_would_be_seen(windows):
    X, y = windows
    model = LSTMRegressor(4, layer_norm=True, max_iter=1)
    with pytest.warns(UserWarning, match="of one feature a step: .* give the windows more features"):
        model.fit(X, y)
    model.fit(np.stack([X, X**2], axis=2), y)  # any warning would be an error


def test_what_excludes_itself_is_refused(windows):
    for options in (
        {"coupled_gates": True, "peepholes": True},
        {"peepholes": True, "variant": "no_input_gate"},
        {"layer_norm": True, "coupled_gates": True},
    ):
        with pytest.raises(ValueError, match="exclude one another"):
            LSTMRegressor(4, **options).fit(*windows)
    with pytest.raises(ValueError, match="exclude one another"):
        GRURegressor(4, layer_norm=True, variant="minimal").fit(*windows)
    with pytest.raises(ValueError, match="'variant' parameter"):
        LSTMRegressor(4, variant="no_gate").fit(*windows)
    with pytest.raises(ValueError, match="exclude one another"):
        LSTMRegressor(4, coupled_gates=True, variant="minimal").fit(*windows)
    with pytest.raises(ValueError, match="'variant' parameter"):
        GRURegressor(4, variant="no_input_gate").fit(*windows)
    with pytest.raises(ValueError, match="'activation' parameter"):
        RNNRegressor(4, activation="gelu").fit(*windows)


@pytest.mark.parametrize("cls", [GRURegressor, RNNRegressor, LSTMRegressor, SLSTMRegressor])
def test_every_parameter_is_documented(cls):
    doc = inspect.getdoc(cls)
    for name in inspect.signature(cls).parameters:
        assert name in doc, name
    assert ("peepholes" in doc) == (cls is LSTMRegressor)
    assert ("\nactivation :" in doc) == (cls is RNNRegressor)
