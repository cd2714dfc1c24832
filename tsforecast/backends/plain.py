"""Forecasts in plain NumPy, with the very bits of the CPU kernels: for the first ones, before anything is compiled.

Kernels take seconds to compile and some tenths to load; a few forecasts in NumPy take milliseconds. So that nobody can
tell afterwards which of the two it was, every operation rounds as the kernels' does (``rounding.fma`` is the one that
NumPy lacks), in the order of ``backends.cpu``: a sum is one chain over inputs, bias and hidden units.

Letters: B rows, T steps, F features, H units, K outputs, Q quantiles; ``w [K,N]`` any weight matrix.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.plain_cells import LAYERS, chain
from tsforecast.backends.reference.windows import MIN_RELATIVE_SCALE
from tsforecast.cells import CELLS
from tsforecast.parameters import layer_shapes
from tsforecast.spec import NetworkSpec

Array = NDArray
MOST_SECONDS = 0.25  # of one call by the estimate; of all calls of a process by the clock, if kernels need only loading
COMPILE_SECONDS = 3.0  # of all calls, if kernels would have to be compiled
SECONDS_A_SUM, SECONDS_A_PRODUCT = 2e-5, 2e-8  # what one vector operation of a chain costs, and each of its elements
_spent = 0.0


def is_worth_it(spec: NetworkSpec, n_windows: int, dtype: np.dtype) -> bool:
    """Whether this way is the faster one for so many windows: little work, and no kernel ready for it."""
    if _spent > COMPILE_SECONDS or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0" or not spec.is_plain_stack:
        return False
    widths, n_gates = (spec.n_features, *spec.hidden_sizes), CELLS[spec.cell].n_gates
    seconds = sum(
        spec.n_timesteps * (below + 1 + units) * (SECONDS_A_SUM + SECONDS_A_PRODUCT * n_windows * n_gates * units)
        for below, units in pairwise(widths)
    )
    if seconds > MOST_SECONDS:
        return False
    if _spent <= MOST_SECONDS and "tsforecast.backends.cpu.backend" not in sys.modules:
        return True
    from tsforecast.backends.cpu.backend import CpuBackend

    return not CpuBackend.can_predict_at_once(spec, dtype)


@np.errstate(all="ignore")  # kernels do not warn, either
def predict(spec: NetworkSpec, params: Array, values: Array, x_starts: Array) -> Array:
    """Forecasts ``[N,K*Q]``; the meaning and the bits are those of ``CpuBackend.predict``."""
    global _spent
    began = time.perf_counter()
    p = spec.views(params)
    z, location, scale, base = _read(spec, params.dtype, values, x_starts)
    h = list(z.transpose(1, 0, 2))
    for i in range(len(spec.hidden_sizes)):
        h = LAYERS[spec.cell](h, {name: p[f"layers.{i}.{name}"] for name in layer_shapes(spec.cell, 1, 1)})
    columns = [z.reshape(len(z), -1)] if spec.linear_skip else []
    weights = [p["skip.w"]] if spec.linear_skip else []
    one = np.ones((len(z), 1), params.dtype)
    y = chain([*columns, one, h[-1]], [*weights, p["head.b"][None], p["head.w"]])
    if spec.window_norm != "none" or spec.season_length:
        base = np.repeat(base, spec.n_quantiles, axis=1)
        y = ((y.astype(np.float64) + base) * scale + location).astype(params.dtype)
    _spent += time.perf_counter() - began
    return y


def _read(spec: NetworkSpec, dtype: np.dtype, values: Array, x_starts: Array) -> tuple[Array, Array, Array, Array]:
    """Normalised windows ``[B,T,F]``, mu and sigma of feature 0 ``[B,1]`` and the seasonal base ``[B,K]``."""
    T, F, m = spec.n_timesteps, spec.n_features, spec.season_length
    x = values[x_starts[:, None] + np.arange(T * F)].astype(np.float64).reshape(-1, T, F)
    level, spread = np.zeros((len(x), F)), np.ones((len(x), F))
    if spec.window_norm != "none":
        level = _mean(x[:, -m:])
    if spec.window_norm == "standard":
        deviation = x - _mean(x)[:, None]
        spread = np.sqrt(_mean(deviation * deviation))
        spread = np.where(spread > MIN_RELATIVE_SCALE * np.abs(level), spread, 1.0)
    z = (x - level[:, None]) * (1.0 / spread)[:, None]
    location, scale = level[:, :1], spread[:, :1]
    base = np.zeros((len(x), spec.n_outputs))
    if m:
        base = (x[:, T - m + np.arange(spec.n_outputs) % m, 0] - location) / scale
    return z.astype(dtype), location, scale, base


def _mean(x: Array) -> Array:
    """Mean over the steps, added one after the other."""
    return np.cumsum(x, axis=1)[:, -1] / x.shape[1]
