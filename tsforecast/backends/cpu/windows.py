"""Gathering and normalising windows inside the epoch; the equations are numbered in ``backends.reference.windows``.

Letters: B rows, T steps, F features, K outputs, m season length, S stride of a row of the first layer's ``xh``,
A stride of a row of the head's input. Statistics are sums in float64, in the order of the steps.
"""

from __future__ import annotations

import math

import numpy as np

from tsforecast.backends.cpu.jit import inlined, kernel

MIN_RELATIVE_SCALE = 1e-7  # see backends.reference.windows
NORM_NONE, NORM_CENTER, NORM_STANDARD = 0, 1, 2


@inlined
def location_and_scale(T, F, f, m, norm, values, start):
    """1a, 1b of feature ``f`` of the window that begins at ``start``: ``(mu, sigma)`` in float64."""
    if norm == NORM_NONE:
        return 0.0, 1.0
    n = m if m > 0 else T
    level = 0.0
    for t in range(T - n, T):
        level += np.float64(values[start + t * F + f])
    level /= n
    if norm == NORM_CENTER:
        return level, 1.0
    mean = 0.0
    for t in range(T):
        mean += np.float64(values[start + t * F + f])
    mean /= T
    spread = 0.0
    for t in range(T):
        d = np.float64(values[start + t * F + f]) - mean
        spread += d * d
    spread = math.sqrt(spread / T)
    return level, spread if spread > MIN_RELATIVE_SCALE * abs(level) else 1.0


@kernel
def gather(
    T, B, F, K, m, norm, skip, S, A,
    values, x_starts,
    rows,  # [B] which windows
    xh,  # [T+1,B,S] out: x
    head,  # [B,A] out: the window, where the network has a linear skip
    frame,  # [B,2] float64 out: mu_0, sigma_0
    base,  # [B,K] float64 out
):  # fmt: skip
    """Write a batch of normalised windows where the network reads them."""
    for b in range(B):
        start = x_starts[rows[b]]
        for f in range(F):
            level, scale = location_and_scale(T, F, f, m, norm, values, start)
            if f == 0:
                frame[b, 0] = level
                frame[b, 1] = scale
            over = 1.0 / scale
            for t in range(T):
                z = (np.float64(values[start + t * F + f]) - level) * over
                xh[(t * B + b) * S + f] = z
                if skip:
                    head[b * A + t * F + f] = z
        for k in range(K):
            if m > 0:
                z = np.float64(values[start + (T - m + k % m) * F])
                base[b, k] = (z - frame[b, 0]) / frame[b, 1]
            else:
                base[b, k] = 0.0
