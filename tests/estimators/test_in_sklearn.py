"""A regressor among scikit-learn's own tools: pipelines, searches, splits, clones, routing, callbacks."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from estimator_cases import same_bits
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from tsforecast import BackendUnavailableError, fit_many
from tsforecast.backends.reference.backend import ReferenceBackend

HAS_CALLBACKS = hasattr(sklearn, "callback") or tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 9)
needs_callbacks = pytest.mark.skipif(not HAS_CALLBACKS, reason="sklearn.callback came with scikit-learn 1.9")


def test_cross_validation_in_time_is_fit_and_predict_by_hand(small, wave):
    X, y = wave
    splits = TimeSeriesSplit(3)
    scores = cross_val_score(small(), X, y, cv=splits)
    by_hand = [r2_score(y[test], small().fit(X[train], y[train]).predict(X[test])) for train, test in splits.split(X)]
    assert_array_equal(scores, by_hand)
    assert_array_equal(cross_val_score(small(), X[:, :, None], y, cv=splits), scores)  # (n, T, F) splits alike


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_finds_what_single_fits_find(small, wave, n_jobs):
    X, y = wave
    grid = {"model__hidden_layer_sizes": [2, (3, 3)], "model__learning_rate_init": [1e-3, 0.03]}
    pipeline = Pipeline([("scale", StandardScaler()), ("model", small())])
    search = GridSearchCV(pipeline, grid, cv=TimeSeriesSplit(2), n_jobs=n_jobs, error_score="raise").fit(X, y)
    for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        one = cross_val_score(clone(pipeline).set_params(**params), X, y, cv=TimeSeriesSplit(2))
        assert one.mean() == score
    assert search.best_params_["model__learning_rate_init"] == 0.03
    assert search.predict(X).shape == y.shape


def test_a_pipeline_is_its_steps_in_turn(small, wave):
    X, y = wave
    pipeline = make_pipeline(StandardScaler(), small()).fit(X, y)
    scaler = StandardScaler().fit(X)
    assert same_bits(pipeline[-1], small().fit(scaler.transform(X), y))


def test_transformed_targets(small, wave):
    X, y = wave
    model = TransformedTargetRegressor(small(), func=np.exp, inverse_func=np.log).fit(X, y)
    assert_allclose(model.predict(X), np.log(small().fit(X, np.exp(y)).predict(X)), rtol=1e-12)


def test_clones_share_parameters_and_nothing_learned(small, wave):
    model = small(quantiles=[0.2, 0.8], hidden_layer_sizes=[3, 2]).fit(*wave)
    other = clone(model)
    assert other.get_params() == model.get_params()
    assert not hasattr(other, "_params")
    assert not hasattr(other, "n_features_in_")
    assert same_bits(other.fit(*wave), model)


def test_feature_names_are_kept_and_compared(small, wave):
    X, y = wave
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(8)])
    model = small().fit(frame, y)
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"x0": "other"}))
    assert not hasattr(model.fit(X, y), "feature_names_in_")


def test_tags_say_three_dimensions_and_several_outputs(small):
    tags = get_tags(small())
    assert tags.input_tags.two_d_array
    assert tags.input_tags.three_d_array
    assert tags.target_tags.multi_output
    assert not tags.regressor_tags.poor_score
    assert not tags.non_deterministic


def test_validation_rows_are_routed(small, wave):
    X, y = wave
    with sklearn.config_context(enable_metadata_routing=True):
        model = small(early_stopping=True).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("model", model)], transform_input=["X_val"])
        pipeline.fit(X[:50], y[:50], X_val=X[50:], y_val=y[50:])
    scaler = StandardScaler().fit(X[:50])
    by_hand = small(early_stopping=True)
    by_hand.fit(scaler.transform(X[:50]), y[:50], X_val=scaler.transform(X[50:]), y_val=y[50:])
    assert same_bits(pipeline[-1], by_hand)


def test_sample_weights_are_routed_through_a_search(small, wave):
    X, y = wave
    weight = np.linspace(0.1, 1, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        model = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"max_iter": [2]}, cv=TimeSeriesSplit(2)).fit(X, y, sample_weight=weight)
    assert same_bits(search.best_estimator_, small(max_iter=2).fit(X, y, sample_weight=weight))


class Recorder:
    """A callback that notes losses on the training rows and stops after ``stop_after`` epochs."""

    def __init__(self, stop_after=10**9):
        self.stop_after, self.begun, self.seen, self.log = stop_after, 0, [], []

    def setup(self, estimator, context):
        self.log.append("setup")

    def teardown(self, estimator, context):
        self.log.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun += context.task_name == "epoch"

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        if context.task_name != "epoch" or fitted_estimator is None:
            return False
        self.seen.append(fitted_estimator.predict(X))
        return len(self.seen) >= self.stop_after


@needs_callbacks
def test_callbacks_see_the_model_of_every_epoch(small, wave):
    X, y = wave
    recorder = Recorder()
    model = small(max_iter=4).set_callbacks(recorder).fit(X, y)
    assert len(recorder.seen) == recorder.begun == 4
    for epoch, seen in enumerate(recorder.seen, start=1):
        assert_array_equal(seen, small(max_iter=epoch).fit(X, y).predict(X))
    assert recorder.log == ["setup", "teardown"]
    assert same_bits(model, small(max_iter=4).fit(X, y))


@needs_callbacks
def test_a_callback_stops_training(small, wave):
    recorder = Recorder(stop_after=2)
    model = small(max_iter=50).set_callbacks(recorder).fit(*wave)
    assert model.n_iter_ == 2
    assert same_bits(model, small(max_iter=2).fit(*wave))


@needs_callbacks
def test_every_begun_epoch_is_ended_when_training_stops_by_itself(small, wave):
    recorder = Recorder()
    model = small(max_iter=50, tol=10.0, n_iter_no_change=2).set_callbacks(recorder).fit(*wave)
    assert model.n_iter_ < 50
    assert len(recorder.seen) == model.n_iter_
    assert recorder.log == ["setup", "teardown"]


@needs_callbacks
@pytest.mark.parametrize("way", ["fit", "fit_many"])
def test_callbacks_end_also_where_training_is_refused(small, wave, monkeypatch, way):
    def refuses(*_):
        raise BackendUnavailableError("no kernels")

    X, y = wave
    recorder = Recorder()
    model = small().set_callbacks(recorder)
    train = model.fit if way == "fit" else lambda X, y: fit_many([model], X, y)
    train(X, y)
    assert recorder.log == ["setup", "teardown"]
    before = vars(model).copy()
    monkeypatch.setattr(ReferenceBackend, "train_epoch", refuses)
    with pytest.raises(BackendUnavailableError):
        train(X, y)
    assert recorder.log == ["setup", "teardown"] * 2
    assert vars(model) == before


@needs_callbacks
def test_scores_of_every_epoch_of_every_fold(small, wave):
    from sklearn.callback import ScoringMonitor

    X, y = wave
    monitor = ScoringMonitor(scoring="r2")
    model = small().set_callbacks(monitor)
    folds = TimeSeriesSplit(2)
    GridSearchCV(model, {"learning_rate_init": [1e-3, 0.01]}, cv=folds, n_jobs=2, refit=False).fit(X, y)
    frame = monitor.get_logs().data_as_pandas
    epochs = frame[frame.task_name == "epoch"]
    assert len(epochs) == 2 * 2 * 3  # learning rates, folds, epochs
    train = next(folds.split(X))[0]
    by_hand = [small(max_iter=n).fit(X[train], y[train]).score(X[train], y[train]) for n in (1, 2, 3)]
    assert_allclose(epochs.r2[:3], by_hand, rtol=1e-12)


@pytest.mark.skipif(HAS_CALLBACKS, reason="for scikit-learn before 1.9")
def test_callbacks_need_a_new_scikit_learn(small):
    model = small()
    assert model.set_callbacks() is model
    with pytest.raises(ImportError, match=r"1\.9"):
        model.set_callbacks(Recorder())
