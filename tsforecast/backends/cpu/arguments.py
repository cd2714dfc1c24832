"""What the entry points are given beside the tables of ``plan``, and how it is made of what ``Backend`` is given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.base import StepRule, Windows, bound, check_starts
from tsforecast.spec import LOSSES, SOLVERS, NetworkSpec

_NOBODY_FORCED = np.empty((0, 0), np.uint8)


class Data(NamedTuple):
    """Windows as in ``backends.base.Windows``."""

    values: np.ndarray
    x_starts: np.ndarray
    targets: np.ndarray
    y_starts: np.ndarray
    y_stride: int
    weights: np.ndarray
    forced: np.ndarray  # [N,K] uint8, or [0,0]


class Rule(NamedTuple):
    """A ``StepRule`` in numbers; ``max_norm, max_value`` are infinite for no clipping; ``quantiles [Q]`` float64."""

    loss: int
    solver: int
    nesterov: int
    delta: float
    alpha: float
    max_norm: float
    max_value: float
    momentum: float
    beta_1: float
    beta_2: float
    epsilon: float
    quantiles: np.ndarray


class State(NamedTuple):
    """What a step changes, packed as ``plan.Plan`` says: weights ``[n_packed]``, ``m, v [n_gradient]``."""

    weights: np.ndarray
    m: np.ndarray
    v: np.ndarray


class Memory(NamedTuple):
    """Scratch: a work buffer, frames and bases a thread; a packed gradient a shard; sums of shards and of columns."""

    work: np.ndarray  # [threads, n_work]
    frame: np.ndarray  # [threads, rows, 2] float64
    base: np.ndarray  # [threads, rows, K] float64
    scalars: np.ndarray  # [threads, N_SCALARS]
    shard_gradients: np.ndarray  # [shards, n_gradient]
    shard_losses: np.ndarray  # [shards] float64
    norms: np.ndarray  # [panel columns] float64
    penalties: np.ndarray  # [panel columns] float64
    totals: np.ndarray  # [3] float64 out: sum of loss*weight, sum of weights, steps taken
    carried: np.ndarray  # [rows of a batch, .] states of a stateful network, zeros before the first batch; else [0,0]


def kernel_rule(rule: StepRule, spec: NetworkSpec, dtype: np.dtype) -> Rule:
    """A rule in numbers, for weights of ``dtype``."""
    if len(rule.quantiles) != spec.n_quantiles:
        raise ValueError(f"the rule has {len(rule.quantiles)} quantiles, the network {spec.n_quantiles}")
    return Rule(
        LOSSES[rule.loss], SOLVERS[rule.solver], int(rule.nesterov), float(rule.delta), float(rule.alpha),
        bound(rule.max_grad_norm), bound(rule.max_grad_value), float(rule.momentum), float(rule.beta_1),
        float(rule.beta_2), max(float(rule.epsilon), float(np.finfo(dtype).tiny)),
        np.array(rule.quantiles, dtype=np.float64),
    )  # fmt: skip


def kernel_data(windows: Windows, spec: NetworkSpec) -> Data:
    """Windows as kernels see them, after a look at every start."""
    check_starts(windows.values, windows.x_starts, spec.row_size)
    check_starts(windows.targets, windows.y_starts, (spec.n_outputs - 1) * windows.y_stride + 1)
    return Data(
        windows.values, windows.x_starts, windows.targets, windows.y_starts, windows.y_stride, windows.weights,
        _NOBODY_FORCED if windows.forced is None else windows.forced,
    )  # fmt: skip
