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
Q. Le, N. Jaitly, G. Hinton: A Simple Way to Initialize Recurrent Networks of Rectified Linear Units. arXiv
1504.00941, 2015 (identity).
C. Tallec, Y. Ollivier: Can recurrent neural networks warp time? ICLR 2018 (chrono).
G. Stewart: The efficient generation of random orthogonal matrices with an application to condition estimators.
SIAM Journal on Numerical Analysis 17(3), 1980.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tsforecast.cells import CELLS, CellSpec
from tsforecast.nn.elementary import log
from tsforecast.spec import NetworkSpec

Array = NDArray[np.float64]

# The second half of a random key: streams of initial weights never meet those of shuffling, whatever the seed.
INIT_STREAM = 1

RECURRENT_INITS = ("orthogonal", "identity")
BIAS_INITS = ("unit", "chrono")


def init_params(
    spec: NetworkSpec, seed: int, dtype: DTypeLike, recurrent_init: str = "orthogonal", bias_init: str = "unit"
) -> NDArray:
    """Draw the flat parameter vector of a network.

    Input weights are Glorot uniform and recurrent weights orthogonal, each gate by itself; biases are 0, but that of
    the gate that keeps the past (``CellSpec.keeps``) leans towards keeping, so that a new network remembers; a cell's
    extra blocks and learned states are 0, its gains 1. Weights of an attention and the head are Glorot uniform. A
    network with a seasonal base or a linear skip starts from the base forecast instead: its head and its skip are 0.

    Parameters
    ----------
    spec : NetworkSpec
        The network.
    seed : int
        At least 0, below ``2**64``.
    dtype : float32 or float64
        Of the result; drawn in float64 and rounded, so that both dtypes start from the same weights.
    recurrent_init : {"orthogonal", "identity"}
        Recurrent weights of each gate.
    bias_init : {"unit", "chrono"}
        Bias of the gate that keeps the past: 1; or, for each unit, log(u) with u uniform from 1 to T - 1, so that units
        remember for about u steps. With "chrono", an input gate beside a forget gate starts at -log(u).

    Returns
    -------
    ndarray of shape (P,)
        ``spec.views`` names its blocks.

    Raises
    ------
    ValueError
        "chrono" for a cell without a gate that keeps the past, "identity" for one without recurrent weights.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, INIT_STREAM], dtype=np.uint64)))
    flat = np.zeros(spec.n_params)
    views = spec.views(flat)
    cell = CELLS[spec.cell]
    _check(spec.cell, recurrent_init, bias_init)
    decoder = [] if spec.decoder == "dense" else [("decoder.", spec.hidden_sizes[-1])]
    for prefix, units in [*((run.name, run.units) for run in spec.topology.runs), *decoder]:
        p = {name: views[prefix + name] for name in ("w_x", "w_h", "b") if name != "w_h" or cell.recurrent}
        directions = []
        for gate in range(cell.n_gates):
            block = slice(gate * units, (gate + 1) * units)
            p["w_x"][:, block] = glorot_uniform(rng, len(p["w_x"]), units)
            if cell.recurrent:
                directions.append(_directions(rng, units))
        if recurrent_init == "identity":
            p["w_h"][:] = np.tile(np.eye(units), cell.n_gates)
        elif cell.recurrent:
            p["w_h"][:] = np.concatenate(_reflections(np.array(directions), units), axis=1)
        for name in cell.extras:
            views[prefix + name][:] = float(name.startswith("g"))
        if cell.keeps is not None:
            _lean_to_keeping(cell, p["b"], _chrono(rng, spec.n_timesteps, units) if bias_init == "chrono" else None)
    for name, block in views.items():
        if "attention.w" in name:
            columns = block.reshape(len(block), -1)
            columns[:] = glorot_uniform(rng, *columns.shape)
    if spec.season_length == 0 and not spec.linear_skip:
        views["head.w"][:] = glorot_uniform(rng, *views["head.w"].shape)
    return flat.astype(dtype)


def _check(cell: str, recurrent_init: str, bias_init: str) -> None:
    """Refuse what the cell has no place for."""
    if bias_init == "chrono" and CELLS[cell].keeps is None:
        raise ValueError(f'bias_init="chrono" sets the gate that keeps the past, and the cell {cell!r} has none')
    if recurrent_init == "identity" and not CELLS[cell].recurrent:
        raise ValueError(f'recurrent_init="identity" sets recurrent weights, and the cell {cell!r} has none')


def _chrono(rng: np.random.Generator, n_timesteps: int, units: int) -> Array:
    """``[units]`` log(u), u uniform from 1 to T - 1 (1 for windows of up to two steps)."""
    return log(1.0 + max(0, n_timesteps - 2) * rng.random(units))


def _lean_to_keeping(
    cell: CellSpec,
    b: Array,  # [G*H] overwritten in places
    chrono: Array | None,  # [H]
) -> None:
    """Bias of the gate that keeps the past; with ``chrono`` also that of an input gate beside a forget gate."""
    assert cell.keeps is not None
    letter, sign = cell.keeps
    gates = b.reshape(cell.n_gates, -1)
    gates[cell.columns.index(letter)] = sign if chrono is None else sign * chrono
    if chrono is not None and letter == "f" and "i" in cell.columns:
        gates[cell.columns.index("i")] = -chrono


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
