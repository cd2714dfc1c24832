"""``fit_many`` against the same estimators fitted one by one, to the bit."""

import numpy as np
import pytest
from sklearn.base import clone

from tsforecast import DataError, DivergedError, LSTMRegressor, fit_many, sliding_windows
from tsforecast.estimators import many

needs_jit = pytest.mark.needs_jit
LEARNED = ("_params", "_opt_m", "_opt_v")


def wave(seed, n=70, steps=8, horizon=1):
    """Windows of a noisy wave of its own."""
    rng = np.random.default_rng(seed)
    values = 10 * seed + np.sin(np.arange(n) * rng.uniform(0.2, 1.0)) + 0.1 * rng.normal(size=n)
    return sliding_windows(values, steps, horizon)


def small(seed=0, **settings):
    defaults = {"hidden_layer_sizes": 4, "max_iter": 4, "batch_size": 16}
    return LSTMRegressor(random_state=seed, **(defaults | settings))


def assert_same_fit(found, wanted, X):
    for name in LEARNED:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert (found.loss_curve_, found.validation_scores_) == (wanted.loss_curve_, wanted.validation_scores_)
    assert (found.n_iter_, found.best_loss_, found._opt_step) == (wanted.n_iter_, wanted.best_loss_, wanted._opt_step)
    np.testing.assert_array_equal(found.predict(X), wanted.predict(X))


def assert_as_alone(models, pairs, weights=None, n_jobs=2):
    weights = [None] * len(models) if weights is None else weights
    wanted = [clone(m).fit(X, y, w) for m, (X, y), w in zip(models, pairs, weights, strict=True)]
    found = fit_many(models, [X for X, _ in pairs], [y for _, y in pairs], weights, n_jobs=n_jobs)
    assert all(a is b for a, b in zip(found, models, strict=True))
    for model, alone, (X, _) in zip(models, wanted, pairs, strict=True):
        assert_same_fit(model, alone, X)


@needs_jit
@pytest.mark.parametrize("n_jobs", [None, 3])
def test_each_fit_is_its_own(n_jobs, monkeypatch):
    """Lengths, seeds, rates, networks, losses, dtypes, weights and stopping rules of their own; in chunks of three."""
    monkeypatch.setattr(many, "CHUNK", 3)
    models = [
        small(0),
        small(1, learning_rate_init=0.01, max_iter=7),
        small(2, batch_size="auto"),
        small(3, loss="quantile"),
        small(4, dtype="float64", solver="sgd", alpha=1e-3),
        small(5, hidden_layer_sizes=(3, 2), linear_skip=True, window_norm="standard"),
        small(6, early_stopping=True, max_iter=20, n_iter_no_change=2),
        small(7, learning_rate="cosine", shuffle=False),
    ]
    pairs = [wave(i, n=60 + 7 * i, horizon=1 + i % 3) for i in range(8)]
    weights = [None if i % 2 else np.random.default_rng(i).uniform(0, 2, len(X)) for i, (X, _) in enumerate(pairs)]
    assert_as_alone(models, pairs, weights, n_jobs)


@needs_jit
def test_one_array_is_for_all():
    X, y = wave(1)
    models = fit_many([small(i) for i in range(3)], X, y)
    for i, model in enumerate(models):
        assert_same_fit(model, small(i).fit(X, y), X)


@needs_jit
def test_a_warm_start_goes_on():
    X, y = wave(2)
    models, alone = [small(i, warm_start=True) for i in range(2)], [small(i, warm_start=True) for i in range(2)]
    for _ in range(2):
        fit_many(models, X, y)
        for model in alone:
            model.fit(X, y)
    for found, wanted in zip(models, alone, strict=True):
        assert found.n_iter_ == 8
        assert_same_fit(found, wanted, X)


@needs_jit
def test_divergence_is_told_by_name_after_all_others_are_fitted():
    plain = {"solver": "sgd", "max_grad_norm": None, "max_iter": 30}
    models = [small(i, **plain, learning_rate_init=1e18 if i == 1 else 1e-3) for i in range(3)]
    X, y = wave(3)
    with pytest.raises(
        DivergedError, match=r"1 of 3 networks diverged, the others are fitted\. beta: training diverged"
    ):
        fit_many(models, X, y, names=["alpha", "beta", "gamma"])
    for i in (0, 2):
        assert_same_fit(models[i], clone(models[i]).fit(X, y), X)
    alone = clone(models[1])
    with pytest.raises(DivergedError):
        alone.fit(X, y)
    assert hasattr(models[1], "_params") == hasattr(alone, "_params")


@needs_jit
def test_bad_data_is_told_by_name_and_leaves_nothing_half_fitted():
    pairs = [wave(i) for i in range(3)]
    X = [pairs[0][0], np.full_like(pairs[1][0], np.nan), pairs[2][0]]
    models = [small(i) for i in range(3)]
    with pytest.raises(ValueError, match="NaN") as raised:
        fit_many(models, X, [y for _, y in pairs])
    assert raised.value.__notes__ == ["in the fit of estimator 1"]
    assert not any(hasattr(model, "_params") for model in models)


@needs_jit
def test_a_progress_line_is_written_all_the_same(capsys):
    X, y = wave(4)
    models = fit_many([small(0, verbose=1), small(1)], X, y)
    assert capsys.readouterr().err.count("epoch ") == 4
    for i, model in enumerate(models):
        assert_same_fit(model, small(i).fit(X, y), X)


def test_the_reference_implementation_goes_one_by_one():
    X, y = wave(5, n=20)
    settings = {"device": "reference", "dtype": "float64", "max_iter": 2}
    models = fit_many([small(i, **settings) for i in range(2)], X, y)
    for i, model in enumerate(models):
        assert_same_fit(model, small(i, **settings).fit(X, y), X)


def test_what_does_not_fit_together_is_refused():
    X, y = wave(6)
    with pytest.raises(TypeError, match="takes the networks of tsforecast"):
        fit_many([object()], X, y)
    one = small()
    with pytest.raises(ValueError, match="stands twice"):
        fit_many([one, one], X, y)
    with pytest.raises(DataError, match="X holds 1 entries for 2 estimators"):
        fit_many([small(), small()], [X], [y])
    with pytest.raises(DataError, match="names holds 1 names for 2"):
        fit_many([small(), small()], X, y, names=["a"])
    assert fit_many([], X, y) == []
