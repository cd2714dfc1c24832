"""Many networks at once on the device: each block of threads takes one network through an epoch, then the next one.

All networks take an epoch in one launch of ``epoch.train``. Between epochs, the host looks at losses and decides who
goes on, by the rules of ``nn.trainer``; weights, moments and row orders never leave the device. Results are those of
training each network alone but for rounding, and the same from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from tsforecast.backends.base import StepRule, Windows, check_starts
from tsforecast.backends.cuda.epoch import make_train
from tsforecast.backends.cuda.fleet_kernels import BEGIN, KEEP_BEST, RESTORE, TAKE_BEST, THREADS, find_non_finite, turn
from tsforecast.backends.cuda.inference import make_infer
from tsforecast.backends.cuda.launches import batches_at_once, launch, row_tiles
from tsforecast.backends.cuda.memory import DeviceWindows, Store, allocate, frames_of, upload
from tsforecast.backends.cuda.noise import hashes, step_keys, words
from tsforecast.backends.cuda.optimizers import schedule
from tsforecast.backends.cuda.plan import INFERENCE, ROWS, TRAINING, make_plan
from tsforecast.backends.cuda.tile import BLOCKS_PER_PROCESSOR
from tsforecast.backends.members import Member, one_buffer
from tsforecast.backends.reference.shuffle import low_bits
from tsforecast.spec import NetworkSpec

# A chunk is what is on the device at once; it is bounded in networks and in numbers.
MOST_MEMBERS, MOST_NUMBERS = 16384, 400_000_000


def train_fleet(
    spec: NetworkSpec,
    rule: StepRule,
    members: Sequence[Member],
    n_processors: int,
    rule_arrays: tuple,
) -> None:
    """Train every member, in place.

    Parameters
    ----------
    spec, rule
        Network, loss and optimiser of all members.
    members : sequence of Member
        All in float32.
    n_processors : int
        Multiprocessors of the device.
    rule_arrays : tuple
        The rule on the device.

    Raises
    ------
    KeyboardInterrupt
        Within a second of Ctrl-C. Members whose training had begun are as their last epoch left them.
    """
    for chunk in _chunks(members):
        _Fleet(spec, rule, chunk, n_processors, rule_arrays).train()


def _chunks(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Members in their order, in lists of a bounded size."""
    chunk: list[Member] = []
    size = 0
    for m in members:
        own = 7 * len(m.state.params) + 8 * len(m.windows) + len(m.windows.values) + len(m.windows.targets)
        if chunk and (len(chunk) == MOST_MEMBERS or size + own > MOST_NUMBERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(m)
        size += own
    if chunk:
        yield chunk


class _Fleet:
    """The members of one chunk on the device."""

    def __init__(self, spec, rule, members: list[Member], n_processors: int, rule_arrays: tuple):
        self._spec, self._rule, self._members, self._rule_arrays = spec, rule, members, rule_arrays
        self._plan, self._store, n = make_plan(spec, TRAINING), Store(), len(members)
        self._table, self._is_weight = upload(self._plan.table), upload(self._plan.is_weight)
        held_plan = make_plan(spec.without_dropout, INFERENCE)
        self._held_table, self._held_is_chain = upload(held_plan.table), held_plan.is_chain
        self._data, self._frames, self._rows = self._joined([m.windows for m in members])
        self._held_data, self._held_frames, self._held = self._joined([m.val for m in members])
        self._held_tiles = row_tiles(self._held)
        self._held_weight = np.array(
            [math.fsum(m.val.weights.astype(np.float64)) if m.val is not None else 1.0 for m in members]
        )
        self._cut_batches()
        schedules = {id(m.factors): m.factors for m in members}  # most share one
        places = dict(zip(schedules, np.cumsum([0, *(f.size for f in schedules.values())]), strict=False))
        self._factors = np.concatenate([*(f.ravel() for f in schedules.values()), np.zeros(int(self._n_batches.max()))])
        self._place, self._n_epochs = (
            self._column(lambda m: places[id(m.factors)]),
            self._column(lambda m: len(m.factors)),
        )
        self._rate, self._step = np.array([m.learning_rate for m in members]), self._column(lambda m: m.state.step)
        self._seed, self._noise_seed = words(m.seed or 0 for m in members), words(m.state.seed for m in members)
        self._first_epoch = self._column(lambda m: m.first_epoch)
        states = [np.array([getattr(m.state, name) for m in members]) for name in ("params", "m", "v")]
        self._state, self._before = [upload(array) for array in states], [allocate(array.size) for array in states]
        self._best = allocate(states[0].size)
        most = n_processors * BLOCKS_PER_PROCESSOR[self._plan.padded]
        self._n_blocks, self._work, self._gradients = self._store.room_for_tiles(self._plan, most, spec.n_params)
        rows_at_once = batches_at_once(spec, ROWS, 1) * ROWS // -(-n // self._n_blocks)
        self._batches_at_once = np.maximum(1, rows_at_once // self._column(lambda m: m.batch_size))
        self._loss_curve: list[NDArray] = []
        self._score_curve: list[NDArray] = []
        self._n_ended = np.zeros(n, np.int64)

    def _column(self, read) -> NDArray[np.int64]:
        return np.array([read(m) for m in self._members], dtype=np.int64)

    def _cut_batches(self) -> None:
        """Batches of all members, one after the other."""
        sizes, n_rows = self._column(lambda m: m.batch_size), int(self._rows[-1])
        self._n_batches = -(-np.diff(self._rows) // sizes)
        self._ends = np.cumsum(self._n_batches)
        self._starts = self._ends - self._n_batches
        self._owner = np.repeat(np.arange(len(sizes)), self._n_batches)
        self._number = np.arange(len(self._owner)) - self._starts[self._owner]
        begin = self._rows[self._owner] + self._number * sizes[self._owner]
        n = np.minimum(sizes[self._owner], self._rows[self._owner + 1] - begin)
        self._batch_rows = upload(np.stack([begin, n], axis=1).astype(np.int32))
        self._order, self._keys = allocate(n_rows, np.int32), allocate(n_rows, np.uint64)
        self._weight_sums, self._losses = allocate(len(begin)), allocate(len(begin))
        shuffled = self._column(lambda m: m.seed is not None)
        masks = np.array([low_bits(int(n)) for n in np.diff(self._rows)], dtype=np.uint64)
        constants = [a.astype(np.int32) for a in (self._rows, sizes, self._starts, shuffled)]
        self._turn_arrays, self._masks = [upload(array) for array in constants], upload(masks)

    def train(self) -> None:
        """Train to the end, and give every member its part of the outcome, also after an interrupt."""
        n, has_val = len(self._members), np.diff(self._held) > 0
        tol, patience = np.array([m.tol for m in self._members]), self._column(lambda m: m.patience)
        best, idle, running = np.full(n, -np.inf), np.zeros(n, np.int64), self._n_epochs > 0
        ended, actions, e, in_epoch = ~running, np.zeros(n, np.int64), 0, False
        self._note(running, "stopped")
        self._note(ended, "done")
        try:
            while running.any():
                self._turn(actions | np.where(running, BEGIN, 0), e)
                in_epoch, steps = True, self._step.copy()
                losses, n_done, finite = self._epoch(running, e)
                scores = np.where(has_val, self._scores(running & has_val), -losses)
                diverged = running & (n_done < self._n_batches)
                not_finite = running & ~diverged & ~(finite & np.isfinite(losses))
                self._fail(diverged, "diverged", losses)
                self._fail(not_finite, "not finite", losses)
                failed = diverged | not_finite
                running = running & ~failed
                self._step = np.where(failed, steps, self._step)
                self._loss_curve.append(losses)
                self._score_curve.append(scores)
                self._n_ended += running
                idle = np.where(scores >= best + tol, 0, idle + 1)
                better = running & (scores > best)
                best = np.where(better, scores, best)
                actions = np.where(failed, RESTORE, 0) | np.where(better & has_val, KEEP_BEST, 0)
                exhausted = running & (idle > patience)
                done = running & ~exhausted & (self._n_epochs <= e + 1)
                self._note(exhausted, "exhausted")
                self._note(done, "done")
                ended, running, e, in_epoch = ended | exhausted | done, running & ~exhausted & ~done, e + 1, False
        except KeyboardInterrupt:
            if in_epoch:
                actions, self._step = np.where(running, RESTORE, 0), np.where(running, steps, self._step)
            raise
        finally:
            self._turn(actions, e)
            self._turn(np.where(ended & has_val & (best > -np.inf), TAKE_BEST, 0), e)
            self._publish()

    def _joined(self, parts: list[Windows | None]) -> tuple[DeviceWindows, object, NDArray[np.int64]]:
        """All windows over one buffer of values and one of targets, their frames, and each part's first row."""
        some = [part for part in parts if part is not None]
        rows = np.cumsum([0, *(0 if part is None else len(part) for part in parts)])
        if not some:
            nothing, none = upload(np.zeros(1, np.float32)), upload(np.zeros(1, np.int64))
            return DeviceWindows(nothing, none, nothing, none, 1, nothing), nothing, rows
        spec = self._spec
        for part in some:
            check_starts(part.values, part.x_starts, spec.n_timesteps * spec.n_features)
            check_starts(part.targets, part.y_starts, (spec.n_outputs - 1) * part.y_stride + 1)
        values, x_starts = one_buffer([(part.values, part.x_starts) for part in some])
        targets, y_starts = one_buffer([(part.targets, part.y_starts) for part in some])
        weights = np.concatenate([part.weights for part in some])
        data = DeviceWindows(
            upload(values), upload(x_starts), upload(targets), upload(y_starts), int(some[0].y_stride), upload(weights)
        )
        return data, frames_of(spec, self._table, data.values, data.x_starts, len(x_starts)), rows

    def _turn(self, actions: NDArray, e: int) -> None:
        """Do what is to be done with each model between epochs."""
        row_hashes = hashes(self._seed, self._first_epoch + e)
        launch(
            turn, len(self._members), THREADS, self._store.upload("actions", actions.astype(np.int32)),
            *self._state, *self._before, self._best, self._spec.n_params, *self._turn_arrays,
            self._store.upload("hashes", row_hashes), self._masks, self._data.weights, self._keys, self._order,
            self._weight_sums,
        )  # fmt: skip

    def _epoch(self, running: NDArray[np.bool_], e: int) -> tuple[NDArray, NDArray, NDArray]:
        """Train those that run for an epoch; return losses, batches done, and whether all weights are finite."""
        n, owner = len(self._members), self._owner
        weight_sums = self._weight_sums.copy_to_host()[: len(owner)].astype(np.float64)
        scalars, keys = (
            self._store.upload(n, a) for n, a in zip(("scalars", "keys"), self._of_batches(weight_sums, e), strict=True)
        )
        done = self._store.room("done", n, np.int32)
        n_done, ends = np.zeros(n, np.int64), np.where(running, self._ends, self._starts)
        while True:
            first = self._starts + n_done
            last = np.minimum(first + self._batches_at_once, ends)
            if not (first < last).any():
                break
            launch(
                make_train(self._plan.padded, self._spec.cell, self._plan.is_chain, False),
                min(n, self._n_blocks), 4 * self._plan.padded, self._table, self._is_weight, *self._data,
                self._frames, self._order, self._batch_rows, scalars, keys,
                self._store.upload("begins", first.astype(np.int32)),
                self._store.upload("ends", last.astype(np.int32)), *self._rule_arrays, *self._state, self._gradients,
                self._work, self._plan.n_work, 1, 1, self._store.room("totals", 3 * self._n_blocks), self._losses, done,
            )  # fmt: skip
            now_done = done.copy_to_host()[:n].astype(np.int64)
            n_done += now_done
            ends = np.where(now_done < last - first, first + now_done, ends)  # of those that diverged
        finite = self._store.room("finite", n, np.int32)
        launch(find_non_finite, n, THREADS, *self._state, self._spec.n_params, finite)
        steps = (weight_sums != 0.0) & (self._number < n_done[owner])
        self._step = self._step + np.bincount(owner, steps, n).astype(np.int64)
        batch_losses = np.where(steps, self._losses.copy_to_host()[: len(owner)].astype(np.float64), 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            losses = np.bincount(owner, batch_losses * weight_sums, n) / np.bincount(owner, weight_sums, n)
        return losses, n_done, finite.copy_to_host()[:n] != 0

    def _of_batches(self, weight_sums: NDArray, e: int) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
        """``optimizers.schedule`` and ``noise.step_keys`` of all batches of epoch ``e`` of this call."""
        owner, taken = self._owner, np.cumsum(weight_sums != 0.0)
        before = np.concatenate([[0], taken])[self._starts]
        steps = self._step[owner] + taken - before[owner]
        place = self._place + np.clip(e, 0, np.maximum(self._n_epochs - 1, 0)) * self._n_batches
        rates = self._rate[owner] * self._factors[place[owner] + self._number]
        return schedule(self._rule, weight_sums, rates, steps), step_keys(self._noise_seed[owner], steps)

    def _scores(self, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Minus the validation loss of each model that is asked."""
        tiles = self._held_tiles[asked[self._held_tiles[:, 0]]]
        if not len(tiles):
            return np.full(len(asked), -np.inf)
        losses = self._store.room("tile_losses", len(self._held_tiles))
        rows = self._store.upload("rows", np.arange(self._held[-1], dtype=np.int32))
        launch(
            make_infer(self._plan.padded, self._spec.cell, self._held_is_chain),
            min(len(tiles), self._n_blocks), 4 * self._plan.padded, self._held_table, *self._held_data,
            self._held_frames, rows, self._store.upload("tiles", tiles), *self._rule_arrays, self._state[0], self._work,
            self._plan.n_work, 1, losses, self._store.room("no_forecasts", 1),
        )  # fmt: skip
        of_tiles = losses.copy_to_host()[: len(tiles)].astype(np.float64)
        return -np.bincount(tiles[:, 0], of_tiles, len(asked)) / self._held_weight

    def _note(self, which: NDArray[np.bool_], outcome: str) -> None:
        for i in np.flatnonzero(which):
            self._members[i].outcome = outcome

    def _fail(self, which: NDArray[np.bool_], outcome: str, losses: NDArray) -> None:
        """Note why members failed, and where."""
        self._note(which, outcome)
        for i in np.flatnonzero(which):
            self._members[i].failed_step, self._members[i].failed_loss = int(self._step[i]) + 1, float(losses[i])

    def _publish(self) -> None:
        cuda.synchronize()
        arrays = [array.copy_to_host().reshape(len(self._members), -1) for array in self._state]
        losses, scores = (
            np.array(curve).reshape(-1, len(self._members)).T for curve in (self._loss_curve, self._score_curve)
        )
        for i, member in enumerate(self._members):
            state, n = member.state, self._n_ended[i]
            state.params[:], state.m[:], state.v[:] = (array[i] for array in arrays)
            state.step = int(self._step[i])
            member.losses = losses[i, :n].tolist()
            member.scores = [] if member.val is None else scores[i, :n].tolist()
