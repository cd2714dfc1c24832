"""Decoders and known-future inputs as users meet them."""

import numpy as np
import pandas as pd
import pytest

from tsforecast import LSTMRegressor, fit_many, load_model
from tsforecast.exceptions import BackendUnavailableError, DataError
from tsforecast.spec import NetworkSpec

T, K = 8, 4


def rows_with_future(rng, n, n_future=1):
    """Windows of a random walk, and the steps to come, which are known and whose running sum is the target."""
    walk, steps = rng.normal(size=(n, T)).cumsum(axis=1), rng.normal(size=(n, K, n_future))
    return np.concatenate([walk, steps.reshape(n, -1)], axis=1), walk[:, -1:] + steps[:, :, 0].cumsum(axis=1)


def small(**options):
    return LSTMRegressor(
        3, n_future_features=1, max_iter=2, batch_size=8, random_state=0, device="reference", dtype="float64", **options
    )


@pytest.mark.parametrize("options", [{}, {"decoder": "recurrent", "teacher_forcing": 0.5}, {"attention": "dot"}])
def test_columns_of_the_future_are_scaled_with_their_own_and_come_back_from_a_file(rng, options, tmp_path):
    """Other units of the window and of the known-future inputs change nothing but rounding."""
    X, y = rows_with_future(rng, 30, n_future=2)
    options["n_future_features"] = 2
    model = small().set_params(**options).fit(X, y)
    assert (model.n_features_in_, model._n_timesteps) == (T + 2 * K, T)
    other = X.copy()
    other[:, :T] = other[:, :T] * 1000 + 5
    other[:, T::2] = other[:, T::2] * 1e-3 - 7
    again = small().set_params(**options).fit(other, y)
    np.testing.assert_allclose(again.predict(other), model.predict(X), rtol=1e-8)
    model.save(tmp_path / "model.ts")
    np.testing.assert_array_equal(load_model(tmp_path / "model.ts").predict(X), model.predict(X))


def test_lags_are_reversed_and_the_future_is_not(rng):
    X, y = rows_with_future(rng, 30)
    expected = small().fit(X, y).predict(X)
    reversed_lags = np.concatenate([X[:, :T][:, ::-1], X[:, T:]], axis=1)
    names = [f"lag{i + 1}" for i in range(T)] + [f"price_{k}" for k in range(K)]
    frame = pd.DataFrame(reversed_lags, columns=names)
    np.testing.assert_array_equal(small().fit(frame, y).predict(frame), expected)
    np.testing.assert_array_equal(
        small(lag_order="newest_first").fit(reversed_lags, y).predict(reversed_lags), expected
    )


def test_training_is_the_same_for_many_and_for_one(rng):
    X, y = rows_with_future(rng, 30)
    alone = small(decoder="recurrent", teacher_forcing=(1.0, 0.5)).fit(X, y)
    many = [small(decoder="recurrent", teacher_forcing=(1.0, 0.5)) for _ in range(2)]
    fit_many(many, [X, X[:9]], [y, y[:9]])
    np.testing.assert_array_equal(many[0].predict(X), alone.predict(X))
    told = small(decoder="recurrent", teacher_forcing=0.0).fit(X, y)
    assert np.abs(told.predict(X) - alone.predict(X)).max() > 1e-6, "the teacher is heard"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, "known-future inputs"),
        ({"decoder": "recurrent"}, "recurrent decoders"),
        ({"attention": "dot"}, "attention"),
    ],
)
def test_a_gpu_refuses_what_it_has_no_kernels_for(options, parts):
    pytest.importorskip("numba.cuda")
    from tsforecast.backends.cuda.plan import padded_size

    spec = NetworkSpec(T, 1, (3,), K, **({"n_future": 0 if options else 1} | options))
    with pytest.raises(BackendUnavailableError, match=f"has no kernels for {parts};"):
        padded_size(spec)


def test_a_decoder_shows_what_it_looks_at(rng):
    X, y = rows_with_future(rng, 12)
    weights = small(decoder="recurrent_attention").fit(X, y).attention_weights(X)
    assert weights.shape == (12, K, T)
    np.testing.assert_allclose(weights.sum(axis=2), 1.0, rtol=1e-12)
    frame = weights.to_frame()
    assert list(frame.columns) == ["window", "output", "step", "value"]
    np.testing.assert_array_equal(frame["value"].to_numpy().reshape(weights.shape), weights)
    with pytest.raises(DataError, match="a part of them"):
        weights[0].to_frame()
    pytest.importorskip("matplotlib")
    np.testing.assert_array_equal(weights.plot(1).images[0].get_array(), weights[1])


def test_what_cannot_be_is_refused_by_name(rng):
    X, y = rows_with_future(rng, 12)
    cases = [
        (small(), X[:, :K], y, "the known-future inputs alone take 4"),
        (small(), X.reshape(12, -1, 2), y, "X has three axes"),
        (small(decoder="recurrent", linear_skip=True), X, y, "belong to decoder='dense'"),
        (small(teacher_forcing=(0.5, 2.0)), X, y, "teacher_forcing must be a number from 0 to 1 or two"),
        (small(teacher_forcing=0.5), X, y, "set teacher_forcing=0.0, or decoder='recurrent'"),
        (small(teacher_forcing=(0.0, 0.1)), X, y, "decoder='dense' reads none"),
        (small(decoder="transformer"), X, y, "'decoder' parameter"),
    ]
    for model, rows, targets, words in cases:
        with pytest.raises(ValueError, match=words):
            model.fit(rows, targets)
    model = small().fit(X, y)
    with pytest.raises(DataError, match="no known-future inputs"):
        model.stream()
    for explain in (model.saliency, model.integrated_gradients):
        with pytest.raises(DataError, match="known-future inputs are not available"):
            explain(X)
    assert model.trace(X)[0, "h"].shape == (12, T, 3)


def pushed_level(n):
    """A level that leaks, pushed up or down by what is known in advance, and more easily from below."""
    rng = np.random.default_rng(0)
    push, level = rng.choice([-1.0, 0.0, 1.0], size=n), np.zeros(n)
    for t in range(1, n):
        strength = 0.8 if level[t - 1] < 0 else 0.3
        level[t] = np.tanh(0.9 * level[t - 1] + strength * push[t]) + 0.02 * rng.normal()
    return level, push


@pytest.mark.slow
@pytest.mark.needs_jit
def test_a_decoder_beats_the_dense_head_where_the_future_is_known():
    """Twelve steps ahead, the pushes of which are given to both: what a push does depends on all before it."""
    n_steps, horizon, n = 16, 12, 1273
    level, push = pushed_level(n + n_steps + horizon - 1)
    ends = [i + n_steps for i in range(n)]
    X = np.array([[*np.stack([level, push], axis=1)[t - n_steps : t].ravel(), *push[t : t + horizon]] for t in ends])
    Y = np.array([level[t : t + horizon] for t in ends])
    train, test = slice(0, 900), slice(900 + n_steps + horizon, None)
    errors = {}
    for decoder, teacher_forcing in (("dense", 0.0), ("recurrent", 0.0), ("recurrent", 1.0)):
        model = LSTMRegressor(
            16, n_features_per_step=2, n_future_features=1, decoder=decoder, teacher_forcing=teacher_forcing,
            max_iter=40, learning_rate_init=0.01, learning_rate="cosine", batch_size=32, random_state=0,
        ).fit(X[train], Y[train])  # fmt: skip
        errors[decoder, teacher_forcing] = np.sqrt(np.mean((model.predict(X[test]) - Y[test]) ** 2)) / Y[test].std()
    assert errors["dense", 0.0] > 0.4
    assert max(errors["recurrent", 0.0], errors["recurrent", 1.0]) < 0.2, errors
