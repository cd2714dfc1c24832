"""Loss of a tile of outputs and its derivative; the formulas are in ``backends.reference.losses``."""

from __future__ import annotations

import numpy as np
from numba import float32

from tsforecast.backends.cuda.activations import ONE, ZERO
from tsforecast.backends.cuda.jit import device, load, renewed, split, store
from tsforecast.backends.cuda.optimizers import DELTA, LOSS
from tsforecast.backends.cuda.plan import D_OUT, FEATURES, OUT, OUTPUTS, QUANTILES
from tsforecast.backends.cuda.windows import normalised, season_base

SQUARED, ABSOLUTE, HUBER, QUANTILE = 0, 1, 2, 3
HALF, TWO = np.float32(0.5), np.float32(2.0)


@device
def entry_loss(loss, delta, q, d):
    """``(l, dl/dd)`` of one difference ``d = output - target``."""
    if loss == SQUARED:
        return d * d, TWO * d
    if loss == HUBER and abs(d) <= delta:
        return HALF * d * d, d
    up, down = ONE, -ONE
    if loss == QUANTILE:
        up, down = ONE - q, -q
    slope = up if d > ZERO else (down if d < ZERO else ZERO * d)  # NaN stays NaN
    if loss == HUBER:
        return delta * (abs(d) - HALF * delta), delta * slope
    return slope * d, slope


@device
def tile_loss(
    table,
    codes, rule, quantiles,  # as in epoch.train
    targets, y_starts, y_stride, weights, frames,
    rows, first, n,  # as in windows.read_windows
    share,  # 1 / (sum of the weights of the whole batch)
    work,  # in: outputs; out: the derivative of the batch's loss by them
    tile_rows,  # as in windows.read_windows
    tid, n_threads,
):  # fmt: skip
    """Return this thread's part of the sum over the tile of ``share * weight * loss``."""
    loss, delta = load(codes, LOSS), load(rule, DELTA)
    K, Q = load(table, OUTPUTS), load(table, QUANTILES)
    total = ZERO
    for e in range(renewed(tid), tile_rows * K * Q, n_threads):
        row, o = split(e, K * Q)
        k, q = split(o, Q)
        slope = ZERO
        if row < n:
            window = load(rows, first + row)
            y = normalised(
                table, frames, window * load(table, FEATURES), load(targets, load(y_starts, window) + k * y_stride)
            )
            d = load(work, load(table, OUT) + e) - (y - season_base(table, work, tile_rows, row, k))
            scale = share * load(weights, window) / float32(K * Q)
            value, slope = entry_loss(loss, delta, load(quantiles, q), d)
            total += scale * value
            slope *= scale
        store(work, load(table, D_OUT) + e, slope)
    return total
