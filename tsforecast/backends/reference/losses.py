"""Losses and their derivatives, with ``d = output - target``.

Letters: B rows, K outputs, Q quantiles. The loss of a row is the mean over its K*Q entries of::

    squared_error    d^2
    absolute_error   |d|                                            (derivative 0 at d = 0)
    huber            d^2 / 2 if |d| <= delta, else delta * (|d| - delta / 2)
    quantile         (1 - q) * d if d > 0, else -q * d              (pinball; derivative 0 at d = 0)

and the loss of a batch the weighted mean over its rows.

References
----------
P. Huber: Robust Estimation of a Location Parameter. Annals of Mathematical Statistics 35(1), 1964.
R. Koenker, G. Bassett: Regression Quantiles. Econometrica 46(1), 1978.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import StepRule

Array = NDArray[np.float64]


def pointwise(
    rule: StepRule,
    d: Array,  # [B,K,Q]
) -> tuple[Array, Array]:
    """Loss of every entry and its derivative by ``d``, both ``[B,K,Q]``."""
    if rule.loss == "squared_error":
        return d**2, 2.0 * d
    if rule.loss == "absolute_error":
        return np.abs(d), np.sign(d)
    if rule.loss == "huber":
        inside = np.abs(d) <= rule.delta
        value = np.where(inside, 0.5 * d**2, rule.delta * (np.abs(d) - 0.5 * rule.delta))
        return value, np.clip(d, -rule.delta, rule.delta)
    if rule.loss == "quantile":
        q = np.asarray(rule.quantiles)
        slope = np.where(d > 0.0, 1.0 - q, np.where(d < 0.0, -q, 0.0))
        return slope * d, slope
    raise ValueError(f"unknown loss {rule.loss!r}")


def batch_loss(
    rule: StepRule,
    output: Array,  # [B,K,Q]
    target: Array,  # [B,K]
    weights: Array,  # [B], with a positive sum
) -> tuple[float, Array]:
    """Weighted mean loss of a batch and its derivative by ``output [B,K,Q]``."""
    value, slope = pointwise(rule, output - target[:, :, None])
    share = weights / weights.sum()
    loss = float(share @ value.mean(axis=(1, 2)))
    return loss, share[:, None, None] * slope / slope[0].size
