"""Many networks at once: packs chunks of them into arrays for the compiled ``member.train_members``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import StepRule, Windows, gradient_steps
from tsforecast.backends.cpu import epoch, member
from tsforecast.backends.cpu.arguments import State, kernel_data, kernel_rule
from tsforecast.backends.cpu.desk import Desk, Members, Networks
from tsforecast.backends.cpu.memory import aligned_zeros, thread_memory, training_memory, work_buffer
from tsforecast.backends.cpu.plan import (
    EVALUATION_ROWS,
    INFERENCE_ROWS,
    TRAINING,
    inference_plan,
    make_plan,
    operations,
)
from tsforecast.backends.cpu.sync import SYNC_SIZE
from tsforecast.backends.cpu.threads import run_threads, thread_count
from tsforecast.backends.members import Member, one_buffer
from tsforecast.spec import NetworkSpec

# A chunk is what one compiled call a thread trains; its arrays are copies, so it is bounded in networks and in numbers.
MOST_MEMBERS, MOST_NUMBERS = 256, 8_000_000
_NAMES = {
    epoch.DONE: "done", member.EXHAUSTED: "exhausted", epoch.DIVERGED: "diverged", member.NOT_FINITE: "not finite",
    epoch.STOPPED: "stopped", member.WAITING: "waiting",
}  # fmt: skip
_compiled: set[tuple[type, np.dtype]] = set()  # kinds of networks, by the type of ``net.Net`` and the dtype


def train_fleet(spec: NetworkSpec, rule: StepRule, members: Sequence[Member], n_jobs: int) -> None:
    """Train every member, in place, each to the very bits of training it alone.

    Parameters
    ----------
    spec : NetworkSpec
        The network of all members.
    rule : StepRule
        Loss and optimiser of all.
    members : sequence of Member
        All of one dtype.
    n_jobs : int
        Threads; changes no bit.

    Raises
    ------
    KeyboardInterrupt
        Within a second of Ctrl-C. Members whose training had begun are as their last epoch left them.
    """
    for chunk in _chunks(members):
        _Chunk(spec, rule, chunk, n_jobs).train()


def _chunks(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Members in their order, in lists of a bounded size."""
    chunk: list[Member] = []
    size = epochs = 0
    for m in members:
        own = 3 * len(m.state.params) + 3 * len(m.windows) + len(m.windows.values) + len(m.windows.targets)
        epochs = max(epochs, len(m.factors))
        histories = 2 * epochs * (len(chunk) + 1)  # losses and scores, as many of each as the longest has epochs
        if chunk and (len(chunk) == MOST_MEMBERS or size + own + histories > MOST_NUMBERS):
            yield chunk
            chunk, size, epochs = [], 0, len(m.factors)
        chunk.append(m)
        size += own
    if chunk:
        yield chunk


class _Chunk:
    """The members of one chunk as arrays."""

    def __init__(self, spec: NetworkSpec, rule: StepRule, members: list[Member], n_jobs: int):
        dtype = members[0].state.params.dtype
        self._members, self._dtype = members, dtype
        largest = max(m.batch_size for m in members)
        self._n_shards = epoch.shard_count(largest)
        most_rows = max(epoch.most_shard_rows(m.batch_size) for m in members)
        self._plan = make_plan(spec, most_rows, TRAINING, gradient_steps(spec, rule))
        self._held_plan = inference_plan(spec, INFERENCE_ROWS)
        plan, held_plan = self._plan, self._held_plan
        networks = Networks(
            plan.net, plan.layers, plan.panels, plan.columns, plan.runs, held_plan.net, held_plan.layers
        )
        data, rows = _joined([m.windows for m in members], dtype)
        held_data, held = _joined([m.val for m in members], dtype)
        self._arrays = _member_arrays(members, rows, held)
        self._sync, self._queue = np.zeros(SYNC_SIZE, np.int64), np.zeros(1, np.int64)
        self._arguments = (
            self._sync, networks, kernel_rule(rule, spec, dtype), kernel_data(data, spec), kernel_data(held_data, spec),
            EVALUATION_ROWS, self._arrays,
        )  # fmt: skip
        self._operations = 3 * operations(spec) * sum(len(m.windows) * len(m.factors) for m in members)
        self._n_threads = thread_count(n_jobs, len(members), self._operations)

    def train(self) -> None:
        """Train, and give every member its part of the outcome, also after an interrupt."""
        try:
            kind = type(self._plan.net), self._dtype
            if kind not in _compiled:  # on this thread, where Ctrl-C ends it at once
                self._work(np.full(1, len(self._members)))
                _compiled.add(kind)
            run_threads([lambda: self._work(self._queue)] * self._n_threads, self._sync, self._operations)
        finally:
            self._publish()

    def _work(self, queue: NDArray[np.int64]) -> None:
        """One thread's part."""
        plan, held_plan, dtype = self._plan, self._held_plan, self._dtype
        n = plan.net.n_gradient
        states = [State(*(aligned_zeros(size, dtype=dtype) for size in (plan.n_packed, n, n))) for _ in range(2)]
        n_rows = int(np.diff(self._arrays.rows).max())
        n_batches = max(m.factors.shape[1] for m in self._members)
        with work_buffer(plan.n_work + held_plan.n_work, dtype) as work:
            held_work, held_frame, held_base = thread_memory(held_plan, work[plan.n_work :])
            memory = training_memory(plan, work[: plan.n_work], self._n_shards, np.empty((0, 0), dtype))
            desk = Desk(
                *states, aligned_zeros(n, dtype=dtype), memory,
                held_work[0], held_frame[0], held_base[0], np.empty(n_rows, np.int64), np.empty(3 * n_rows, np.int64),
                np.empty(n_batches), np.empty(1),
            )  # fmt: skip
            member.train_members(queue, *self._arguments, desk)

    def _publish(self) -> None:
        a = self._arrays
        for i, m in enumerate(self._members):
            m.state.params[:], m.state.m[:], m.state.v[:], m.state.step = a.params[i], a.m[i], a.v[i], int(a.step[i])
            n = int(a.n_ended[i])
            m.losses = a.loss[i, :n].tolist()
            m.scores = [] if m.val is None else a.score[i, :n].tolist()
            m.outcome, m.failed_step = _NAMES[int(a.outcome[i])], int(a.failed_step[i])
            m.failed_loss = float(a.loss[i, min(n, a.loss.shape[1] - 1)])


def _joined(parts: list[Windows | None], dtype: np.dtype) -> tuple[Windows, NDArray[np.int64]]:
    """All windows over one buffer of values and one of targets, and where each part's rows begin ``[n+1]``."""
    some = [part for part in parts if part is not None]
    rows = np.cumsum([0, *(0 if part is None else len(part) for part in parts)])
    if not some:
        nothing, none = np.empty(0, dtype), np.empty(0, np.int64)
        return Windows(nothing, none, nothing, none, nothing), rows
    values, x_starts = one_buffer([(part.values, part.x_starts) for part in some])
    targets, y_starts = one_buffer([(part.targets, part.y_starts) for part in some])
    weights = np.concatenate([part.weights for part in some])
    return Windows(values, x_starts, targets, y_starts, weights, some[0].y_stride), rows


def _member_arrays(members: list[Member], rows: NDArray, held: NDArray) -> Members:
    """What members have of their own, and room for what comes of them."""
    n = len(members)

    def column(values, kind=np.int64):
        return np.array(list(values), dtype=kind)

    schedules = {id(m.factors): m.factors for m in members}  # most share one
    ends = np.cumsum([0, *(f.size for f in schedules.values())])
    places = dict(zip(schedules, ends, strict=False))
    shape = n, max(len(m.factors) for m in members)
    held_weight = [1.0 if m.val is None else math.fsum(m.val.weights.astype(np.float64)) for m in members]
    return Members(
        rows=rows, held=held, held_weight=column(held_weight, np.float64),
        batch_size=column(m.batch_size for m in members), first_epoch=column(m.first_epoch for m in members),
        n_epochs=column(len(m.factors) for m in members), patience=column(m.patience for m in members),
        shuffled=column((m.seed is not None for m in members), np.bool_),
        seed=column((m.seed or 0) for m in members), rate=column((m.learning_rate for m in members), np.float64),
        factors=np.concatenate([f.ravel() for f in schedules.values()]),
        schedule=column(places[id(m.factors)] for m in members), tol=column((m.tol for m in members), np.float64),
        params=np.array([m.state.params for m in members]), m=np.array([m.state.m for m in members]),
        v=np.array([m.state.v for m in members]), step=column(m.state.step for m in members),
        noise_seed=column(m.state.seed for m in members),
        loss=np.zeros(shape), score=np.zeros(shape), n_ended=np.zeros(n, np.int64),
        failed_step=np.zeros(n, np.int64), outcome=np.full(n, member.WAITING, dtype=np.int64),
    )  # fmt: skip
