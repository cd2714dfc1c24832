"""Compare a backend's gradients with central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import Backend
from tsforecast.spec import NetworkSpec

Array = NDArray[np.float64]


def gradcheck(
    backend: Backend,
    spec: NetworkSpec,
    params: Array,
    x: Array,
    cotangent: Array,
    step: float = 1e-5,
) -> dict[str, float]:
    """Relative errors of the hand-written gradients of ``sum(outputs * cotangent)``.

    Every entry of the parameters and of the input is moved by ``step`` both ways, so the time grows with the square
    of the size: use small networks.

    Parameters
    ----------
    backend : Backend
        Its ``gradient`` is what is checked.
    spec : NetworkSpec
        With ``window_norm="none"`` and ``season_length=0``.
    params : ndarray of shape (P,), float64
        Where to check.
    x : ndarray of shape (N, T, F), float64
        Input windows.
    cotangent : ndarray of shape (N, K*Q), float64
        Random numbers: every output must matter, each in its own way.
    step : float
        Of the differences; their own error is about ``step**2 + 1e-16 / step``.

    Returns
    -------
    dict of str to float
        For each parameter block of ``spec.blocks`` and for the input ``"x"``: the largest absolute difference divided
        by the largest absolute entry of the central differences.
    """

    def objective(p: Array, inputs: Array) -> float:
        return float((backend.gradient(spec, p, inputs, cotangent)[0] * cotangent).sum())

    _, dparams, dx = backend.gradient(spec, params, x, cotangent)
    numeric = spec.views(numerical_gradient(lambda p: objective(p, x), params, step))
    errors = {name: relative_error(d, numeric[name]) for name, d in spec.views(dparams).items()}
    errors["x"] = relative_error(dx, numerical_gradient(lambda inputs: objective(params, inputs), x, step))
    return errors


def numerical_gradient(function: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Central differences of a scalar ``function`` of one array, in the shape of ``at``."""
    gradient = np.empty_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2.0 * step)
    return gradient


def relative_error(found: Array, expected: Array) -> float:
    """Largest absolute difference over the largest absolute expected entry (0 where both are all zero)."""
    difference, size = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if size == 0.0:
        return 0.0 if difference == 0.0 else np.inf
    return difference / size
