"""The CPU backend: hands arrays to the compiled entry points and threads to run them on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import StepRule, TrainState, Windows
from tsforecast.backends.cpu import epoch
from tsforecast.backends.cpu.optimizers import N_SCALARS
from tsforecast.backends.cpu.plan import Plan, make_plan
from tsforecast.backends.cpu.sync import SYNC_SIZE
from tsforecast.backends.cpu.threads import run_threads
from tsforecast.exceptions import DivergedError
from tsforecast.spec import LOSSES, SOLVERS, NetworkSpec

INFERENCE_ROWS = 48  # rows a chunk of forecasts: a multiple of every tile's rows that keeps buffers in the cache


class CpuBackend:
    """Numba implementation of ``tsforecast.backends.base.Backend``; see there for shapes and meanings.

    All arithmetic is in the dtype of the parameters (float32 or float64) but for losses, norms and window statistics,
    which are float64. Results do not depend on ``n_jobs``.
    """

    name = "cpu"

    def train_epoch(
        self,
        spec: NetworkSpec,
        rule: StepRule,
        state: TrainState,
        windows: Windows,
        order: NDArray[np.int64],
        batch_size: int,
        learning_rates: NDArray[np.float64],
        n_jobs: int,
    ) -> float:
        """Visit every row once, in ``order``, one optimiser step a batch; see ``Backend.train_epoch``.

        A batch whose weights are all zero is passed over without a step.

        Raises
        ------
        DivergedError
            The loss or the gradient of a batch is not finite; ``state`` stays as the batch before left it.
        """
        batch_size = min(batch_size, len(order))
        n_shards = epoch.shard_count(batch_size)
        n_threads = max(1, min(n_jobs, n_shards))
        # The last batch may have fewer rows and fewer shards, but never a larger shard than 2 * ROWS_A_SHARD - 1.
        rows = max(-(-batch_size // n_shards), min(batch_size, 2 * epoch.ROWS_A_SHARD - 1))
        plan = make_plan(spec, rows)
        memory = _memory(spec, plan, state.params.dtype, n_threads, n_shards)
        packed = _pack(plan, state)
        sync = np.zeros(SYNC_SIZE, dtype=np.int64)
        arguments = (
            sync, plan.net, plan.layers, _rule(rule), _data(windows), order, batch_size, learning_rates, packed, memory,
            state.step,
        )  # fmt: skip
        statuses = run_threads(
            [lambda thread=thread: epoch.train_epoch(thread, n_threads, *arguments) for thread in range(n_threads)],
            sync,
        )
        state.step += int(memory.totals[2])
        if epoch.DIVERGED in statuses:
            raise DivergedError(
                f"the training loss is not finite in step {state.step + 1}; lower learning_rate_init or scale the data"
            )
        return float(memory.totals[0] / memory.totals[1])

    def evaluate(self, spec: NetworkSpec, rule: StepRule, params: NDArray, windows: Windows, n_jobs: int) -> float:
        """Weighted mean loss over all windows, without penalty and without learning."""
        n = len(windows)
        plan = make_plan(spec, min(n, INFERENCE_ROWS))
        packed = _pack(plan, TrainState(params)).packed
        sync = np.zeros(SYNC_SIZE, dtype=np.int64)
        # Sums are kept for fixed blocks of rows and added in their order, so that threads change no bit.
        blocks = [(first, min(n, first + 8 * plan.rows)) for first in range(0, n, 8 * plan.rows)]
        totals = np.zeros(len(blocks))

        def work(thread: int, n_threads: int) -> None:
            memory = _memory(spec, plan, params.dtype, 1, 1)
            for i in range(thread, len(blocks), n_threads):
                memory.totals[0] = 0.0
                epoch.evaluate(plan.net, plan.layers, _rule(rule), _data(windows), *blocks[i], packed, memory, sync)
                totals[i] = memory.totals[0]

        n_threads = max(1, min(n_jobs, len(blocks)))
        run_threads([lambda thread=thread: work(thread, n_threads) for thread in range(n_threads)], sync)
        return math.fsum(totals) / math.fsum(windows.weights.astype(np.float64))

    def predict(
        self, spec: NetworkSpec, params: NDArray, values: NDArray, x_starts: NDArray[np.int64], n_jobs: int
    ) -> NDArray:
        """Forecasts ``[N,K*Q]`` in the units of feature 0 and the dtype of ``params``."""
        n = len(x_starts)
        plan = make_plan(spec, min(max(n, 1), INFERENCE_ROWS))
        packed = _pack(plan, TrainState(params)).packed
        result = np.empty((n, spec.head_size), dtype=params.dtype)
        sync = np.zeros(SYNC_SIZE, dtype=np.int64)

        def work(first: int, last: int) -> None:
            work, frame, base = _thread_memory(spec, plan, params.dtype, 1)
            epoch.predict(
                plan.net, plan.layers, values, x_starts, first, last, packed, work[0], frame[0], base[0], sync, result
            )

        if n <= plan.rows:  # a thread would cost more than the work
            work(0, n)
            return result
        n_threads = max(1, min(n_jobs, -(-n // plan.rows)))
        cuts = [n * i // n_threads for i in range(n_threads + 1)]
        run_threads([lambda i=i: work(cuts[i], cuts[i + 1]) for i in range(n_threads)], sync)
        return result

    def gradient(
        self, spec: NetworkSpec, params: NDArray, x: NDArray, cotangent: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return outputs ``[N,K*Q]``, ``dparams [P]`` and ``dx [N,T,F]`` of ``sum(outputs * cotangent)``."""
        dtype, n = params.dtype, len(x)
        plan = make_plan(spec, n, input_gradient=True)
        packed = _pack(plan, TrainState(params)).packed
        work, frame, base = _thread_memory(spec, plan, dtype, 1)
        values = np.ascontiguousarray(x, dtype=dtype).reshape(-1)
        x_starts = np.arange(n, dtype=np.int64) * (spec.n_timesteps * spec.n_features)
        cotangent = np.ascontiguousarray(cotangent, dtype=dtype)
        out, dx, dw = np.empty_like(cotangent), np.empty(x.shape, dtype), np.zeros(plan.net.n_packed, dtype)
        epoch.gradient(
            plan.net, plan.layers, values, x_starts, packed, work[0], frame[0], base[0], cotangent, out, dw, dx
        )
        if spec.linear_skip:
            dx += (cotangent @ spec.views(params)["skip.w"].T).reshape(x.shape)
        return out, dw[plan.at], dx


def _rule(rule: StepRule) -> epoch.Rule:
    return epoch.Rule(
        LOSSES[rule.loss], SOLVERS[rule.solver], int(rule.nesterov), float(rule.delta), float(rule.alpha),
        math.inf if rule.max_grad_norm is None else float(rule.max_grad_norm), float(rule.momentum),
        float(rule.beta_1), float(rule.beta_2), float(rule.epsilon), np.array(rule.quantiles, dtype=np.float64),
    )  # fmt: skip


def _data(windows: Windows) -> epoch.Data:
    return epoch.Data(
        windows.values, windows.x_starts, windows.targets, windows.y_starts, windows.y_stride, windows.weights
    )


def _pack(plan: Plan, state: TrainState) -> epoch.State:
    """The state as kernels see it, its weights packed."""
    packed = np.zeros(plan.n_packed, dtype=state.params.dtype)
    packed[plan.at] = state.params
    twice = plan.at_t >= 0
    packed[plan.at_t[twice]] = state.params[twice]
    return epoch.State(
        state.params, state.m, state.v, packed, plan.at, plan.at_t, plan.is_weight.astype(state.params.dtype)
    )


def _thread_memory(spec: NetworkSpec, plan: Plan, dtype: np.dtype, n_threads: int) -> tuple[NDArray, NDArray, NDArray]:
    """Work buffers, frames and bases of ``n_threads`` threads."""
    return (
        np.zeros((n_threads, plan.n_work), dtype=dtype),
        np.empty((n_threads, plan.rows, 2)),
        np.empty((n_threads, plan.rows, spec.n_outputs)),
    )


def _memory(spec: NetworkSpec, plan: Plan, dtype: np.dtype, n_threads: int, n_shards: int) -> epoch.Memory:
    n_chunks = -(-spec.n_params // epoch.NORM_CHUNK)
    work, frame, base = _thread_memory(spec, plan, dtype, n_threads)
    return epoch.Memory(
        work, frame, base, np.empty((n_threads, N_SCALARS), dtype), np.empty((n_shards, plan.net.n_packed), dtype),
        np.empty(spec.n_params, dtype), np.zeros(n_shards), np.zeros(n_chunks), np.zeros(n_chunks), np.zeros(3),
    )  # fmt: skip
