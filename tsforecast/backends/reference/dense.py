"""A dense map: ``y = x W + b``. Letters: B rows, I inputs, O outputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(
    x: Array,  # [B,I]
    w: Array,  # [I,O]
    b: Array | float,  # [O], or 0.0 for a map without bias
) -> Array:
    """Return ``x W + b [B,O]`` (1a)."""
    return x @ w + b


def backward(
    dy: Array,  # [B,O]
    x: Array,  # [B,I]
    w: Array,  # [I,O]
    dw: Array,  # [I,O] accumulated into
    db: Array | None,  # [O] accumulated into; None for a map without bias
) -> Array:
    """Undo ``forward`` (1a); return ``dx [B,I]``."""
    dw += x.T @ dy
    if db is not None:
        db += dy.sum(axis=0)
    return dy @ w.T
