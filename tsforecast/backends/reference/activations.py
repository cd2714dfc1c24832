"""Gate activations in forms that cannot overflow; ``y`` is the activated value, from which derivatives are taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(a: Array) -> Array:
    """Logistic function."""
    return 0.5 * np.tanh(0.5 * a) + 0.5


def sigmoid_slope(y: Array) -> Array:
    """Derivative of ``sigmoid`` where it is ``y``; 0 for a gate that is fixed at 1."""
    return y * (1.0 - y)


def tanh_slope(y: Array) -> Array:
    """Derivative of ``tanh`` where it is ``y``."""
    return 1.0 - y**2
