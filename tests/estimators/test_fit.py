"""What fit learns: same bits from 2-D and 3-D rows, weights as repetitions, standardising, resuming, stopping."""

import copy
import pickle

import numpy as np
import pytest
from estimator_cases import same_bits
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from tsforecast import BackendUnavailableError, DivergedError, NotEnoughHistoryError, load_model, sliding_windows
from tsforecast.backends.base import Windows
from tsforecast.backends.reference.backend import ReferenceBackend
from tsforecast.estimators._config import n_threads


def test_rows_of_two_and_three_dimensions_give_the_same_bits(small, rng):
    X, y = rng.normal(size=(20, 5, 3)), rng.normal(size=20)
    flat = small(n_features_per_step=3).fit(X.reshape(20, 15), y)
    cube = small().fit(X, y)
    assert same_bits(flat, cube)
    assert_array_equal(cube.predict(X), flat.predict(X.reshape(20, 15)))
    assert_array_equal(cube.predict(X.reshape(20, 15)), cube.predict(X))
    assert cube.n_features_in_ == flat.n_features_in_ == 15


def test_nested_lists_of_three_levels_are_windows(small, rng):
    X, y = rng.normal(size=(6, 4, 2)), rng.normal(size=6)
    assert same_bits(small().fit(X.tolist(), y.tolist()), small().fit(X, y))


def test_a_strided_view_of_a_series_gives_the_bits_of_its_copy(small, rng):
    X, y = sliding_windows(rng.normal(size=40).astype(np.float32), 6)
    assert same_bits(small().fit(X, y), small().fit(X.copy(), y.copy()))


def test_flat_buffers_give_the_bits_of_built_windows(small, rng):
    series = rng.normal(size=60)
    X, y = sliding_windows(series, 7, horizon=2)
    rows = np.arange(len(X))
    windows = Windows(series, rows, series, rows + 7, np.ones(len(X)))
    for params in ({"batch_size": 16}, {"batch_size": 16, "window_norm": "standard"}, {"batch_size": "auto"}):
        built = small(**params).fit(X, y)
        flat = small(**params)._fit_windows(windows, n_timesteps=7, n_features=1, n_outputs=2)
        assert same_bits(built, flat)
        assert_array_equal(built.predict(X), flat._predict_windows(series, rows))


@pytest.mark.parametrize("batch_size", ["auto", 40])
def test_a_weight_is_a_repetition(small, wave, batch_size):
    X, y = wave[0][:20], wave[1][:20]
    weight = np.arange(20) % 3
    model = small(batch_size=batch_size, dtype="float64")
    weighted = model.fit(X, y, sample_weight=weight).predict(X)
    repeated = model.fit(X.repeat(weight, axis=0), y.repeat(weight)).predict(X)
    assert_array_equal(weighted, repeated)


def test_the_order_of_rows_changes_no_bit_of_a_full_batch(small, wave, rng):
    X, y = wave
    order = rng.permutation(len(X))
    assert same_bits(small().fit(X, y), small().fit(X[order], y[order]))


def test_weights_move_the_fit_towards_the_heavy_rows(small, wave):
    X, y = wave
    y = np.where(np.arange(len(y)) < 35, 1.0, -1.0)
    heavy_first = np.where(np.arange(len(y)) < 35, 1.0, 0.01)
    assert small().fit(X, y, sample_weight=heavy_first).predict(X).mean() > 0.9
    assert small().fit(X, y, sample_weight=1.01 - heavy_first).predict(X).mean() < -0.9


def test_statistics_are_weighted_means_and_deviations(small, rng):
    X, y, weight = rng.normal(3, 2, size=(30, 4, 2)), rng.normal(-5, 0.1, size=(30, 3)), rng.uniform(0.1, 2, size=30)
    model = small().fit(X, y, sample_weight=weight)
    w = np.repeat(weight, 4)
    steps = X.reshape(-1, 2)
    mean = np.average(steps, axis=0, weights=w)
    assert_allclose(model._x_mean, mean, rtol=1e-13)
    assert_allclose(model._x_scale, np.sqrt(np.average((steps - mean) ** 2, axis=0, weights=w)), rtol=1e-13)
    assert_allclose(model._y_mean, np.average(y, axis=0, weights=weight), rtol=1e-13)


def test_predictions_follow_the_units_of_the_data(small, wave):
    X, y = wave
    plain = small(dtype="float64").fit(X, y).predict(X)
    scaled = small(dtype="float64").fit(1e6 + 1e3 * X, 50 + 4 * y)
    assert_allclose(scaled.predict(1e6 + 1e3 * X), 50 + 4 * plain, rtol=1e-9)


def test_a_large_offset_costs_no_precision(small, wave):
    X, y = wave
    offset = 2.0**30  # float32 alone would keep steps of 64
    a, b = small().fit(X, y), small().fit(X + offset, y + offset)
    assert_allclose(b.predict(X + offset) - offset, a.predict(X), atol=1e-5)


def test_a_constant_series_is_forecast_as_itself(small):
    X, y = np.full((30, 5), 7.25), np.full(30, 7.25)
    model = small(max_iter=60, learning_rate_init=0.02).fit(X, y)
    assert_allclose(model.predict(X), 7.25, atol=0.01)


def test_without_standardising_the_network_sees_raw_numbers(small, wave):
    X, y = wave
    raw = small(standardize=False, dtype="float64").fit(X, y)
    assert raw._x_mean is None
    by_hand = small(dtype="float64")
    z = (X - X.mean()) / X.std()
    by_hand.set_params(standardize=False).fit(z, (y - y.mean()) / y.std())
    standardised = small(dtype="float64").fit(X, y)
    assert_allclose(standardised.predict(X), by_hand.predict(z) * y.std() + y.mean(), rtol=1e-9)
    assert not np.allclose(raw.predict(X), standardised.predict(X))


def test_several_outputs_at_once(small, rng):
    series = np.sin(0.4 * np.arange(120))
    X, y = sliding_windows(series, 10, horizon=3)
    model = small(hidden_layer_sizes=12, max_iter=150, learning_rate_init=0.02, batch_size=25).fit(X, y)
    assert model.n_outputs_ == 3
    assert model.predict(X).shape == (len(X), 3)
    assert np.abs(model.predict(X) - y).max() < 0.25
    assert model.predict(X[:1]).shape == (1, 3)


def test_predictions_do_not_depend_on_the_other_rows(small, wave):
    X, y = wave
    model = small().fit(X, y)
    together = model.predict(X)
    assert_array_equal(np.concatenate([model.predict(X[i : i + 1]) for i in range(len(X))]), together)


@pytest.mark.parametrize(("given", "returned"), [("float32", "float32"), ("float64", "float64"), ("int64", "float64")])
def test_predictions_have_the_dtype_of_the_targets(small, wave, given, returned):
    X, y = wave
    assert small().fit(X, (10 * y).astype(given)).predict(X).dtype == returned


def test_continuing_is_the_same_as_training_in_one_go(small, wave):
    X, y = wave
    once = small(max_iter=6, batch_size=16).fit(X, y)
    twice = small(max_iter=3, batch_size=16, warm_start=True).fit(X, y).fit(X, y)
    assert same_bits(once, twice)
    assert twice.n_iter_ == 6
    assert twice.loss_curve_ == once.loss_curve_
    stepwise = small(batch_size=16)
    for _ in range(6):
        stepwise.partial_fit(X, y)
    assert same_bits(once, stepwise)


def test_without_warm_start_fit_forgets(small, wave):
    X, y = wave
    model = small().fit(X, y)
    first = copy.deepcopy(model)
    assert same_bits(model.fit(X, y), first)
    assert model.n_iter_ == 3


@pytest.mark.parametrize("wrong", [{"season_length": 99}, {"dilations": (99,)}, {"validation_fraction": 0.99}])
def test_a_fit_that_is_refused_leaves_the_one_before(small, wave, wrong):
    """Else forecasts would be those of the old weights on windows cut at the new length."""
    X, y = wave
    model = small().fit(X, y)
    expected = model.predict(X)
    with pytest.raises(ValueError, match=r"season_length|dilations|early_stopping"):
        model.set_params(early_stopping="validation_fraction" in wrong, **wrong).fit(X[:, :6], y)
    assert_array_equal(model.predict(X), expected)
    with pytest.raises(ValueError, match="X has 6 features"):
        model.predict(X[:, :6])


def test_a_file_from_before_networks_had_so_many_fields_trains_on(small, wave):
    X, y = wave
    model = small().fit(X, y)
    arrays, meta = model._model_state()
    first = ("n_timesteps", "n_features", "hidden_sizes", "n_outputs", "n_quantiles", "window_norm", "season_length",
             "linear_skip", "cell")  # fmt: skip
    older = type(model)._from_model_state(arrays, meta | {"network": {name: meta["network"][name] for name in first}})
    assert same_bits(older.partial_fit(X, y), model.partial_fit(X, y))


def test_warm_start_refuses_another_network(small, wave):
    X, y = wave
    model = small(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="warm_start=False"):
        model.set_params(hidden_layer_sizes=5).fit(X, y)


def test_partial_fit_refuses_early_stopping_and_other_widths(small, wave):
    X, y = wave
    with pytest.raises(ValueError, match="early_stopping=True"):
        small(early_stopping=True).partial_fit(X, y)
    model = small().partial_fit(X, y)
    with pytest.raises(ValueError, match="X has 7 features"):
        model.partial_fit(X[:, 1:], y)
    with pytest.raises(ValueError, match="y has 2 columns, but the model was fitted on 1"):
        model.partial_fit(X, np.column_stack([y, y]))


def test_early_stopping_holds_out_the_tail_behind_an_embargo(small, wave):
    X, y = wave  # 70 windows of 8 steps: 7 held out, 7 between, 56 trained on
    model = small(early_stopping=True, batch_size=56).fit(X, y)
    by_hand = small(early_stopping=True, batch_size=56).fit(X[:56], y[:56], X_val=X[63:], y_val=y[63:])
    assert same_bits(model, by_hand)
    changed = X.copy()
    changed[56:63] += 100.0  # the rows between belong to neither side
    assert same_bits(small(early_stopping=True, batch_size=56).fit(changed, y), model)


def test_the_embargo_covers_the_longer_of_window_and_horizon(small):
    X, y = sliding_windows(np.sin(np.arange(80.0)), 4, horizon=6)
    model = small(early_stopping=True, batch_size=64).fit(X, y)  # 71 windows: 8 held out, 5 between
    by_hand = small(early_stopping=True, batch_size=64).fit(X[:58], y[:58], X_val=X[63:], y_val=y[63:])
    assert same_bits(model, by_hand)


def test_early_stopping_keeps_the_weights_of_the_best_epoch(small, rng):
    X, y = rng.normal(size=(40, 5)), rng.normal(size=40)  # noise: learning it makes validation worse
    model = small(
        early_stopping=True, max_iter=200, learning_rate_init=0.05, n_iter_no_change=5, dtype="float64", batch_size=8
    )
    model.fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < model.n_iter_ < 200
    assert model.best_validation_score_ == max(model.validation_scores_)
    until_best = small(max_iter=best, learning_rate_init=0.05, dtype="float64", batch_size=8)
    assert same_bits(model, until_best.fit(X[:30], y[:30]))
    z = (model.predict(X[30:]) - y[30:]) / y[:30].std()
    assert_allclose(model.best_validation_score_, -np.mean(z**2), rtol=1e-12)


def test_early_stopping_says_when_rows_are_too_few(small, wave):
    with pytest.raises(NotEnoughHistoryError, match="7 rows between them, but X has 8 rows; pass X_val"):
        small(early_stopping=True).fit(wave[0][:8], wave[1][:8])


def test_validation_rows_need_early_stopping_and_each_other(small, wave):
    X, y = wave
    with pytest.raises(ValueError, match="set early_stopping=True"):
        small().fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="go together"):
        small(early_stopping=True).fit(X, y, X_val=X)


def test_quantiles_cover_their_share(small, rng):
    X = rng.uniform(-1, 1, size=(600, 3))
    y = X[:, 2] + rng.uniform(-1, 1, size=600)  # the 0.1 and 0.9 quantiles are x - 0.8 and x + 0.8
    model = small(loss="quantile", hidden_layer_sizes=6, max_iter=60, learning_rate_init=0.02, batch_size=64).fit(X, y)
    low, middle, high = model.predict_quantiles(X)[:, 0].T
    assert_array_equal(middle, model.predict(X))
    assert (low <= middle).all()
    assert (middle <= high).all()
    # A binomial share of 600 rows has a standard deviation of 0.012; the fit is not converged: three percent each way.
    assert np.mean(y < low) == pytest.approx(0.1, abs=0.04)
    assert np.mean(y < high) == pytest.approx(0.9, abs=0.04)
    assert np.abs(low - (X[:, 2] - 0.8)).mean() < 0.15


def test_quantiles_of_several_outputs_stand_side_by_side(small, rng):
    X = rng.normal(size=(80, 4))
    y = np.column_stack([rng.normal(0, 1, 80), rng.normal(100, 5, 80)])
    model = small(loss="quantile", quantiles=(0.25, 0.6), max_iter=30, learning_rate_init=0.05).fit(X, y)
    out = model.predict_quantiles(X)
    assert out.shape == (80, 2, 2)
    assert (out[:, 1] > 80).all()
    assert (np.abs(out[:, 0]) < 5).all()
    assert_array_equal(model.predict(X), out[:, :, 1])  # 0.6 is nearer to the middle
    with pytest.raises(ValueError, match='loss="quantile"'):
        small().fit(X, y).predict_quantiles(X)


@pytest.mark.parametrize("params", [{}, {"loss": "quantile"}, {"window_norm": "standard", "season_length": 4}])
def test_files_and_pickles_give_back_the_same_model(small, wave, tmp_path, params):
    X, y = wave
    model = small(early_stopping=True, warm_start=True, **params).fit(X, y)
    model.save(tmp_path / "model.tsf")
    for other in (load_model(tmp_path / "model.tsf"), pickle.loads(pickle.dumps(model))):
        assert other.get_params() == model.get_params()
        assert_array_equal(other.predict(X), model.predict(X))
        for name in ("n_iter_", "loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
            assert getattr(other, name) == getattr(model, name)
        assert same_bits(other.fit(X, y), copy.deepcopy(model).fit(X, y))  # training goes on alike


def test_divergence_leaves_a_new_model_unfitted_and_an_old_one_as_it_was(small, wave):
    X, y = wave
    wild = {"solver": "sgd", "max_grad_norm": None, "learning_rate_init": 1e30, "batch_size": 16}
    model = small(**wild)
    with pytest.raises(DivergedError, match="Lower learning_rate_init"):
        model.fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    model = small(warm_start=True).fit(X, y)
    before = copy.deepcopy(model)
    with pytest.raises(DivergedError):
        model.set_params(**wild).fit(X, y)
    assert same_bits(model, before)
    assert model.n_iter_ == 3


def test_a_fit_that_ends_no_epoch_leaves_an_earlier_one_as_it_was(small, wave, monkeypatch):
    X, y = wave

    def refuses(*args, **kwargs):
        raise BackendUnavailableError("no kernels")

    model = small(learn_initial_state=True).fit(X, y)
    before = copy.deepcopy(model)
    monkeypatch.setattr(ReferenceBackend, "train_epoch", refuses)
    with pytest.raises(BackendUnavailableError):
        model.set_params(learn_initial_state=False).fit(X[:, 1:], y[:, None])
    assert same_bits(model, before)
    assert vars(model).keys() == vars(before).keys()
    assert_array_equal(model.predict(X), before.predict(X))


def test_an_interrupted_fit_can_go_on(small, wave, monkeypatch):
    X, y = wave
    once = small(max_iter=5, batch_size=16).fit(X, y)
    model = small(max_iter=5, batch_size=16, warm_start=True)
    original, calls = ReferenceBackend.train_epoch, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            args[3].params[:] += 1  # in the middle of an epoch
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(ReferenceBackend, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.n_iter_ == 2
    assert same_bits(model.set_params(max_iter=3).fit(X, y), once)


def test_the_random_state_is_drawn_in_fit(small, wave):
    X, y = wave
    state = np.random.RandomState(3)
    model = small(random_state=state).fit(X, y)
    untouched = np.random.RandomState(3)
    untouched.randint(np.iinfo(np.int32).max)
    assert state.randint(1000) == untouched.randint(1000)  # fit has drawn one number, __init__ none
    assert same_bits(small(random_state=np.random.RandomState(3)).fit(X, y), model)
    assert not same_bits(small(random_state=4).fit(X, y), small(random_state=5).fit(X, y))


def test_negative_n_jobs_count_from_all_processors(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [n_threads(n) for n in (None, 1, 3, -1, -2, -20)] == [1, 1, 3, 8, 7, 1]


@pytest.mark.needs_jit
def test_threads_change_no_bit(small, wave):
    X, y = wave
    models = [small(device="cpu", n_jobs=n, batch_size=24).fit(X, y) for n in (None, 2, 3, -1)]
    assert all(same_bits(models[0], other) for other in models[1:])


@pytest.mark.needs_jit
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-4)])
def test_compiled_kernels_learn_what_the_reference_learns(small, wave, dtype, tolerance):
    # float32: 20 epochs of 5 steps let rounding of 6e-8 grow by three orders of magnitude.
    X, y = wave
    models = [small(device=d, dtype=dtype, max_iter=20, batch_size=16).fit(X, y) for d in ("cpu", "reference")]
    assert_allclose(models[0].predict(X), models[1].predict(X), atol=tolerance)
    assert_allclose(models[0].loss_curve_, models[1].loss_curve_, rtol=tolerance)


def test_verbose_writes_one_line_an_epoch_to_stderr(small, wave, capsys):
    small(verbose=1, early_stopping=True).fit(*wave)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["epoch 1", "epoch 2", "epoch 3"]
    assert "validation score -" in err


def test_a_gradient_may_end_within_the_window(small, wave):
    X, y = wave
    whole = small().fit(X, y)
    for steps in (8, 1000):
        np.testing.assert_array_equal(small(bptt_steps=steps).fit(X, y)._params, whole._params)
    assert (small(bptt_steps=3).fit(X, y)._params != whole._params).any()
