"""From the shards' gradients to new weights, panel by panel of the packed weights (``tables.P_AT`` and on).

The work is the same for any number of threads and lanes: a panel's shards are added up in their order; squares are
summed down every column in float64, and the columns' sums, in the public order of the columns, by every thread alike.
"""

from __future__ import annotations

import math

from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, clamp, fma, load, splat, store, widen
from tsforecast.backends.cpu.optimizers import ADAMW, update
from tsforecast.backends.cpu.tables import (
    COUNT,
    FROM,
    HEIGHT,
    P_AT,
    P_BIAS,
    P_COLUMN,
    P_H,
    P_ROWS,
    P_STEP,
    P_TO,
    P_VECTORS,
    P_X,
    PLACE,
)
from tsforecast.backends.cpu.transpose import transpose_columns


@kernel
def sum_panel(
    panel,  # [N_PANEL_FIELDS]
    n_shards,
    decay,  # the penalty is decay/2 times the squares of all weights; 0 for none
    max_value,  # bound on every entry; infinity for none
    params,  # [n_packed]
    shards,  # [shards, n_gradient] in: their gradients; out: the first one's row holds the batch's
    norms,  # [panel columns] out: squares of the gradient, summed down each column
    penalties,  # [panel columns] out, only where decay is above 0
):  # fmt: skip
    """Gradient of the batch for one panel, penalty included, clipped by value, and the squares of its columns."""
    first, K, V = panel[P_AT], panel[P_ROWS], panel[P_VECTORS]
    total, last = shards[0], first + K * V * LANES
    for s in range(1, n_shards):
        shard = shards[s]
        for i in range(first, last, LANES):
            store(total, i, load(total, i) + load(shard, i))
    if decay > 0.0:
        _add_penalty(panel, decay, params, total, penalties)
    if max_value < math.inf:
        most = splat(total, max_value)
        for i in range(first, last, LANES):
            store(total, i, clamp(load(total, i), most))
    for v in range(V):
        squares = splat(norms, 0)
        for i in range(first + v * LANES, last, V * LANES):
            g = widen(load(total, i))
            squares = fma(g, g, squares)
        store(norms, panel[P_COLUMN] + v * LANES, squares)


@inlined
def _add_penalty(panel, decay, params, total, penalties):
    """Add ``decay * weight`` to the gradient, but for the biases."""
    first, V, bias = panel[P_AT], panel[P_VECTORS], panel[P_BIAS]
    rate, half = splat(params, decay), splat(penalties, 0.5 * decay)
    for v in range(V):
        squares = splat(penalties, 0)
        for k in range(panel[P_ROWS]):
            if k != bias:
                i = first + (k * V + v) * LANES
                w = load(params, i)
                store(total, i, fma(rate, w, load(total, i)))
                squares = fma(widen(w), widen(w), squares)
        store(penalties, panel[P_COLUMN] + v * LANES, half * squares)


@inlined
def sum_columns(columns, sums):
    """Sum over the columns, in their public order: four sums side by side, since one would wait for every addition."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = len(columns) // 4 * 4
    for i in range(0, whole, 4):
        s0 += sums[columns[i]]
        s1 += sums[columns[i + 1]]
        s2 += sums[columns[i + 2]]
        s3 += sums[columns[i + 3]]
    for i in range(whole, len(columns)):
        s0 += sums[columns[i]]
    return (s0 + s1) + (s2 + s3)


@inlined
def step_panel(panel, rule, scalars, params, gradient, m, v):
    """One step of the optimiser for one panel, and the transposed copies of its new weights."""
    first, width, bias = panel[P_AT], panel[P_VECTORS] * LANES, panel[P_BIAS]
    last = first + panel[P_ROWS] * width
    at_bias = min(last, first + bias * width)
    below_bias = min(last, at_bias + width)
    cuts = (first, at_bias, below_bias, last)
    for part in range(3):  # weights, bias, weights: in a loop, since every call with a constant is compiled by itself
        update(rule, cuts[part], cuts[part + 1], part != 1, scalars, params, gradient, m, v)
    transpose_panel(panel, params)


@kernel
def transpose_panel(panel, params):
    """Write the transposed copies of one panel, which the backward multiplies read."""
    row = panel[P_VECTORS] * LANES
    for copy in (P_H, P_X):
        if panel[copy + COUNT] > 0:
            for v in range(panel[P_VECTORS]):
                transpose_columns(
                    params, panel[P_AT] + panel[copy + FROM] * row + v * LANES, row, panel[copy + COUNT], params,
                    panel[copy + PLACE], panel[copy + HEIGHT], panel[P_TO] + v * panel[P_STEP],
                )  # fmt: skip


@inlined
def penalty_rate(rule, share):
    """What weights are multiplied by in the gradient; adamw decays by itself."""
    return 0.0 if rule.solver == ADAMW else rule.alpha * share


@inlined
def clip_factor(rule, norm):
    """What shortens a gradient of this norm to the longest allowed."""
    return rule.max_norm / norm if norm > rule.max_norm else 1.0
