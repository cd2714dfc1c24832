"""Training of which nothing comes, refused, diverged or interrupted, leaves everything as it was, to the bit."""

import copy

import numpy as np
import pandas as pd
import pytest

from tsforecast import (
    BackendUnavailableError,
    DivergedError,
    Forecaster,
    GRURegressor,
    LSTMRegressor,
    WindowRegressor,
    fit_many,
)
from tsforecast.backends.cuda import availability
from tsforecast.backends.reference.backend import ReferenceBackend

SPAN = np.arange(60)
NAMED = pd.DataFrame({f"lag{k}": np.sin(SPAN - k) for k in (1, 2, 3, 4)})
OTHERS = np.random.default_rng(1).normal(size=(50, 6))  # another width, no names, another horizon
WILD = {"solver": "sgd", "max_grad_norm": None, "learning_rate_init": 1e30}


def long_frame(n=40):
    parts = [pd.DataFrame({"unique_id": name, "ds": np.arange(n), "y": np.sin(np.arange(n) + len(name))}) for name in
             ("a", "bb", "ccc")]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def inside(value):
    """Everything that a value holds, as something that ``==`` compares to the bit."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, (float, np.floating)):
        return type(value).__name__, np.float64(value).tobytes()
    if isinstance(value, dict):
        return {name: inside(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return type(value).__name__, [inside(part) for part in value]
    if type(value).__module__.startswith("tsforecast"):
        return type(value).__name__, inside(vars(value))
    return type(value).__name__, str(value)


@pytest.fixture(params=["refused", "interrupted", "diverged", "refused by the validation"])
def broken(request, monkeypatch):
    """Break the first epoch from now on; returns the error to expect."""
    errors = {"interrupted": KeyboardInterrupt, "diverged": DivergedError}
    error = errors.get(request.param, BackendUnavailableError)

    def breaks(_backend, _spec, _rule, state, *_rest):
        if isinstance(state, np.ndarray):  # the weights, of ``evaluate``
            raise error("no kernels")
        state.params[:] += 1
        state.step += 1
        if request.param != "refused by the validation":
            raise error("no kernels")
        return 0.5

    def break_it():
        monkeypatch.setattr(ReferenceBackend, "train_epoch", breaks)
        monkeypatch.setattr(ReferenceBackend, "evaluate", breaks)
        return error

    break_it.with_validation = request.param == "refused by the validation"
    return break_it


def fitted_and_not(small, **params):
    """An estimator of each past: never fitted, fitted, to be gone on with, fitted on rows with names."""
    y = SPAN * 1.0
    yield small(**params)
    yield small(**params).fit(OTHERS, np.ones((50, 2)))
    yield small(warm_start=True, **params).fit(NAMED, y[:, None])
    yield small(**params).fit(NAMED, y)


WAYS_IN = {
    "fit": lambda model: model.fit(NAMED, SPAN),
    "partial_fit": lambda model: model.partial_fit(NAMED, SPAN),
    "fit_many": lambda model: fit_many([clean(), model, clean()], NAMED, SPAN),
    "fit_many, watched": lambda model: fit_many([clean(), model.set_params(verbose=1)], NAMED, SPAN),
}


def clean():
    return LSTMRegressor(2, max_iter=1, device="reference", random_state=0)


@pytest.mark.parametrize("way", WAYS_IN)
def test_an_estimator_stays_as_it_was(small, broken, way):
    if broken.with_validation and way == "partial_fit":
        pytest.skip("partial_fit knows no validation")
    models = list(fitted_and_not(small, early_stopping=broken.with_validation, validation_fraction=0.3))
    error = broken()
    for model in models:
        if way == "partial_fit" and getattr(model, "n_features_in_", 4) == 6:
            continue  # refuses the rows
        if way == "fit_many, watched":
            model.set_params(verbose=1)
        before = inside(vars(model))
        with pytest.raises(error):
            WAYS_IN[way](model)
        assert inside(vars(model)) == before


def test_every_estimator_of_a_chunk_stays_as_it_was(small, broken):
    models = [*fitted_and_not(small, early_stopping=broken.with_validation, validation_fraction=0.3)]
    before = [inside(vars(model)) for model in models]
    error = broken()
    with pytest.raises(error):
        fit_many(models, NAMED, SPAN)
    assert [inside(vars(model)) for model in models] == before


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"dtype": "float16"}, ValueError),
        ({"device": "cuda"}, BackendUnavailableError),
        ({"learning_rate_init": -1}, ValueError),
        ({"hidden_layer_sizes": 3}, ValueError),
        ({"early_stopping": True, "validation_fraction": 0.99}, ValueError),
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_one_that_is_refused_is_named_and_costs_no_earlier_fit(small, monkeypatch, settings, error, watched):
    monkeypatch.setattr(availability, "is_simulated", lambda: False)
    monkeypatch.setattr(availability, "problem_of_gpu", lambda: "there is none")
    models = [*fitted_and_not(small)]
    models[2].set_params(**settings, verbose=int(watched))
    before = [inside(vars(model)) for model in models]
    with pytest.raises(error) as raised:
        fit_many(models, NAMED, SPAN)
    assert raised.value.__notes__ == ["in the fit of estimator 2"]
    assert [inside(vars(model)) for model in models] == before


def test_what_ended_before_the_interrupt_is_kept(small, monkeypatch):
    """The first is done, the second has ended one epoch, the third none."""
    original, calls = ReferenceBackend.train_epoch, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 5:
            args[3].params[:] += 1  # in the middle of an epoch
            raise KeyboardInterrupt
        return original(*args)

    models = [small(random_state=i, warm_start=True) for i in range(3)]
    models[2].fit(OTHERS, np.ones(50))
    before = inside(vars(models[2].set_params(warm_start=False)))
    monkeypatch.setattr(ReferenceBackend, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_many(models, NAMED, SPAN)
    assert [model.n_iter_ for model in models[:2]] == [3, 1]
    assert inside(vars(models[2])) == before
    once = [small(random_state=i, warm_start=True, max_iter=3 + i) for i in range(2)]
    fit_many(once, NAMED, SPAN)
    assert inside(models[0]._params) == inside(once[0]._params)
    models[1].fit(NAMED, SPAN)  # goes on with three epochs more
    assert inside(models[1]._params) == inside(once[1]._params)


def test_an_interrupt_between_epoch_and_validation_leaves_the_epoch_before(small, monkeypatch):
    original, calls = ReferenceBackend.evaluate, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    rows = {"X_val": NAMED[:20], "y_val": SPAN[:20]}
    settings = {"early_stopping": True, "warm_start": True, "learning_rate_init": 0.1}
    monkeypatch.setattr(ReferenceBackend, "evaluate", interrupted)
    model = small(**settings)
    with pytest.raises(KeyboardInterrupt):
        model.fit(NAMED[:40], SPAN[:40], **rows)
    assert len(model.loss_curve_) == len(model.validation_scores_) == model._opt_step == model.n_iter_ == 2
    once = small(**settings, max_iter=2).fit(NAMED[:40], SPAN[:40], **rows)
    assert once.validation_scores_[1] > once.validation_scores_[0]  # the last weights are the best ones
    assert inside(model._params) == inside(once._params)


def window_regressors():
    network = LSTMRegressor(2, max_iter=1, device="reference", random_state=0)
    yield WindowRegressor(network, n_timesteps=3)
    yield WindowRegressor(network, n_timesteps=3).fit(NAMED, SPAN).set_params(n_timesteps=5)
    yield WindowRegressor(network, n_timesteps=3, horizon=2).fit(OTHERS, np.ones((50, 2)))


def test_a_window_regressor_stays_as_it_was(broken):
    models = list(window_regressors())
    if broken.with_validation:
        for model in models:
            model.estimator.set_params(early_stopping=True, validation_fraction=0.3)
    error = broken()
    for model in models:
        before = inside(vars(model))
        with pytest.raises(error):
            model.fit(NAMED, SPAN)
        assert inside(vars(model)) == before
        with pytest.raises(ValueError, match="NaN"):
            model.fit(NAMED.where(NAMED > 0), SPAN)
        assert inside(vars(model)) == before


@pytest.mark.parametrize("scope", ["global", "local"])
def test_a_forecaster_stays_as_it_was(broken, scope):
    network = LSTMRegressor(2, max_iter=2, device="reference", early_stopping=broken.with_validation)
    never = Forecaster(network, horizon=2, n_timesteps=4, random_state=0, scope=scope)
    once = copy.deepcopy(never).fit(long_frame())
    error = broken()
    for model in (never, once):
        before = inside(vars(model))
        if (error, scope) == (DivergedError, "local"):
            pytest.skip("a series whose training diverges is forecast by its last season repeated")
        with pytest.raises(error):
            model.fit(long_frame(50))
        assert inside(vars(model)) == before
    with pytest.raises(ValueError, match="series 'd'"):
        once.update(pd.DataFrame({"unique_id": "d", "ds": [0, 1], "y": [1.0, np.nan]}))
    assert inside(vars(once)) == before


def test_networks_that_the_compiled_backend_refuses_together_stay_as_they_were():
    """Refused by the backend itself, with the first ones of their chunk trained: these are kept."""
    common = {"n_features_per_step": 2, "max_iter": 1, "device": "reference", "random_state": 0}
    refused = [GRURegressor(2, layer_norm=True, **common) for _ in range(3)]
    models = [LSTMRegressor(2, **common), *refused]
    fit_many(models[1:3], OTHERS, np.ones(50))
    for model in refused:
        model.set_params(recurrent_dropout=0.2, device="cpu")
    before = [inside(vars(model)) for model in refused]
    with pytest.raises(ValueError, match="has no recurrent_dropout= for the cell") as raised:
        fit_many(models, NAMED, SPAN)
    assert raised.value.__notes__ == ["in the fit of estimator 1 and 2 like it"]
    assert [inside(vars(model)) for model in refused] == before
    assert models[0].n_iter_ == 1
