"""Learning rates of one epoch, the same to the last bit on every machine (see ``initializers``).

With ``e`` the epoch from 0, ``b`` the batch and ``n`` the batches an epoch::

    constant      lr = lr0
    exponential   lr = lr0 * gamma^e
    step          lr = lr0 * gamma^floor(e / step_size)
    cosine        lr = lr0 * (1 + cos(pi * p)) / 2,   p = (e mod max_iter + b / n) / max_iter

References
----------
I. Loshchilov, F. Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts. ICLR 2017 (cosine).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def learning_rates(
    name: str, lr0: float, epoch: int, n_batches: int, max_iter: int, gamma: float, step_size: int
) -> Array:
    """Learning rate of every batch of an epoch.

    Parameters
    ----------
    name : {"constant", "cosine", "exponential", "step"}
        The schedule.
    lr0 : float
        Learning rate of the first batch.
    epoch : int
        From 0; counts on through warm starts.
    n_batches : int
        Batches an epoch.
    max_iter : int
        Epochs of one cosine period; training that goes on after it starts over at ``lr0``.
    gamma : float
        Factor of "exponential" (each epoch) and "step" (each ``step_size`` epochs).
    step_size : int
        Epochs of one stair of "step".

    Returns
    -------
    ndarray of shape (n_batches,), float64
    """
    if name == "constant":
        return np.full(n_batches, lr0)
    if name == "exponential":
        return np.full(n_batches, lr0 * _power(gamma, epoch))
    if name == "step":
        return np.full(n_batches, lr0 * _power(gamma, epoch // step_size))
    if name == "cosine":
        progress = (epoch % max_iter + np.arange(n_batches) / n_batches) / max_iter
        return lr0 * (0.5 + 0.5 * _cos_pi(progress))
    raise ValueError(f"unknown learning_rate {name!r}; known: 'constant', 'cosine', 'exponential', 'step'")


def _power(base: float, exponent: int) -> float:
    """Return ``base ** exponent`` by repeated squaring."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _cos_pi(p: Array) -> Array:
    """``cos(pi * p)`` for p in [0, 1]: the Taylor series of ``sin(pi * (1/2 - p))``, to 1e-15."""
    x = math.pi * (0.5 - p)
    square = x * x
    series = np.ones_like(x)
    for k in range(21, 1, -2):
        series = 1.0 - series * square / (k * (k - 1))
    return x * series
