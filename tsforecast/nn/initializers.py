"""Initial weights, the same to the last bit on every machine.

Only single, correctly rounded operations (+ - * / sqrt) are used and sums run in a fixed order: what BLAS, LAPACK,
``np.sum`` or the C library's ``log`` and ``cos`` return depends on the processor.

References
----------
X. Glorot, Y. Bengio: Understanding the difficulty of training deep feedforward neural networks. AISTATS 2010.
A. Saxe, J. McClelland, S. Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear neural
networks. ICLR 2014 (orthogonal weights).
R. Jozefowicz, W. Zaremba, I. Sutskever: An Empirical Exploration of Recurrent Network Architectures. ICML 2015
(forget bias 1).
G. Stewart: The efficient generation of random orthogonal matrices with an application to condition estimators.
SIAM Journal on Numerical Analysis 17(3), 1980.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tsforecast.spec import CELLS, NetworkSpec

Array = NDArray[np.float64]

# The second half of a random key: streams of initial weights never meet those of shuffling, whatever the seed.
INIT_STREAM = 1


def init_params(spec: NetworkSpec, seed: int, dtype: DTypeLike) -> NDArray:
    """Draw the flat parameter vector of a network.

    Input weights are Glorot uniform and recurrent weights orthogonal, each gate by itself; biases are 0, but that of
    the gate that keeps the past (``CellSpec.keeps``) starts at 1 towards keeping, so that a new network remembers;
    a cell's extra blocks are 0. The head is Glorot uniform. A network with a seasonal base or a linear skip starts from
    the base forecast instead: its head and its skip are 0.

    Parameters
    ----------
    spec : NetworkSpec
        The network.
    seed : int
        At least 0, below ``2**64``.
    dtype : float32 or float64
        Of the result; drawn in float64 and rounded, so that both dtypes start from the same weights.

    Returns
    -------
    ndarray of shape (P,)
        ``spec.views`` names its blocks.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, INIT_STREAM], dtype=np.uint64)))
    flat = np.zeros(spec.n_params)
    views = spec.views(flat)
    cell = CELLS[spec.cell]
    for layer, units in enumerate(spec.hidden_sizes):
        p = {name: views[f"layers.{layer}.{name}"] for name in ("w_x", "w_h", "b") if name != "w_h" or cell.recurrent}
        directions = []
        for gate, letter in enumerate(cell.columns):
            block = slice(gate * units, (gate + 1) * units)
            p["w_x"][:, block] = glorot_uniform(rng, len(p["w_x"]), units)
            if cell.recurrent:
                directions.append(_directions(rng, units))
            if cell.keeps is not None and letter == cell.keeps[0]:
                p["b"][block] = cell.keeps[1]
        if cell.recurrent:
            p["w_h"][:] = np.concatenate(_reflections(np.array(directions), units), axis=1)
    if spec.season_length == 0 and not spec.linear_skip:
        views["head.w"][:] = glorot_uniform(rng, *views["head.w"].shape)
    return flat.astype(dtype)


def glorot_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Array:
    """``[n_in, n_out]`` uniform in plus or minus ``sqrt(6 / (n_in + n_out))``."""
    return _uniform(rng, (n_in, n_out)) * math.sqrt(6.0 / (n_in + n_out))


def orthogonal(rng: np.random.Generator, n: int) -> Array:
    """Random orthogonal ``[n, n]``: a product of Householder reflections of growing size (Stewart 1980).

    Each reflection exchanges a random direction and the first axis. Vectors are uniform in a cube, not normal, so that
    no logarithm is needed; the result is orthogonal all the same, and nearly isotropic.
    """
    return _reflections(_directions(rng, n)[None], n)[0]


def _directions(rng: np.random.Generator, n: int) -> Array:
    """Vectors of 1, 2, ... n numbers, one after the other."""
    return _uniform(rng, (n * (n + 1) // 2, 1))


def _reflections(directions: Array, n: int) -> Array:
    """``[k, n, n]`` products of reflections for ``directions [k, n (n+1) / 2, 1]``, which are overwritten."""
    q = np.zeros((len(directions), n, n))
    for size in range(1, n + 1):
        v = directions[:, size * (size - 1) // 2 :][:, :size]  # [k, size, 1]
        norm = np.sqrt(_sum_rows((v * v).swapaxes(0, 1)))  # [k, 1]
        sign = np.where(v[:, 0] >= 0.0, 1.0, -1.0)
        v[:, 0] += sign * norm
        block = q[:, n - size :, n - size :]  # 0 so far in its first row and column, and then the smaller product
        block[:, 0, 0] = -sign[:, 0]  # makes the first column the random direction itself
        block -= v * (_sum_rows((v * block).swapaxes(0, 1)) / (norm * np.abs(v[:, 0])))[:, None]
    return q


def _uniform(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Uniform in [-1, 1); exact in floating point."""
    return 2.0 * rng.random(shape) - 1.0


def _sum_rows(a: Array) -> Array:
    """Sum over the rows of ``a [n, ...]`` by halves, a fixed tree of additions; overwrites ``a``."""
    n = len(a)
    while n > 1:
        half = (n + 1) // 2
        a[: n - half] += a[half:n]
        n = half
    return a[0]
