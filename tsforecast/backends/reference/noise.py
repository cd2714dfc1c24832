"""Noise that keeps a network from relying on single units: dropout, recurrent dropout and zoneout, in training only.

A mask is a function of the seed, the optimiser's step, what it is for, the run, the row within its batch, the step of
the run and the unit alone, so that any part of it can be drawn by itself, on any backend. With ``hash64`` of
``shuffle`` and arithmetic modulo 2**32 from line 3 on::

    1   key_s    = hash64(hash64(seed, -1), step)               -1 is no epoch: row orders have other keys
    2   key_run  = hash64(key_s, 4 run + purpose)
    3   word     = hash64(key_run, row T + t)                   recurrent dropout: hash64(key_run, row), for all t
    4   x        = word + (unit + 1) GOLDEN_32
    5   x        = (x ^ x >> 16) 0x7FEB352D;  x = (x ^ x >> 15) 0x846CA68B;  x = x ^ x >> 16
    6   drawn    = x < p 2**32                                  with probability p

What is drawn at the rate p is::

    7   dropout            what a run passes upwards is 0 where drawn, else 1 / (1 - p) times its output
    8   recurrent dropout  the same for h_{t-1} where it enters the multiply by W_h, and only there
    9   zoneout            a state keeps its old value where drawn; in inference it is p times the old value and 1 - p
                           times the new one

Lines 7 and 8 leave the mean as it is, so that inference is the network without them. Zoneout has masks of their own for
h and c; gates that are fed back are no state of this kind.

References
----------
W. Zaremba, I. Sutskever, O. Vinyals: Recurrent Neural Network Regularization. arXiv 1409.2329, 2014 (dropout).
Y. Gal, Z. Ghahramani: A Theoretically Grounded Application of Dropout in Recurrent Neural Networks. NIPS 2016; arXiv
1512.05287 (recurrent dropout).
D. Krueger et al.: Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations. ICLR 2017; arXiv 1606.01305.
C. Wellons: Prospecting for Hash Functions, 2018 (line 5).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.reference.cell import Array, State
from tsforecast.backends.reference.shuffle import GOLDEN, LAST_SHIFT, MIX, hash64
from tsforecast.cells import CELLS
from tsforecast.spec import NetworkSpec

DROPOUT, RECURRENT, ZONEOUT = 0, 1, {"h": 2, "c": 3}  # purposes
N_PURPOSES, NO_EPOCH = 4, -1
GOLDEN_32 = 0x9E3779B9
MIX_32 = ((16, 0x7FEB352D), (15, 0x846CA68B))  # shift, factor
LAST_SHIFT_32 = 16


class RunNoise(NamedTuple):
    """What disturbs one run, its steps in the order in which it takes them."""

    recurrent: Array | float  # [B,H] factors of h_{t-1} where it enters the multiply
    old_shares: tuple[Array, ...]  # [T,B,H] for each state: how much of the old value stays

    def of_steps(self, steps: slice) -> RunNoise:
        """The part for some steps."""
        return self._replace(old_shares=tuple(share[steps] for share in self.old_shares))

    def mix(self, t: int, old: State, new: State) -> State:
        """Line 9."""
        return tuple(s[t] * a + (1.0 - s[t]) * b for s, a, b in zip(self.old_shares, old, new, strict=True))

    def unmix(self, t: int, dstate: State) -> tuple[State, State]:
        """Undo ``mix``: derivatives by the old and by the new state."""
        shared = list(zip(self.old_shares, dstate, strict=True))
        return tuple(s[t] * d for s, d in shared), tuple((1.0 - s[t]) * d for s, d in shared)


class Noise(NamedTuple):
    """Masks of one training step for a batch of B rows."""

    spec: NetworkSpec
    seed: int
    step: int  # optimiser steps taken before
    n_rows: int  # B

    def dropout(self, i: int) -> Array:
        """``[T,B,H]`` line 7 for run ``i``, its steps in the order in which it takes them."""
        return _inverted(self._drawn(self.spec.dropout, i, DROPOUT, self._every_step()), self.spec.dropout)

    def of_run(self, i: int) -> RunNoise | None:
        """Lines 8 and 9 for run ``i``."""
        spec = self.spec
        if not (spec.recurrent_dropout or spec.zoneout):
            return None
        rate = spec.recurrent_dropout
        recurrent = _inverted(self._drawn(rate, i, RECURRENT, np.arange(self.n_rows)), rate) if rate else 1.0
        every_step, units = self._every_step(), spec.topology.runs[i].units
        shares = [
            self._drawn(spec.zoneout, i, ZONEOUT[state], every_step).astype(np.float64)
            if state in spec.zoned_states
            else np.zeros((*every_step.shape, units))
            for state in CELLS[spec.cell].states
        ]
        return RunNoise(recurrent, tuple(shares))

    def _every_step(self) -> NDArray[np.int64]:
        """``[T,B]`` what line 3 counts."""
        T = self.spec.n_timesteps
        return np.arange(T)[:, None] + np.arange(self.n_rows) * T

    def _drawn(self, rate: float, i: int, purpose: int, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """``[...,H]`` lines 1 to 6."""
        key = hash64(hash64(hash64(self.seed, NO_EPOCH), self.step), N_PURPOSES * i + purpose)
        return random_bits(key, counts, self.spec.topology.runs[i].units) < np.uint32(threshold(rate))


def expected(spec: NetworkSpec, i: int, n_rows: int) -> RunNoise | None:
    """Line 9 in inference for run ``i``."""
    if not spec.zoneout:
        return None
    shape = spec.n_timesteps, n_rows, spec.topology.runs[i].units
    rates = [spec.zoneout * (state in spec.zoned_states) for state in CELLS[spec.cell].states]
    return RunNoise(1.0, tuple(np.full(shape, rate) for rate in rates))


def threshold(rate: float) -> int:
    """What the bits of line 6 are below with this probability, to within ``2**-32``."""
    return int(rate * 2.0**32)


def random_bits(key: int, counts: NDArray[np.int64], units: int) -> NDArray[np.uint32]:
    """``[...,H]`` lines 3 to 5."""
    x = (counts.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN) + np.uint64(key)
    for shift, factor in MIX:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    word = ((x ^ (x >> np.uint64(LAST_SHIFT))) >> np.uint64(1)).astype(np.uint32)
    return unit_bits(word[..., None], np.arange(units, dtype=np.uint32))


def unit_bits(word: NDArray[np.uint32] | np.uint32, unit: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Lines 4 and 5."""
    x = word + (unit + np.uint32(1)) * np.uint32(GOLDEN_32)
    for shift, factor in MIX_32:
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(LAST_SHIFT_32))


def _inverted(drawn: NDArray[np.bool_], rate: float) -> Array:
    return np.where(drawn, 0.0, 1.0 / (1.0 - rate))
