"""The CPU backend against the reference, on shapes that also run uncompiled; threads, stopping, divergence."""

import threading
import time

import numpy as np
import pytest
from kernel_cases import FRAMES, LOSSES, network, one_step, random_params, series_windows, step_rule

from tsforecast.backends.base import TrainState, Windows, get_backend
from tsforecast.backends.cpu.jit import entry
from tsforecast.backends.cpu.sync import STOP, SYNC_SIZE, wait_for_all
from tsforecast.backends.cpu.threads import run_threads
from tsforecast.exceptions import DivergedError

CPU, REFERENCE = get_backend("cpu"), get_backend("reference")


def _epoch(backend, spec, rule, params, windows, n_jobs=1, batch_size=5):
    state = TrainState(params.copy())
    n_batches = -(-len(windows) // batch_size)
    order = np.arange(len(windows), dtype=np.int64)[::-1].copy()
    loss = backend.train_epoch(spec, rule, state, windows, order, batch_size, np.full(n_batches, 0.01), n_jobs)
    return loss, state


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("frame", ["plain", "center_season_skip", "standard_season_skip"])
def test_an_epoch_equals_the_reference(loss, frame, rng):
    spec, rule = network(loss, **FRAMES[frame]), step_rule(loss, solver="adam", alpha=0.1, max_grad_norm=0.5)
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    loss_cpu, cpu = _epoch(CPU, spec, rule, params, windows)
    loss_reference, reference = _epoch(REFERENCE, spec, rule, params, windows)
    np.testing.assert_allclose(loss_cpu, loss_reference, rtol=1e-12)
    np.testing.assert_allclose(cpu.params, reference.params, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        CPU.predict(spec, cpu.params, windows.values, windows.x_starts, 1),
        REFERENCE.predict(spec, cpu.params, windows.values, windows.x_starts, 1),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        CPU.evaluate(spec, rule, cpu.params, windows, 1),
        REFERENCE.evaluate(spec, rule, cpu.params, windows, 1),
        rtol=1e-12,
    )


@pytest.mark.parametrize("frame", ["plain", "skip"])
def test_gradient_equals_the_reference(frame, rng):
    spec = network(hidden_sizes=(3, 18), **FRAMES[frame])
    params = random_params(rng, spec)
    x, cotangent = rng.normal(size=(3, 6, 2)), rng.normal(size=(3, 4))
    for ours, theirs in zip(
        CPU.gradient(spec, params, x, cotangent), REFERENCE.gradient(spec, params, x, cotangent), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.needs_jit
@pytest.mark.parametrize("n_outputs", [1, 2, 15, 16, 17, 33, 70])
@pytest.mark.parametrize("hidden_sizes", [(1,), (16, 17), (33, 5, 8)])
def test_any_width_equals_the_reference(n_outputs, hidden_sizes, rng):
    """Widths around the lanes, one window to many, several layers."""
    from tsforecast.spec import NetworkSpec

    spec = NetworkSpec(3, 4, hidden_sizes, n_outputs, linear_skip=True)
    params = random_params(rng, spec)
    for n in (1, 7, 50):
        x, cotangent = rng.normal(size=(n, 3, 4)), rng.normal(size=(n, n_outputs))
        ours, theirs = CPU.gradient(spec, params, x, cotangent), REFERENCE.gradient(spec, params, x, cotangent)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(1, np.abs(b).max()))


def _many_windows(rng, spec, n, dtype):
    series = rng.normal(size=n + 10).astype(dtype)
    starts = np.arange(n, dtype=np.int64)
    return Windows(series, starts, series, starts + 6, rng.uniform(0, 2, n).astype(dtype))


@pytest.mark.needs_jit
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(dtype, rng):
    from tsforecast.spec import NetworkSpec

    spec, rule = NetworkSpec(6, 1, (20, 9), 3, linear_skip=True), step_rule(solver="adam", max_grad_norm=0.1)
    windows = _many_windows(rng, spec, 700, dtype)
    params = random_params(rng, spec).astype(dtype)
    results = []
    for n_jobs in (1, 2, 3, 8):
        loss, state = _epoch(CPU, spec, rule, params, windows, n_jobs, batch_size=200)
        forecast = CPU.predict(spec, state.params, windows.values, windows.x_starts, n_jobs)
        results.append((loss, state, forecast, CPU.evaluate(spec, rule, state.params, windows, n_jobs)))
    for loss, state, forecast, score in results[1:]:
        assert loss == results[0][0]
        assert score == results[0][3]
        np.testing.assert_array_equal(state.params, results[0][1].params)
        np.testing.assert_array_equal(state.v, results[0][1].v)
        np.testing.assert_array_equal(forecast, results[0][2])


def test_two_threads_work_on_small_shapes(rng):
    """The barrier, compiled or plain."""
    spec, rule = network(), step_rule(solver="adam")
    windows = series_windows(rng, spec)
    rows = np.tile(np.arange(len(windows), dtype=np.int64), 3)
    params, states = random_params(rng, spec), []
    for n_jobs in (1, 2):
        state = TrainState(params.copy())
        CPU.train_epoch(spec, rule, state, windows, rows, len(rows), np.array([0.1]), n_jobs)
        states.append(state)
    np.testing.assert_array_equal(states[0].params, states[1].params)
    assert states[0].step == states[1].step == 1


@pytest.mark.needs_jit
def test_forecasts_do_not_depend_on_the_company_a_window_keeps(rng):
    from tsforecast.spec import NetworkSpec

    spec = NetworkSpec(6, 1, (20,), 3, window_norm="standard", season_length=4)
    params = random_params(rng, spec).astype(np.float32)
    windows = _many_windows(rng, spec, 301, np.float32)
    together = CPU.predict(spec, params, windows.values, windows.x_starts, 1)
    alone = np.concatenate(
        [CPU.predict(spec, params, windows.values, windows.x_starts[i : i + 1], 1) for i in range(301)]
    )
    np.testing.assert_array_equal(together, alone)


def test_a_batch_without_weight_is_passed_over(rng):
    spec, rule = network(), step_rule(solver="adam")
    windows = series_windows(rng, spec)
    windows.weights[:5] = 0
    params = random_params(rng, spec)
    state = TrainState(params.copy())
    order = np.arange(10, dtype=np.int64)
    CPU.train_epoch(spec, rule, state, windows, order, 5, np.array([0.1, 0.1]), 1)
    expected = TrainState(params.copy())
    CPU.train_epoch(spec, rule, expected, windows, order[5:], 5, np.array([0.1]), 1)
    assert state.step == 1
    np.testing.assert_array_equal(state.params, expected.params)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_divergence_is_reported_and_leaves_finite_weights(n_jobs, rng):
    spec, rule = network(), step_rule(solver="sgd")
    windows = series_windows(rng, spec)
    windows.targets[-2] = np.nan
    rows = np.tile(np.arange(len(windows), dtype=np.int64)[::-1], 3)
    state = TrainState(random_params(rng, spec))
    with np.errstate(invalid="ignore"), pytest.raises(DivergedError, match="not finite"):
        CPU.train_epoch(spec, rule, state, windows, rows, len(rows), np.array([0.1]), n_jobs)
    assert np.isfinite(state.params).all()
    assert state.step == 0


@pytest.mark.needs_jit
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_long_epoch_stops_within_a_second(n_jobs, rng, monkeypatch):
    """What Ctrl-C does, without a signal: the waiting thread is interrupted while kernels run."""
    from tsforecast.backends.cpu import backend as module
    from tsforecast.spec import NetworkSpec

    spec = NetworkSpec(6, 1, (64,), 3)
    windows = _many_windows(rng, spec, 1000, np.float32)
    params = random_params(rng, spec).astype(np.float32)
    _epoch(CPU, spec, step_rule(), params, windows, n_jobs)  # compile first
    flags = []

    def run_and_interrupt(calls, sync, *work):
        threading.Timer(0.3, lambda: sync.__setitem__(STOP, 1)).start()
        flags.append(sync)
        return run_threads(calls, sync, *work)

    monkeypatch.setattr(module, "run_threads", run_and_interrupt)
    rows = np.tile(np.arange(1000, dtype=np.int64), 20_000)
    state = TrainState(params.copy())
    start = time.perf_counter()
    CPU.train_epoch(spec, step_rule(), state, windows, rows, 200, np.full(100_000, 1e-4), n_jobs)
    assert time.perf_counter() - start < 1.3
    assert 0 < state.step < 100_000


def test_run_threads_raises_what_a_thread_raised():
    def fail():
        raise ZeroDivisionError("in a thread")

    with pytest.raises(ZeroDivisionError, match="in a thread"):
        run_threads([lambda: 1, fail], np.zeros(SYNC_SIZE, np.int64))
    assert run_threads([lambda: 1, lambda: 2], np.zeros(SYNC_SIZE, np.int64)) == [1, 2]


def test_a_thread_that_fails_does_not_leave_the_others_waiting():
    waits = entry(lambda sync: wait_for_all(sync, 2))
    sync = np.zeros(SYNC_SIZE, np.int64)
    results = []

    def fail():
        time.sleep(0.05)
        raise MemoryError("before its kernel")

    with pytest.raises(MemoryError, match="before its kernel"):
        run_threads([lambda: results.append(waits(sync)), fail], sync)
    assert results == [False]


def test_threads_that_cannot_all_start_do_nothing(monkeypatch):
    started, calls = [], []

    class Scarce(threading.Thread):
        def start(self):
            if started:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr(threading, "Thread", Scarce)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run_threads([lambda: calls.append(1)] * 2, np.zeros(SYNC_SIZE, np.int64))
    started[0].join(5)
    assert not started[0].is_alive()
    assert not calls


def test_large_gradients_are_clipped_not_called_divergence(rng):
    """Squares of gradients above 1e19 leave float32; the norm must not."""
    spec, rule = network(), step_rule(max_grad_norm=1.0)
    params, windows = random_params(rng, spec).astype(np.float32), series_windows(rng, spec, np.float32)
    targets = windows.targets + np.float32(1e20)
    windows = Windows(windows.values, windows.x_starts, targets, windows.y_starts, windows.weights, windows.y_stride)
    _, state = one_step(CPU, spec, rule, params, windows)
    assert np.linalg.norm((state.params - params).astype(np.float64)) == pytest.approx(1.0, rel=1e-3)


def test_faults_of_the_caller_are_errors_not_wild_reads(rng):
    spec = network()
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    with pytest.raises(IndexError, match="reaches beyond its buffer"):
        CPU.predict(spec, params, windows.values, windows.x_starts + len(windows.values), 1)
    with pytest.raises(ValueError, match="1 quantiles, the network 3"):
        CPU.evaluate(network("quantile"), step_rule(), random_params(rng, network("quantile")), windows, 1)
    with pytest.raises(ValueError, match="a season must fit"):
        network(season_length=7)
    for backend in (CPU, REFERENCE):
        with pytest.raises(ValueError, match="window_norm='none'"):
            backend.gradient(network(window_norm="center"), params, np.zeros((1, 6, 2)), np.zeros((1, 4)))
