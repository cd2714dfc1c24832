"""The training loop on a real small problem, and its stopping rules on scripted losses."""

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.reference.shuffle import epoch_order
from tsforecast.exceptions import DivergedError
from tsforecast.nn.initializers import init_params
from tsforecast.nn.trainer import TrainConfig, train
from tsforecast.spec import NetworkSpec

REFERENCE = get_backend("reference")
SPEC = NetworkSpec(6, 1, (4,), 1)
FAST = StepRule(solver="adam", max_grad_norm=1.0)


def sine_windows(n_rows, noise=0.0, start=0):
    series = np.sin(0.7 * np.arange(start, start + n_rows + 6))
    series += noise * np.random.default_rng(1).normal(size=len(series))
    starts = np.arange(n_rows, dtype=np.int64)
    return Windows(series, starts, series, starts + 6, np.ones(n_rows))


def config(**settings):
    defaults = {"rule": FAST, "learning_rate_init": 0.02, "batch_size": 8, "max_iter": 12, "tol": 0.0}
    return TrainConfig(**(defaults | settings))


def fresh_state():
    return TrainState(init_params(SPEC, 0, np.float64))


class Scripted:
    """A backend whose losses are written down beforehand; it counts epochs in the weights."""

    name = "scripted"

    def __init__(self, losses, val_losses=()):
        self.losses, self.val_losses = list(losses), list(val_losses)
        self.epoch = 0
        self.calls = []

    def train_epoch(self, *call):
        _, _, state, _, order, batch_size, learning_rates, n_jobs = call
        loss = self.losses[self.epoch]
        self.epoch += 1
        self.calls.append((order, batch_size, learning_rates, n_jobs))
        state.params += 1.0
        state.m += 1.0
        state.v += 1.0
        state.step += len(learning_rates)
        return loss

    def evaluate(self, *_):
        return self.val_losses[self.epoch - 1]


def scripted_run(losses, val_losses=(), n_rows=20, **settings):
    backend, state, windows = Scripted(losses, val_losses), TrainState(np.zeros(SPEC.n_params)), sine_windows(n_rows)
    val = sine_windows(4) if len(val_losses) else None
    history = train(backend, SPEC, config(max_iter=len(losses), **settings), state, windows, val=val)
    return history, state, backend


def test_training_learns_a_sine():
    windows, state = sine_windows(80), fresh_state()
    history = train(REFERENCE, SPEC, config(max_iter=60), state, windows)
    assert history.n_iter == len(history.loss_curve) == 60
    assert history.stopped_by == "max_iter"
    assert history.best_loss == min(history.loss_curve)
    assert history.validation_scores is None
    assert history.best_validation_score is None
    # The variance of the targets is 0.5; a 4-unit LSTM explains almost all of it, on rows it has not seen as well.
    assert history.loss_curve[0] > 0.2
    assert REFERENCE.evaluate(SPEC, FAST, state.params, sine_windows(80, start=500), 1) < 0.01
    assert state.step == 60 * 10


def test_same_seed_same_bits_and_another_seed_others():
    results = []
    for seed in (3, 3, 4):
        state = fresh_state()
        train(REFERENCE, SPEC, config(max_iter=3), state, sine_windows(30), seed=seed)
        results.append(state.params)
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential", "step"])
def test_training_in_two_calls_is_training_in_one(schedule):
    settings = config(learning_rate=schedule, lr_step_size=2, max_iter=6)
    whole, parts = fresh_state(), fresh_state()
    history = train(REFERENCE, SPEC, settings, whole, sine_windows(30), seed=5)
    first = train(REFERENCE, SPEC, settings, parts, sine_windows(30), seed=5, n_epochs=4)
    second = train(REFERENCE, SPEC, settings, parts, sine_windows(30), seed=5, first_epoch=4, n_epochs=2)
    np.testing.assert_array_equal(parts.params, whole.params)
    assert first.loss_curve + second.loss_curve == history.loss_curve


def test_early_stopping_keeps_the_weights_of_the_best_epoch():
    windows, val, seen = sine_windows(40, noise=0.5), sine_windows(30, noise=0.5, start=200), []
    state = fresh_state()

    def remember(epoch, loss, score):
        seen.append((score, state.params.copy()))

    settings = config(max_iter=300, learning_rate_init=0.05, n_iter_no_change=5)
    history = train(REFERENCE, SPEC, settings, state, windows, val=val, on_epoch=remember)
    best = int(np.argmax(history.validation_scores))
    assert history.stopped_by == "validation"
    assert best < history.n_iter - 1 == best + 6
    assert history.best_validation_score == history.validation_scores[best]
    np.testing.assert_array_equal(state.params, seen[best][1])
    assert -REFERENCE.evaluate(SPEC, FAST, state.params, val, 1) == history.best_validation_score


def test_best_weights_are_kept_when_epochs_run_out_too():
    history, state, _ = scripted_run([5, 4, 3, 2], val_losses=[3.0, 1.0, 2.0, 2.0])
    assert history.stopped_by == "max_iter"
    assert history.validation_scores == [-3.0, -1.0, -2.0, -2.0]
    assert (state.params == 2.0).all()


def test_validation_loss_that_is_not_a_number_is_no_progress():
    history, state, _ = scripted_run([1.0] * 9, val_losses=[0.5, *[np.nan] * 8], n_iter_no_change=3)
    assert (history.stopped_by, history.n_iter) == ("validation", 5)
    assert history.best_validation_score == -0.5
    assert (state.params == 1.0).all()


@pytest.mark.parametrize("val_loss", [np.nan, np.inf])
def test_without_any_finite_validation_loss_the_last_weights_stay(val_loss):
    history, state, _ = scripted_run([1.0] * 9, val_losses=[val_loss] * 9, n_iter_no_change=20)
    assert history.best_validation_score is None
    assert (state.params == 9.0).all()


@pytest.mark.parametrize("tol", [0.0, 0.1])
def test_progress_smaller_than_tol_counts_as_none(tol):
    losses = 2.0 - 0.05 * np.arange(20)
    history, state, _ = scripted_run(losses, tol=tol, n_iter_no_change=3)
    assert (history.stopped_by, history.n_iter) == (("max_iter", 20) if tol == 0.0 else ("tol", 5))
    assert (state.params == history.n_iter).all()


def test_progress_of_exactly_tol_is_progress():
    history, _, _ = scripted_run(8.0 - 0.25 * np.arange(20), tol=0.25, n_iter_no_change=1)
    assert (history.stopped_by, history.n_iter) == ("max_iter", 20)


def fitted_mlp(**settings):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(120, 3))
    y = X[:, 0] * X[:, 1] + 0.3 * rng.normal(size=120)
    mlp = MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.02, max_iter=2000, random_state=0, **settings)
    return mlp.fit(X, y)


@pytest.mark.parametrize("n_iter_no_change", [1, 4])
@pytest.mark.parametrize("tol", [1e-4, 3e-3])
def test_stops_where_mlp_regressor_stops(tol, n_iter_no_change):
    rule = {"tol": tol, "n_iter_no_change": n_iter_no_change}
    mlp = fitted_mlp(**rule)
    history, _, _ = scripted_run([*mlp.loss_curve_, *[9.0] * 20], **rule)
    assert history.stopped_by == "tol"
    assert history.loss_curve == mlp.loss_curve_
    assert history.best_loss == mlp.best_loss_


@pytest.mark.parametrize("n_iter_no_change", [2, 6])
def test_stops_early_where_mlp_regressor_does(n_iter_no_change):
    rule = {"tol": 1e-3, "n_iter_no_change": n_iter_no_change}
    mlp = fitted_mlp(early_stopping=True, **rule)
    scores = [float(score) for score in mlp.validation_scores_]
    losses = np.linspace(3, 1, len(scores) + 20)
    history, _, _ = scripted_run(losses, val_losses=[*np.negative(scores), *[9.0] * 20], **rule)
    assert history.stopped_by == "validation"
    assert history.validation_scores == scores
    assert history.best_validation_score == mlp.best_validation_score_


def test_callback_sees_every_epoch_and_can_stop():
    seen = []

    def stop_at_second(*epoch):
        seen.append(epoch)
        return len(seen) == 2

    backend, state = Scripted([3.0, 2.0, 1.0]), fresh_state()
    history = train(backend, SPEC, config(), state, sine_windows(9), first_epoch=40, on_epoch=stop_at_second)
    assert seen == [(40, 3.0, None), (41, 2.0, None)]
    assert (history.stopped_by, history.n_iter) == ("callback", 2)


def test_backend_gets_every_row_once_and_a_rate_for_every_batch():
    _, _, backend = scripted_run([3.0, 2.0], n_rows=21, batch_size=8, n_jobs=2, learning_rate="step", lr_step_size=1)
    for epoch, (order, batch_size, rates, n_jobs) in enumerate(backend.calls):
        np.testing.assert_array_equal(np.sort(order), np.arange(21))
        np.testing.assert_array_equal(order, epoch_order(21, 0, epoch))
        np.testing.assert_allclose(rates, np.full(3, 0.02 * 0.95**epoch), rtol=1e-14)
        assert (batch_size, n_jobs) == (8, 2)
        assert order.dtype == np.int64
    _, _, backend = scripted_run([3.0], n_rows=21, shuffle=False)
    np.testing.assert_array_equal(backend.calls[0][0], np.arange(21))


def test_row_orders_of_epochs_and_seeds_have_nothing_in_common():
    orders = {tuple(epoch_order(200, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    # Shifted streams would repeat swaps: between independent orders, one row in 200 stays in place on average.
    same = [np.count_nonzero(epoch_order(200, 0, e) == epoch_order(200, 0, e + 1)) for e in range(100)]
    assert np.mean(same) == pytest.approx(1.0, abs=4 / np.sqrt(100))


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_divergence_leaves_the_last_finite_epoch(loss):
    backend, state = Scripted([3.0, 2.0, loss]), TrainState(np.zeros(SPEC.n_params))
    with pytest.raises(DivergedError, match=r"diverged in epoch 3 .*Lower learning_rate_init"):
        train(backend, SPEC, config(), state, sine_windows(16))
    assert (state.params == 2.0).all()
    assert (state.m == 2.0).all()
    assert (state.v == 2.0).all()
    assert state.step == 4


def test_weights_that_are_not_finite_after_a_finite_loss_are_divergence():
    class Overflowing(Scripted):
        def train_epoch(self, spec, rule, state, *rest):
            loss = super().train_epoch(spec, rule, state, *rest)
            if self.epoch == 2:
                state.params[0] = np.inf
            return loss

    state = TrainState(np.zeros(SPEC.n_params))
    with pytest.raises(DivergedError, match="epoch 2"):
        train(Overflowing([3.0, 2.0]), SPEC, config(), state, sine_windows(16))
    assert (state.params == 1.0).all()


def test_a_real_run_that_explodes_keeps_finite_weights():
    state, curve = fresh_state(), []
    rule = StepRule(solver="sgd", momentum=0.0, nesterov=False, max_grad_norm=None)
    settings = config(rule=rule, learning_rate_init=1e200)
    with pytest.raises(DivergedError):
        train(REFERENCE, SPEC, settings, state, sine_windows(16), on_epoch=lambda *epoch: curve.append(epoch[1]))
    assert np.isfinite(state.params).all()
    assert np.isfinite(curve).all()
