"""Many small networks trained by one compiled call a thread, each from its first epoch to its last.

A network is trained by one thread, with the epochs, row orders and stopping rules of ``nn.trainer`` and the kernels of
``epoch``, so its bits are those of training it alone. Threads take the next network from a common queue.
"""

from __future__ import annotations

import math

import numpy as np

from tsforecast.backends.cpu import epoch
from tsforecast.backends.cpu.desk import borrowed_data, borrowed_desk, borrowed_networks
from tsforecast.backends.cpu.epoch import DONE, STOPPED
from tsforecast.backends.cpu.jit import entry, inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, store
from tsforecast.backends.cpu.shuffle import epoch_order
from tsforecast.backends.cpu.sync import STOP, atomic_add, atomic_load

# How the training of a network ended, besides the statuses of ``epoch``.
EXHAUSTED, NOT_FINITE, WAITING = 3, 4, 5


@entry
def train_members(
    queue,  # [1] int64: the next network
    sync, networks, rule, data, held_data, block, members, desk,
):  # fmt: skip
    """Train networks from the queue until there are no more."""
    networks, data, held_data = borrowed_networks(networks), borrowed_data(data), borrowed_data(held_data)
    desk = borrowed_desk(desk)
    while atomic_load(sync, STOP) == 0:
        i = atomic_add(queue, 0, 1)
        if i >= len(members.seed):
            break
        _read_state(i, networks, members, desk.state)
        members.outcome[i] = _train_member(i, sync, networks, rule, data, held_data, block, members, desk)
        _write_state(i, networks, members, desk.state)


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
