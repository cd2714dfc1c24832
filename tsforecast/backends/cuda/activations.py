"""Sigmoid and tanh in float32, to a few ulp: no fast-math, and no ``tanh.approx``, whose error is 5e-4."""

from __future__ import annotations

import math

import numpy as np

from tsforecast.backends.cuda.jit import device, divide

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
LOWEST = np.float32(-80.0)  # keeps exp within range, and the divisor below 2^126


@device
def sigmoid(x):
    """Logistic function, with full relative accuracy towards 0; NaN stays NaN."""
    if x < LOWEST:
        x = LOWEST
    return divide(ONE, ONE + math.exp(-x))


@device
def tanh(x):
    """Hyperbolic tangent, with full relative accuracy towards 0; NaN stays NaN."""
    return math.tanh(x)
