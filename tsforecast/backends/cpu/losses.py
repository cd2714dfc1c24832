"""Loss of a batch of outputs and its derivative; the formulas are in ``backends.reference.losses``."""

from __future__ import annotations

import numpy as np

from tsforecast.backends.cpu.jit import inlined, kernel

SQUARED, ABSOLUTE, HUBER, QUANTILE = 0, 1, 2, 3


@inlined
def entry_loss(loss, delta, q, d):
    """``(l, dl/dd)`` of one difference ``d = output - target``, in float64."""
    if loss == SQUARED:
        return d * d, 2.0 * d
    if loss == HUBER and abs(d) <= delta:
        return 0.5 * d * d, d
    if loss == QUANTILE:
        up, down = 1.0 - q, -q
    else:
        up, down = 1.0, -1.0
    slope = up if d > 0.0 else (down if d < 0.0 else 0.0 * d)  # NaN stays NaN
    if loss == HUBER:
        return delta * (abs(d) - 0.5 * delta), delta * slope
    return slope * d, slope


@kernel
def batch_loss(
    B, K, Q, N, rule,
    targets, y_starts, y_stride, weights,
    rows,  # [B]
    share,  # 1 / (sum of the weights of the whole batch)
    frame,  # [B,2]
    base,  # [B,K]
    out,  # [B,N] outputs, N >= K*Q
    dout,  # [B,N] out: derivative of the batch's loss; zero beyond K*Q
):  # fmt: skip
    """Sum over these rows of ``share * weight * loss``."""
    total = 0.0
    for b in range(B):
        weight = share * np.float64(weights[rows[b]])
        start = y_starts[rows[b]]
        row_total = 0.0
        for k in range(K):
            y = (np.float64(targets[start + k * y_stride]) - frame[b, 0]) / frame[b, 1] - base[b, k]
            for q in range(Q):
                d = np.float64(out[b * N + k * Q + q]) - y
                value, slope = entry_loss(rule.loss, rule.delta, rule.quantiles[q], d)
                row_total += value
                dout[b * N + k * Q + q] = weight * slope / (K * Q)
        for j in range(K * Q, N):
            dout[b * N + j] = 0
        total += weight * (row_total / (K * Q))
    return total
