"""Layer normalisation: the numbers of a row made to have mean 0 and variance 1, and scaled by learned gains.

Letters: B rows, N numbers a row. Forward, each row by itself::

    1a   mu  = mean of a                            over the N numbers
    1b   var = mean of (a - mu)^2
    1c   r   = 1 / sqrt(var + EPSILON)
    2a   y   = (a - mu) * r
    2b   n   = gain * y

A row of equal numbers becomes zeros. Backward, each line names the ones that it undoes.

References
----------
J. Ba, J. Kiros, G. Hinton: Layer Normalization. arXiv 1607.06450, 2016 (eqs. 3 and 15 to 17).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference.activations import Array

EPSILON = 1e-5


class Normed(NamedTuple):
    """What ``forward`` leaves for ``backward``."""

    y: Array  # [B,N]
    r: Array  # [B,1]


def forward(
    a: Array,  # [B,N]
    gain: Array,  # [N]
) -> tuple[Array, Normed]:
    """Return ``n [B,N]`` and what ``backward`` needs."""
    deviation = a - a.mean(axis=1, keepdims=True)  # 1a
    r = 1.0 / np.sqrt((deviation**2).mean(axis=1, keepdims=True) + EPSILON)  # 1b 1c
    y = deviation * r  # 2a
    return gain * y, Normed(y, r)  # 2b


def backward(
    dn: Array,  # [B,N]
    gain: Array,  # [N]
    kept: Normed,
    dgain: Array,  # [N] accumulated into
) -> Array:
    """Undo ``forward``; return ``da [B,N]``."""
    y, r = kept
    dgain += (dn * y).sum(axis=0)  # 2b
    dy = dn * gain  # 2b
    through_r = y * (dy * y).mean(axis=1, keepdims=True)  # 2a 1c 1b
    return r * (dy - dy.mean(axis=1, keepdims=True) - through_r)  # 2a 1a
