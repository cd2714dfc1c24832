"""From the gradients of parts of a batch to new parameters, each part of the grid for its own share of them."""

from __future__ import annotations

from functools import lru_cache

from numba import cuda

from tsforecast.backends.cuda.activations import ONE, ZERO
from tsforecast.backends.cuda.jit import device, load, renewed, store
from tsforecast.backends.cuda.losses import HALF
from tsforecast.backends.cuda.optimizers import MAX_NORM, MAX_VALUE, N_SCALARS, update
from tsforecast.backends.cuda.plan import PARAMS


@lru_cache
def make_step(n_threads: int):
    """Device functions ``(sum_gradients, update_parameters)`` for blocks of ``n_threads``."""
    THREADS = n_threads

    @device
    def sum_gradients(
        table, is_weight, rule, decay, params, gradients,
        n_used,  # parts that have a gradient
        part, n_parts, tid,
    ):  # fmt: skip
        """Gradient of this part's share, with penalty, clipped by value; return squares of it and of weights."""
        part = renewed(part)
        squares, penalty, P = ZERO, ZERO, load(table, PARAMS)
        for i in range(part * THREADS + tid, P, n_parts * THREADS):
            g = load(gradients, i)
            for p in range(1, n_used):
                g += load(gradients, p * P + i)
            if decay > ZERO and load(is_weight, i) != 0:
                w = load(params, i)
                g = cuda.fma(decay, w, g)
                penalty = cuda.fma(w, w, penalty)
            most = load(rule, MAX_VALUE)
            g = most if g > most else (-most if g < -most else g)  # NaN stays
            store(gradients, i, g)
            squares = cuda.fma(g, g, squares)
        return squares, penalty * (HALF * decay)

    @device
    def update_parameters(
        table, is_weight, codes, rule, scalars, batch, norm, params, m, v, gradients, part, n_parts, tid
    ):
        """Step this part's share of the parameters."""
        part, at = renewed(part), renewed(batch) * N_SCALARS
        clip = load(rule, MAX_NORM) / norm if norm > load(rule, MAX_NORM) else ONE
        for i in range(part * THREADS + tid, load(table, PARAMS), n_parts * THREADS):
            update(codes, rule, scalars, at, clip, load(is_weight, i) != 0, params, m, v, i, load(gradients, i))

    return sum_gradients, update_parameters
