"""Many small networks trained by one compiled call a thread, each from its first epoch to its last.

A network is trained by one thread, with the epochs, row orders and stopping rules of ``nn.trainer`` and the kernels of
``epoch``, so its bits are those of training it alone. Threads take the next network from a common queue.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tsforecast.backends.cpu import epoch
from tsforecast.backends.cpu.arguments import Data, Memory, State
from tsforecast.backends.cpu.borrow import borrowed
from tsforecast.backends.cpu.epoch import DONE, STOPPED
from tsforecast.backends.cpu.jit import entry, inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, store
from tsforecast.backends.cpu.shuffle import epoch_order
from tsforecast.backends.cpu.sync import STOP, atomic_add, atomic_load

# How the training of a network ended, besides the statuses of ``epoch``.
EXHAUSTED, NOT_FINITE, WAITING = 3, 4, 5


class Networks(NamedTuple):
    """The network that all have: tables of ``plan.Plan``, for training and, ``held_``, for validation rows."""

    net: NamedTuple
    layers: np.ndarray
    panels: np.ndarray
    columns: np.ndarray
    runs: np.ndarray
    held_net: NamedTuple
    held_layers: np.ndarray


class Members(NamedTuple):
    """What each of n networks has of its own. E is the largest number of epochs."""

    rows: np.ndarray  # [n+1] int64 first training row
    held: np.ndarray  # [n+1] int64 first validation row
    held_weight: np.ndarray  # [n] float64 sum of the weights of the validation rows
    batch_size: np.ndarray  # [n] int64
    first_epoch: np.ndarray  # [n] int64
    n_epochs: np.ndarray  # [n] int64
    patience: np.ndarray  # [n] int64
    shuffled: np.ndarray  # [n] bool
    seed: np.ndarray  # [n] int64
    rate: np.ndarray  # [n] float64
    factors: np.ndarray  # [.] float64 of the learning rate, [epochs, batches] for each schedule
    schedule: np.ndarray  # [n] int64 where the factors begin
    tol: np.ndarray  # [n] float64
    params: np.ndarray  # [n,P] in and out, as the next three
    m: np.ndarray  # [n,P]
    v: np.ndarray  # [n,P]
    step: np.ndarray  # [n] int64
    noise_seed: np.ndarray  # [n] int64
    loss: np.ndarray  # [n,E] float64 out
    score: np.ndarray  # [n,E] float64 out: minus the validation loss
    n_ended: np.ndarray  # [n] int64 out: epochs
    failed_step: np.ndarray  # [n] int64 out, where the loss diverged
    outcome: np.ndarray  # [n] int64 out


class Desk(NamedTuple):
    """What one thread works with; weights and moments are packed."""

    state: State
    before: State  # as the last epoch left it
    best: np.ndarray  # [n_gradient] weights of the best epoch
    memory: Memory
    held_work: np.ndarray
    held_frame: np.ndarray
    held_base: np.ndarray
    order: np.ndarray  # [most rows] int64
    scratch: np.ndarray  # [3 * most rows] int64
    rates: np.ndarray  # [most batches] float64
    total: np.ndarray  # [1] float64


@entry
def train_members(
    queue,  # [1] int64: the next network
    sync, networks, rule, data, held_data, block, members, desk,
):  # fmt: skip
    """Train networks from the queue until there are no more."""
    networks, data, held_data = _borrowed_networks(networks), _borrowed_data(data), _borrowed_data(held_data)
    desk = _borrowed_desk(desk)
    while atomic_load(sync, STOP) == 0:
        i = atomic_add(queue, 0, 1)
        if i >= len(members.seed):
            break
        _read_state(i, networks, members, desk.state)
        members.outcome[i] = _train_member(i, sync, networks, rule, data, held_data, block, members, desk)
        _write_state(i, networks, members, desk.state)


@inlined
def _borrowed_networks(n):
    return Networks(
        n.net, borrowed(n.layers), borrowed(n.panels), borrowed(n.columns), borrowed(n.runs), n.held_net,
        borrowed(n.held_layers),
    )  # fmt: skip


@inlined
def _borrowed_data(data):
    return Data(
        borrowed(data.values), borrowed(data.x_starts), borrowed(data.targets), borrowed(data.y_starts), data.y_stride,
        borrowed(data.weights), borrowed(data.forced),
    )  # fmt: skip


@inlined
def _borrowed_state(state):
    return State(borrowed(state.weights), borrowed(state.m), borrowed(state.v))


@inlined
def _borrowed_desk(desk):
    memory = desk.memory
    return Desk(
        _borrowed_state(desk.state), _borrowed_state(desk.before), borrowed(desk.best),
        Memory(
            borrowed(memory.work), borrowed(memory.frame), borrowed(memory.base), borrowed(memory.scalars),
            borrowed(memory.shard_gradients), borrowed(memory.shard_losses), borrowed(memory.norms),
            borrowed(memory.penalties), borrowed(memory.totals), borrowed(memory.carried),
        ),
        borrowed(desk.held_work), borrowed(desk.held_frame), borrowed(desk.held_base), borrowed(desk.order),
        borrowed(desk.scratch), borrowed(desk.rates), borrowed(desk.total),
    )  # fmt: skip


@inlined
def _read_state(i, networks, members, state):
    epoch.pack(members.params[i], networks.runs, state.weights)
    epoch.pack(members.m[i], networks.runs, state.m)
    epoch.pack(members.v[i], networks.runs, state.v)


@inlined
def _write_state(i, networks, members, state):
    epoch.unpack(state.weights, networks.runs, members.params[i])
    epoch.unpack(state.m, networks.runs, members.m[i])
    epoch.unpack(state.v, networks.runs, members.v[i])


@kernel
def _train_member(i, sync, networks, rule, data, held_data, block, members, desk):
    """The loop of ``nn.trainer.train`` for one network, from and to ``desk.state``; returns its outcome."""
    n, n_held = networks.net.n_gradient, members.held[i + 1] - members.held[i]
    best, idle, step = -math.inf, 0, members.step[i]
    for e in range(members.n_epochs[i]):
        _copy_state(n, desk.state, desk.before)
        status = _train_epoch(i, e, step, sync, networks, rule, data, members, desk)
        score = -members.loss[i, e]
        if status == DONE and n_held > 0:
            score = _score(i, sync, networks, rule, held_data, block, members, desk)
            members.score[i, e] = score
            if atomic_load(sync, STOP) != 0:  # the score may be incomplete
                status = STOPPED
        if status != DONE:
            members.failed_step[i] = step + np.int64(desk.memory.totals[2]) + 1
            _copy_state(n, desk.before, desk.state)
            return status
        step += np.int64(desk.memory.totals[2])
        members.step[i] = step
        members.n_ended[i] = e + 1
        idle = 0 if score >= best + members.tol[i] else idle + 1
        if score > best:
            best = score
            if n_held > 0:
                _copy(n, desk.state.weights, desk.best)
        if idle > members.patience[i]:
            status = EXHAUSTED
            break
    if n_held > 0 and best > -math.inf:
        _copy(n, desk.best, desk.state.weights)
    return status


@inlined
def _train_epoch(i, e, step, sync, networks, rule, data, members, desk):
    """Epoch number ``e`` of this call; its loss goes to ``members``."""
    first, n_rows = members.rows[i], members.rows[i + 1] - members.rows[i]
    if members.shuffled[i]:
        epoch_order(n_rows, members.seed[i], members.first_epoch[i] + e, first, desk.order, desk.scratch)
    else:
        for k in range(n_rows):
            desk.order[k] = first + k
    n_batches = (n_rows + members.batch_size[i] - 1) // members.batch_size[i]
    for k in range(n_batches):
        desk.rates[k] = members.rate[i] * members.factors[members.schedule[i] + e * n_batches + k]
    totals = desk.memory.totals
    totals[:] = 0.0
    status = epoch.train_epoch(
        0, 1, sync, networks.net, networks.layers, networks.panels, networks.columns, rule, data,
        desk.order[:n_rows], members.batch_size[i], desk.rates[:n_batches], desk.state, desk.memory, step,
        members.noise_seed[i],
    )  # fmt: skip
    loss = totals[0] / totals[1]
    members.loss[i, e] = loss
    n = networks.net.n_gradient
    if status != DONE or (math.isfinite(loss) and _is_finite(n, desk.state, desk.memory.work[0])):
        return status
    return NOT_FINITE


@inlined
def _score(i, sync, networks, rule, held_data, block, members, desk):
    """Minus the loss on the validation rows, summed block by block as ``CpuBackend.evaluate`` does."""
    total = 0.0
    for first in range(members.held[i], members.held[i + 1], block):
        last = min(members.held[i + 1], first + block)
        epoch.evaluate(
            networks.held_net, networks.held_layers, rule, held_data, first, last, desk.state.weights, desk.held_work,
            desk.held_frame, desk.held_base, desk.memory.carried, desk.total, sync,
        )  # fmt: skip
        total += desk.total[0]
    return -(total / members.held_weight[i])


@inlined
def _copy(n, source, target):
    """Copy ``n`` numbers, which are whole vectors."""
    for i in range(0, n, LANES):
        store(target, i, load(source, i))


@inlined
def _copy_state(n, source, target):
    _copy(n, source.weights, target.weights)
    _copy(n, source.m, target.m)
    _copy(n, source.v, target.v)


@inlined
def _is_finite(
    n, state,
    probe,  # [.] scratch
):  # fmt: skip
    """Whether weights and moments are: infinity times zero is not a number, and stays so in a sum."""
    zero = splat(probe, 0)
    total = zero
    for i in range(0, n, LANES):
        total = fma(load(state.weights, i), zero, total)
        total = fma(load(state.m, i), zero, total)
        total = fma(load(state.v, i), zero, total)
    store(probe, 0, total)
    finite = True
    for i in range(LANES):
        finite = finite and probe[i] == 0
    return finite
