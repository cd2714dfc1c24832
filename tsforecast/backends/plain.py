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

from tsforecast.backends.approximation import LOG2_E, MANTISSA_BITS, POLYNOMIAL, clamp_of
from tsforecast.backends.reference.windows import MIN_RELATIVE_SCALE
from tsforecast.backends.rounding import fma
from tsforecast.spec import NetworkSpec

Array = NDArray
CELLS = ("lstm",)
MOST_SECONDS = 0.25  # of one call by the estimate; of all calls of a process by the clock, if kernels need only loading
COMPILE_SECONDS = 3.0  # of all calls, if kernels would have to be compiled
SECONDS_A_SUM, SECONDS_A_PRODUCT = 2e-5, 2e-8  # what one vector operation of a chain costs, and each of its elements
_spent = 0.0


def is_worth_it(spec: NetworkSpec, n_windows: int) -> bool:
    """Whether this way is the faster one for so many windows: little work, and no kernel ready for it."""
    if spec.cell not in CELLS or _spent > COMPILE_SECONDS or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return False
    widths = (spec.n_features, *spec.hidden_sizes)
    seconds = sum(
        spec.n_timesteps * (below + 1 + units) * (SECONDS_A_SUM + SECONDS_A_PRODUCT * n_windows * 4 * units)
        for below, units in pairwise(widths)
    )
    if seconds > MOST_SECONDS:
        return False
    if _spent <= MOST_SECONDS and "tsforecast.backends.cpu.backend" not in sys.modules:
        return True
    from tsforecast.backends.cpu.backend import CpuBackend

    return not CpuBackend.can_predict_at_once()


def predict(spec: NetworkSpec, params: Array, values: Array, x_starts: Array) -> Array:
    """Forecasts ``[N,K*Q]``; the meaning and the bits are those of ``CpuBackend.predict``."""
    global _spent
    began = time.perf_counter()
    p = spec.views(params)
    z, location, scale, base = _read(spec, params.dtype, values, x_starts)
    h = list(z.transpose(1, 0, 2))
    for i in range(len(spec.hidden_sizes)):
        h = _lstm(h, *(p[f"layers.{i}.{name}"] for name in ("w_x", "w_h", "b")))
    columns = [z.reshape(len(z), -1)] if spec.linear_skip else []
    weights = [p["skip.w"]] if spec.linear_skip else []
    one = np.ones((len(z), 1), params.dtype)
    y = _chain([*columns, one, h[-1]], [*weights, p["head.b"][None], p["head.w"]])
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


def _chain(
    columns: list[Array],  # [B,.] side by side K of them
    weights: list[Array],  # [.,N] one below the other K of them
) -> Array:
    """``[B,N]``: every element one chain of fused multiply-adds over k, from zero."""
    total = np.zeros((len(columns[0]), weights[0].shape[1]), weights[0].dtype)
    for a, w in zip(columns, weights, strict=True):
        for k in range(len(w)):
            total = fma(a[:, k : k + 1], w[k], total)
    return total


def _lstm(
    x: list[Array],  # T of [B,D]
    w_x: Array,  # [D,4H]
    w_h: Array,  # [H,4H]
    b: Array,  # [4H]
) -> list[Array]:
    """Hidden states ``[B,H]`` of every step; lines 1a to 3b of ``backends.cpu.lstm``."""
    c = np.zeros((len(x[0]), len(w_h)), w_x.dtype)
    h, one, states = c, np.ones((len(c), 1), c.dtype), []
    for x_t in x:
        i, f, g, o = _gates(*np.split(_chain([x_t, one, h], [w_x, b[None], w_h]), 4, axis=1))  # 1a to 2c
        c = fma(f, c, i * g)  # 3a
        above, below = _tanh_fraction(c)
        h = o * (above / below)  # 3b
        states.append(h)
    return states


def _gates(i: Array, f: Array, g: Array, o: Array) -> tuple[Array, ...]:
    """``activations.gates``: three sigmoids and a tanh that share one division."""
    below_i, below_f, below_o = (_sigmoid_denominator(x) for x in (i, f, o))
    above_g, below_g = _tanh_fraction(g)
    a, b = below_i * below_f, below_g * below_o
    r = 1 / (a * b)
    over_a, over_b = r * b, r * a
    return over_a * below_f, over_a * below_i, above_g * (over_b * below_o), over_b * below_g


def _reduced(x: Array, slope: float) -> tuple[Array, Array, Array]:
    """N as the low bits of an integer, f and q(f) of t = slope x = n + f."""
    dtype = x.dtype.type
    bound, factor = dtype(clamp_of(x.dtype.name, slope)), dtype(slope)
    x = np.where(x > bound, bound, x)
    x = np.where(x < -bound, -bound, x)
    magic = dtype(1.5 * 2.0 ** MANTISSA_BITS[x.dtype.name])
    shifted = fma(x, factor, magic)
    f = fma(x, factor, magic - shifted)
    *rest, last = POLYNOMIAL[x.dtype.name]
    q = np.full_like(x, last)
    for coefficient in reversed(rest):
        q = fma(q, f, dtype(coefficient))
    return shifted.view(f"i{x.itemsize}"), f, q


def _times_power(y: Array, n: Array) -> Array:
    """Multiply y by 2^n by adding to its exponent."""
    return (y.view(n.dtype) + (n << MANTISSA_BITS[y.dtype.name])).view(y.dtype)


def _sigmoid_denominator(x: Array) -> Array:
    n, f, q = _reduced(x, -LOG2_E)
    return _times_power(fma(f, q, np.ones_like(f)), n) + x.dtype.type(1)


def _tanh_fraction(x: Array) -> tuple[Array, Array]:
    n, f, q = _reduced(x, 2.0 * LOG2_E)
    power = _times_power(np.ones_like(f), n)
    e = fma(power, f * q, power - x.dtype.type(1))
    return e, e + x.dtype.type(2)
