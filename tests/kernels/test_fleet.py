"""Networks trained by the fleet kernel against the same networks trained one by one, to the bit."""

import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import network, series_windows, step_rule

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.cpu import fleet
from tsforecast.backends.cpu.jit import JIT_DISABLED
from tsforecast.cells import CELLS
from tsforecast.exceptions import DivergedError
from tsforecast.nn.fleet import TrainJob, _member, train_many
from tsforecast.nn.initializers import init_params
from tsforecast.nn.trainer import TrainConfig, train
from tsforecast.spec import NetworkSpec

CPU = get_backend("cpu")
SPEC = NetworkSpec(5, 1, (4,), 2)
FAST = StepRule(solver="adam")


def walk(seed, n_rows, spec=SPEC, dtype=np.float32, scale=1.0):
    """Windows over a random walk of its own."""
    rng = np.random.default_rng(seed)
    series = (scale * np.cumsum(rng.normal(size=n_rows + spec.n_timesteps + spec.n_outputs - 1))).astype(dtype)
    starts = np.arange(n_rows, dtype=np.int64)
    return Windows(series, starts, series, starts + spec.n_timesteps, rng.uniform(0.5, 2, n_rows).astype(dtype))


def config(rule=FAST, **settings):
    return TrainConfig(rule, **({"learning_rate_init": 0.01, "batch_size": 16, "max_iter": 4, "tol": 0.0} | settings))


def job(seed, n_rows=40, spec=SPEC, dtype=np.float32, val_rows=0, **settings):
    val = walk(seed + 1000, val_rows, spec, dtype) if val_rows else None
    state = TrainState(init_params(spec, seed, dtype))
    return TrainJob(spec, config(**settings), state, walk(seed, n_rows, spec, dtype), val=val, seed=seed)


def alone(j):
    """The job as ``train`` does it: state, history, and the error or None."""
    state = TrainState(j.state.params.copy())
    state.m[:], state.v[:], state.step = j.state.m, j.state.v, j.state.step
    curve, scores = [], []

    def note(epoch, loss, score):
        curve.append(loss)
        scores.append(score)

    try:
        history = train(
            CPU, j.spec, j.config, state, j.windows, val=j.val, seed=j.seed, first_epoch=j.first_epoch,
            n_epochs=j.n_epochs, on_epoch=note,
        )  # fmt: skip
    except DivergedError as error:
        return state, (curve, [] if j.val is None else scores), error
    return state, history, None


def assert_as_alone(jobs, n_jobs=2):
    expected = [alone(j) for j in jobs]
    train_many(CPU, jobs, n_jobs)
    for j, (state, history, error) in zip(jobs, expected, strict=True):
        for found, wanted in ((j.state.params, state.params), (j.state.m, state.m), (j.state.v, state.v)):
            np.testing.assert_array_equal(found, wanted)
        assert j.state.step == state.step
        if error is None:
            assert j.error is None
            assert j.history == history
        else:
            assert str(j.error) == str(error)
            assert (j.history.loss_curve, j.history.validation_scores or []) == history


@pytest.mark.needs_jit
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_every_network_has_the_bits_of_one_trained_alone(dtype, n_jobs, monkeypatch):
    """Lengths, seeds, rates, batch sizes, epochs and patience of their own; in chunks of four."""
    monkeypatch.setattr(fleet, "MOST_MEMBERS", 4)
    monkeypatch.setattr("tsforecast.backends.cpu.threads.A_THREAD", 1)
    jobs = [
        job(i, n_rows=17 + 9 * i, dtype=dtype, learning_rate_init=1e-3 * (i + 1), batch_size=8 + 11 * i, max_iter=3 + i)
        for i in range(7)
    ]
    assert_as_alone(jobs, n_jobs)


def test_chunks_are_bounded_in_networks_numbers_and_epochs():
    """A ``max_iter`` that means "until it stops by itself" must not cost the memory of all those epochs at once."""
    member = _member(job(0, n_rows=9, max_iter=1), {})
    assert [len(c) for c in fleet._chunks([member] * 600)] == [256, 256, 88]
    patient = replace(member, factors=np.broadcast_to(member.factors, (1_000_000, 1)))
    assert [len(c) for c in fleet._chunks([patient] * 7)] == [3, 3, 1]
    assert [len(c) for c in fleet._chunks([member, *[patient] * 3, member])] == [3, 2]


@pytest.mark.needs_jit
def test_different_networks_rules_and_dtypes_go_together():
    skip = NetworkSpec(6, 1, (3, 2), 3, window_norm="standard", season_length=2, linear_skip=True)
    quantile = NetworkSpec(5, 1, (4,), 2, n_quantiles=3)
    jobs = [
        job(0),
        job(1, spec=skip),
        job(2, dtype=np.float64),
        job(3, spec=quantile, rule=StepRule(loss="quantile", quantiles=(0.1, 0.5, 0.9))),
        job(4, rule=StepRule(solver="sgd", alpha=0.01)),
        job(5, spec=skip, rule=StepRule(loss="huber", solver="adamw", alpha=0.1)),
        job(6, rule=StepRule(max_grad_value=1e-3, bptt_steps=3), shuffle=False),
        job(7),
    ]
    assert_as_alone(jobs)


@pytest.mark.needs_jit
@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential", "step"])
def test_learning_rates_follow_each_schedule(schedule):
    jobs = [job(i, n_rows=20 + i, learning_rate=schedule, lr_step_size=2, max_iter=6, batch_size=7) for i in range(3)]
    assert_as_alone(jobs)


@pytest.mark.needs_jit
def test_training_ends_early_where_it_would_alone():
    """On the training loss, on validation rows (whose best weights are kept), or not at all."""
    jobs = [
        job(i, val_rows=[0, 12, 800][i % 3], tol=[10.0, 0.0][i % 2], n_iter_no_change=1 + i % 2, max_iter=30)
        for i in range(6)
    ]
    assert_as_alone(jobs)
    assert {j.history.stopped_by for j in jobs} >= {"tol", "validation"}
    kept = [j for j in jobs if j.val is not None and j.history.best_validation_score > j.history.validation_scores[-1]]
    assert kept, "no run ended after its best epoch"
    for j in kept:
        assert -CPU.evaluate(SPEC, FAST, j.state.params, j.val, 1) == j.history.best_validation_score


@pytest.mark.needs_jit
def test_training_goes_on_from_a_state():
    """Adam's step, its moments and the number of the epoch count."""
    jobs = [job(i, learning_rate="cosine", max_iter=5) for i in range(3)]
    train_many(CPU, jobs, 1)
    again = [replace(j, first_epoch=j.history.n_iter, n_epochs=2, history=None) for j in jobs]
    assert_as_alone(again)
    assert all(j.history.n_iter == 2 for j in again)


@pytest.mark.needs_jit
def test_one_that_diverges_says_so_and_harms_nobody():
    plain = {"solver": "sgd", "max_grad_norm": None, "momentum": 0.0, "nesterov": False}
    jobs = [job(i, rule=StepRule(**plain), max_iter=20, n_iter_no_change=50) for i in range(5)]
    jobs[2] = replace(jobs[2], config=replace(jobs[2].config, learning_rate_init=1e18))
    jobs[3] = replace(jobs[3], windows=walk(3, 40, scale=3e36))
    assert_as_alone(jobs)
    assert [j.error is None for j in jobs] == [True, True, False, False, True]
    assert "training diverged in epoch" in str(jobs[2].error)


@pytest.mark.needs_jit
def test_the_order_of_the_networks_means_nothing():
    jobs = [job(i, n_rows=20 + 5 * i) for i in range(5)]
    again = [job(i, n_rows=20 + 5 * i) for i in range(5)][::-1]
    train_many(CPU, jobs, 2)
    train_many(CPU, again, 2)
    for a, b in zip(jobs, again[::-1], strict=True):
        np.testing.assert_array_equal(a.state.params, b.state.params)
        assert a.history == b.history


@pytest.mark.needs_jit
def test_windows_over_one_shared_buffer_are_not_copied(rng):
    spec, rule = network(), step_rule(solver="adam")
    windows = series_windows(rng, spec)

    def make():
        parts = [
            replace(windows, x_starts=windows.x_starts[k:], y_starts=windows.y_starts[k:], weights=windows.weights[k:])
            for k in range(3)
        ]
        states = [TrainState(init_params(spec, k, np.float64)) for k in range(3)]
        return [TrainJob(spec, config(rule), s, w, seed=k) for k, (s, w) in enumerate(zip(states, parts, strict=True))]

    assert_as_alone(make())
    joined, rows = fleet._joined([j.windows for j in make()], np.float64)
    assert joined.values is windows.values
    np.testing.assert_array_equal(rows, [0, 11, 21, 30])


def train_till_interrupted(jobs, delay):
    timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
    timer.start()
    train_many(CPU, jobs, 2)
    time.sleep(10)  # for one that comes when all are done


@pytest.mark.needs_jit
def test_an_interrupt_is_heard_within_a_second_and_loses_no_finished_network():
    """Ctrl-C in the middle: some are done, some stopped after an epoch, some not begun; each is as alone till then."""
    assert threading.current_thread() is threading.main_thread()
    train_many(CPU, [job(0)], 1)  # compiles
    for delay in (0.3, 1.0, 3.0):  # a busy machine may stand still, or not have done one network by then
        jobs = [job(i, n_rows=600, max_iter=100, n_iter_no_change=1000) for i in range(250)]
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            train_till_interrupted(jobs, delay)
        took = time.perf_counter() - began
        counts = [j.history.n_iter for j in jobs]
        if counts[0] == 100 and took < delay + 1.0:
            break
    assert took < delay + 1.0
    assert (counts[0], counts[-1]) == (100, 0)
    stopped = next(i for i, n in enumerate(counts) if n < 100)
    again = job(stopped, n_rows=600, max_iter=counts[stopped], n_iter_no_change=1000)
    train(CPU, SPEC, again.config, again.state, again.windows, seed=stopped)
    np.testing.assert_array_equal(jobs[stopped].state.params, again.state.params)
    np.testing.assert_array_equal(jobs[-1].state.params, init_params(SPEC, 249, np.float32))


@pytest.mark.parametrize("cell", CELLS if JIT_DISABLED else ["lstm"])  # one cell is enough to compile
def test_two_tiny_networks_of_every_cell(cell):
    """Also without a compiler, where the kernels are Python."""
    spec = NetworkSpec(2, 1, (1,), 1, cell=cell)
    jobs = [job(i, n_rows=3, spec=spec, dtype=np.float64, val_rows=i, max_iter=2, batch_size=2) for i in range(2)]
    assert_as_alone(jobs)


def test_a_backend_without_fleets_trains_one_by_one():
    reference = get_backend("reference")
    jobs = [job(i, n_rows=9, dtype=np.float64) for i in range(2)]
    train_many(reference, jobs, 2)
    for i, j in enumerate(jobs):
        again = job(i, n_rows=9, dtype=np.float64)
        history = train(reference, SPEC, again.config, again.state, again.windows, seed=i)
        np.testing.assert_array_equal(j.state.params, again.state.params)
        assert j.history == history
