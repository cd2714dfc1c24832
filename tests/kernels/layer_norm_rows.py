"""Rows of four gates through the kernels of layer normalisation, in and out of their blocks of lanes."""

import hashlib

import numpy as np

from tsforecast.backends.cpu.jit import entry
from tsforecast.backends.cpu.lanes import LANES, first_lanes, splat
from tsforecast.backends.cpu.layer_norm import STATISTICS, make_moments, make_standardised, make_undo
from tsforecast.backends.cpu.row_sums import ROWS

moments, standardised, undo = make_moments(4, 1), make_standardised(4), make_undo(4, 1)


@entry
def _standardise(B, P, H, y, statistics):
    row, block = 4 * LANES, B * 4 * LANES
    for first in range(0, B, ROWS):
        moments(min(ROWS, B - first), P, H, row, block, 0, y, first * row, statistics, first * STATISTICS)
    for p in range(P):
        for b in range(B):
            mean, scale = statistics[b * STATISTICS], statistics[b * STATISTICS + 1]
            standardised(y, p * block + b * row, first_lanes(splat(y, mean), H - p * LANES), splat(y, scale))


@entry
def _undo(B, P, H, dn, y, statistics, gain, dgain):
    row, block = 4 * LANES, B * 4 * LANES
    for first in range(0, B, ROWS):
        at = first * row
        undo(
            min(ROWS, B - first), P, H, row, block, 0, dn, at, y, at, statistics, first * STATISTICS,
            gain, 0, row, 0, dgain, 0, dn, 0, 0, 0,
        )  # fmt: skip


def in_blocks(rows, padding=0.0):
    """``rows [B,4,H]`` as ``[P,B,4L]``, flat; lanes beyond H hold ``padding``."""
    n_rows, _, n_units = rows.shape
    blocks = np.full((-(-n_units // LANES), n_rows, 4, LANES), padding, rows.dtype)
    unit = np.arange(n_units)
    blocks[unit // LANES, :, :, unit % LANES] = rows.transpose(2, 0, 1)
    return blocks.ravel()


def from_blocks(flat, n_rows, n_units):
    """Undo ``in_blocks``: the rows, and what stands beyond H."""
    blocks = flat.reshape(-1, n_rows, 4, LANES).transpose(1, 2, 0, 3).reshape(n_rows, 4, -1)
    return blocks[:, :, :n_units], blocks[:, :, n_units:]


def forward(a):
    """Normalised ``a [B,4,H]``, the padding beside it, and the scales ``[B]``."""
    n_rows, _, n_units = a.shape
    y, statistics = in_blocks(a), np.empty(n_rows * STATISTICS, a.dtype)
    _standardise(n_rows, -(-n_units // LANES), n_units, y, statistics)
    return *from_blocks(y, n_rows, n_units), statistics[1::STATISTICS]


def backward(dn, y, r, gain, dgain):
    """Gradient by ``a``, the padding beside it, and ``dgain [4,H]`` with that of the gain added."""
    n_rows, _, n_units = dn.shape
    of_gain, da, statistics = in_blocks(dgain[None]), in_blocks(y), np.repeat(r, STATISTICS)
    _undo(n_rows, -(-n_units // LANES), n_units, in_blocks(dn), da, statistics, in_blocks(gain[None]), of_gain)
    return *from_blocks(da, n_rows, n_units), from_blocks(of_gain, 1, n_units)[0][0]


def digest(dtype):
    """Of all results for rows of 5 to 40 units."""
    rng, found = np.random.default_rng(3), hashlib.sha256()
    for n_units in (5, 8, 16, 23, 40):
        a, dn, (gain, dgain) = (
            rng.normal(size=shape).astype(dtype) for shape in [(7, 4, n_units)] * 2 + [(2, 4, n_units)]
        )
        y, _, r = forward(a)
        da, _, of_gain = backward(dn, y, r, gain, dgain)
        for array in (y, r, da, of_gain):
            found.update(array.tobytes())
    return found.hexdigest()
