"""From the outputs of a network with several quantiles a step to those that users see.

Letters: n rows, K outputs, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def nearest_median(levels: Sequence[float] | None) -> int:
    """Which of the quantiles stands for the forecast: the one nearest 0.5; 0 where a step has a single output."""
    return 0 if levels is None else int(np.argmin(np.abs(np.subtract(levels, 0.5))))


def sorted_quantiles(out: np.ndarray, n_outputs: int) -> np.ndarray:
    """``[n,K*Q]`` of a network as ``[n,K,Q]``, rising, so that quantiles do not cross."""
    return np.sort(out.reshape(len(out), n_outputs, -1), axis=2)


def middle_outputs(out: np.ndarray, n_outputs: int, levels: Sequence[float] | None) -> np.ndarray:
    """One number a step ``[n,K]`` of a network's outputs ``[n,K*Q]``: of sorted quantiles the one nearest 0.5."""
    return out if levels is None else sorted_quantiles(out, n_outputs)[:, :, nearest_median(levels)]
