"""The CPU backend: hands arrays to the compiled entry points and threads to run them on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import (
    StepRule,
    TrainState,
    Windows,
    check_plain,
    check_starts,
    gradient_steps,
    loss_diverged,
)
from tsforecast.backends.cpu import epoch
from tsforecast.backends.cpu.arguments import kernel_data, kernel_rule
from tsforecast.backends.cpu.cache import is_kept
from tsforecast.backends.cpu.memory import pack_flat, packed_state, thread_memory, training_memory, work_buffer
from tsforecast.backends.cpu.plan import (
    EVALUATION_ROWS,
    INPUT_GRADIENT,
    TRAINING,
    Plan,
    carried_states,
    inference_plan,
    make_plan,
    operations,
)
from tsforecast.backends.cpu.shapes import check_supported
from tsforecast.backends.cpu.sync import SYNC_SIZE
from tsforecast.backends.cpu.threads import run_threads, thread_count
from tsforecast.backends.members import Member
from tsforecast.spec import NetworkSpec

MOST_THREADS = epoch.MOST_SHARDS
# Kinds of networks, by the type of ``net.Net`` and the dtype, whose kernels are loaded: of training, of forecasts.
_can_train: set[tuple[type, np.dtype]] = set()
_can_predict: set[tuple[type, np.dtype]] = set()


class CpuBackend:
    """Numba implementation of ``tsforecast.backends.base.Backend``; see there for shapes and meanings.

    All arithmetic is in the dtype of the parameters (float32 or float64) but for losses, norms and window statistics,
    which are float64. Results do not depend on ``n_jobs``.
    """

    name = "cpu"

    @staticmethod
    def can_predict_at_once(spec: NetworkSpec, dtype: np.dtype) -> bool:
        """Whether ``predict`` needs no compilation for weights of ``dtype``."""
        plan, nothing = inference_plan(spec, 1), np.empty(0, dtype)
        kind = type(plan.net), dtype
        if kind not in _can_predict:
            arguments = _prediction(
                plan, nothing, np.empty(0, np.int64), 0, 0, nothing, np.empty(plan.n_work, dtype),
                carried_states(spec, plan, 1, dtype), np.zeros(SYNC_SIZE, dtype=np.int64), nothing.reshape(0, 1),
            )  # fmt: skip
            if not is_kept(epoch.predict, arguments):
                return False
            _can_predict.add(kind)
        return True

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
        check_supported(spec)
        batch_size = min(batch_size, len(order))
        n_shards = epoch.shard_count(batch_size)
        n_operations = 3 * operations(spec) * len(order)
        n_threads = thread_count(n_jobs, n_shards, n_operations)
        plan = make_plan(spec, epoch.most_shard_rows(batch_size), TRAINING, gradient_steps(spec, rule))
        sync = np.zeros(SYNC_SIZE, dtype=np.int64)
        fixed = (
            sync, plan.net, plan.layers, plan.panels, plan.columns, kernel_rule(rule, spec, state.params.dtype),
            kernel_data(windows, spec),
        )  # fmt: skip
        kernel_state = packed_state(plan, state)
        with work_buffer(n_threads * plan.n_work, state.params.dtype) as work:
            carried = carried_states(spec, plan, batch_size, state.params.dtype)
            memory = training_memory(plan, work, n_shards, carried)
            rest = kernel_state, memory, state.step, state.seed
            arguments = (*fixed, order, batch_size, learning_rates, *rest)
            kind = type(plan.net), state.params.dtype
            if kind not in _can_train:  # compiled on this thread, where Ctrl-C ends it at once
                epoch.train_epoch(0, 1, *fixed, order[:0], batch_size, learning_rates[:0], *rest)
                _can_train.add(kind)
            statuses = run_threads(
                [lambda thread=thread: epoch.train_epoch(thread, n_threads, *arguments) for thread in range(n_threads)],
                sync,
                n_operations,
            )
        state.step += int(memory.totals[2])
        for flat, packed in zip((state.params, state.m, state.v), kernel_state, strict=True):
            epoch.unpack(packed, plan.runs, flat)
        if epoch.DIVERGED in statuses:
            raise loss_diverged(state.step + 1)
        return float(memory.totals[0] / memory.totals[1])

    def train_fleet(self, spec: NetworkSpec, rule: StepRule, members: Sequence[Member], n_jobs: int) -> None:
        """Train many networks of one kind, one a thread; see ``fleet.train_fleet``."""
        from tsforecast.backends.cpu.fleet import train_fleet

        check_supported(spec)
        train_fleet(spec, rule, members, n_jobs)

    def evaluate(self, spec: NetworkSpec, rule: StepRule, params: NDArray, windows: Windows, n_jobs: int) -> float:
        """Weighted mean loss over all windows, without penalty and without learning."""
        n = len(windows)
        plan = inference_plan(spec, n)
        packed = pack_flat(plan, params, plan.n_packed)
        sync = np.zeros(SYNC_SIZE, dtype=np.int64)
        carried = carried_states(spec, plan, 1, params.dtype)
        # Sums are kept for fixed blocks of rows and added in their order, so that threads change no bit.
        size = n if spec.stateful else EVALUATION_ROWS
        blocks = [(first, min(n, first + size)) for first in range(0, n, size)]
        totals = np.zeros(len(blocks))
        fixed = plan.net, plan.layers, kernel_rule(rule, spec, params.dtype), kernel_data(windows, spec)

        def work(thread: int, n_threads: int) -> None:
            with work_buffer(plan.n_work, params.dtype) as buffer:
                work, frame, base = thread_memory(plan, buffer)
                for i in range(thread, len(blocks), n_threads):
                    total = totals[i : i + 1]
                    status = epoch.evaluate(
                        *fixed, *blocks[i], packed, work[0], frame[0], base[0], carried, total, sync
                    )
                    if status == epoch.STOPPED:
                        return

        n_operations = operations(spec) * n
        n_threads = thread_count(min(n_jobs, MOST_THREADS), len(blocks), n_operations)
        run_threads([lambda thread=thread: work(thread, n_threads) for thread in range(n_threads)], sync, n_operations)
        total = float(np.add.accumulate(totals)[-1])
        return total / math.fsum(windows.weights.astype(np.float64))

    def predict(
        self, spec: NetworkSpec, params: NDArray, values: NDArray, x_starts: NDArray[np.int64], n_jobs: int
    ) -> NDArray:
        """Forecasts ``[N,K*Q]`` in the units of feature 0 and the dtype of ``params``."""
        n = len(x_starts)
        plan = inference_plan(spec, n)
        packed = pack_flat(plan, params, plan.n_packed)
        check_starts(values, x_starts, spec.row_size)
        result, carried = np.empty((n, spec.head_size), params.dtype), carried_states(spec, plan, 1, params.dtype)
        sync = np.zeros(SYNC_SIZE, dtype=np.int64)

        def work(first: int, last: int) -> None:
            with work_buffer(plan.n_work, params.dtype) as buffer:
                epoch.predict(*_prediction(plan, values, x_starts, first, last, packed, buffer, carried, sync, result))

        n_operations = operations(spec) * n
        n_chains = 1 if spec.stateful else -(-n // plan.rows)
        n_threads = thread_count(min(n_jobs, MOST_THREADS), n_chains, n_operations)
        cuts = [n * i // n_threads for i in range(n_threads + 1)]
        run_threads([lambda i=i: work(cuts[i], cuts[i + 1]) for i in range(n_threads)], sync, n_operations)
        return result

    def gradient(
        self, spec: NetworkSpec, params: NDArray, x: NDArray, cotangent: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return outputs ``[N,K*Q]``, ``dparams [P]`` and ``dx [N,T,F]`` of ``sum(outputs * cotangent)``."""
        check_plain(spec)
        spec = spec.without_dropout
        check_supported(spec)
        dtype, n = params.dtype, len(x)
        plan = make_plan(spec, n, INPUT_GRADIENT)
        packed = pack_flat(plan, params, plan.n_packed)
        work, frame, base = thread_memory(plan, np.empty(plan.n_work, dtype))
        values = np.ascontiguousarray(x, dtype=dtype).reshape(-1)
        x_starts = np.arange(n, dtype=np.int64) * spec.row_size
        cotangent = np.ascontiguousarray(cotangent, dtype=dtype)
        out, dw = np.empty_like(cotangent), np.zeros(plan.net.n_gradient, dtype)
        dx = np.empty((n, spec.n_timesteps, spec.n_features), dtype)
        d_future = np.empty((n, spec.n_outputs * spec.n_future), dtype)
        epoch.gradient(
            plan.net, plan.layers, plan.panels, values, x_starts, packed, work[0], frame[0], base[0],
            np.empty((0, 0), dtype), cotangent, out, dw, dx, d_future,
        )  # fmt: skip
        if spec.linear_skip:
            dx += (cotangent @ spec.views(params)["skip.w"].T).reshape(dx.shape)
        dparams = np.empty_like(params)
        epoch.unpack(dw, plan.runs, dparams)
        return out, dparams, np.concatenate([dx.reshape(n, -1), d_future], axis=1).reshape(x.shape)


def _prediction(
    plan: Plan, values: NDArray, x_starts: NDArray, first: int, last: int, packed: NDArray, buffer: NDArray,
    carried: NDArray, sync: NDArray, result: NDArray,
) -> tuple:  # fmt: skip
    """Arguments of ``epoch.predict`` for one thread, whose work buffer is ``buffer``."""
    work, frame, base = thread_memory(plan, buffer)
    return (
        plan.net, plan.layers, values, x_starts, first, last, packed, work[0], frame[0], base[0], carried, sync, result,
    )  # fmt: skip
