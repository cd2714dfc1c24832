"""What the threads of ``member`` work on: the networks of a fleet, and a thread's own desk.

Nothing of it is freed while they work, so a thread borrows it once and counts no references (``borrow``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.cpu.arguments import Data, Memory, State
from tsforecast.backends.cpu.borrow import borrowed
from tsforecast.backends.cpu.jit import inlined


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


@inlined
def borrowed_networks(n):
    """The same tables, not counted; see ``borrow``."""
    return Networks(
        n.net, borrowed(n.layers), borrowed(n.panels), borrowed(n.columns), borrowed(n.runs), n.held_net,
        borrowed(n.held_layers),
    )  # fmt: skip


@inlined
def borrowed_data(data):
    return Data(
        borrowed(data.values), borrowed(data.x_starts), borrowed(data.targets), borrowed(data.y_starts), data.y_stride,
        borrowed(data.weights), borrowed(data.forced),
    )  # fmt: skip


@inlined
def _borrowed_state(state):
    return State(borrowed(state.weights), borrowed(state.m), borrowed(state.v))


@inlined
def borrowed_desk(desk):
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
