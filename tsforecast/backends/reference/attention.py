r"""Attention over hidden states: a mean of them, weighted by what a query finds in each.

Letters: T steps, B rows, H units of a state, N units of a query x, A = H. Forward, for t = 1..T::

    1a   k_t = h_t W_k                              keys; the dot product takes the states themselves
    1b   q   = x W_q + b                            additive
    1c   q   = x W_q / sqrt(H)                      dot product
    2a   s_t = tanh(q + k_t)                        additive
    2b   e_t = s_t . w_v                            additive
    2c   e_t = q . h_t                              dot product
    3a   a_t = exp(e_t - max_s e_s) / sum_s exp(e_s - max_s e_s)
    3b   context = sum_t a_t h_t

The keys are the same for every query, so that a decoder, which asks at every step, makes them once. The dot product is
the "general" one, with a matrix between query and state; its division keeps the scores of wide states apart from where
the softmax is flat. Each backward line names the one that it undoes.

References
----------
D. Bahdanau, K. Cho, Y. Bengio: Neural Machine Translation by Jointly Learning to Align and Translate. ICLR 2015; arXiv
1409.0473 (additive, appendix A.1.2).
M. Luong, H. Pham, C. Manning: Effective Approaches to Attention-based Neural Machine Translation. EMNLP 2015; arXiv
1508.04025 (dot product, eq. 8).
A. Vaswani et al.: Attention Is All You Need. NIPS 2017 (the division, eq. 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference.activations import Array, tanh_slope
from tsforecast.backends.reference.cell import Params


class Tape(NamedTuple):
    """What one query leaves for its undoing."""

    query: Array  # [B,N]
    q: Array  # [B,A]
    weights: Array  # [T,B]


def keys(
    states: Array,  # [T,B,H]
    p: Params,  # the blocks of the attention by their short names; w_k and w_v only where it is additive
) -> Array:
    """Return the keys ``[T,B,A]``."""
    return states @ p["w_k"] if "w_k" in p else states  # 1a


def attend(
    query: Array,  # [B,N]
    keys: Array,  # [T,B,A]
    states: Array,  # [T,B,H]
    p: Params,
) -> tuple[Array, Tape]:
    """Return the context ``[B,H]`` of one query and its tape, which has the weights."""
    if "w_v" in p:
        q = query @ p["w_q"] + p["b"]  # 1b
        scores = np.tanh(q + keys) @ p["w_v"]  # 2a 2b
    else:
        q = query @ p["w_q"] / math.sqrt(states.shape[2])  # 1c
        scores = (q * keys).sum(axis=2)  # 2c
    powers = np.exp(scores - scores.max(axis=0))
    weights = powers / powers.sum(axis=0)  # 3a
    return (weights[:, :, None] * states).sum(axis=0), Tape(query, q, weights)  # 3b


def attend_backward(
    dcontext: Array,  # [B,H]
    tape: Tape,
    keys: Array,  # [T,B,A]
    states: Array,  # [T,B,H]
    p: Params,
    dp: Params,  # accumulated into
    dkeys: Array,  # [T,B,A] accumulated into
    dstates: Array,  # [T,B,H] accumulated into
) -> Array:
    """Undo ``attend``; return ``dquery [B,N]``."""
    query, q, weights = tape
    dstates += weights[:, :, None] * dcontext  # 3b
    dweights = (states * dcontext).sum(axis=2)  # 3b
    dscores = weights * (dweights - (weights * dweights).sum(axis=0))  # 3a
    if "w_v" in p:
        s = np.tanh(q + keys)
        dp["w_v"] += np.tensordot(dscores, s, axes=2)  # 2b
        dsums = dscores[:, :, None] * p["w_v"] * tanh_slope(s)  # 2b 2a
        dkeys += dsums
        dq = dsums.sum(axis=0)  # 2a
        dp["b"] += dq.sum(axis=0)  # 1b
    else:
        dkeys += dscores[:, :, None] * q  # 2c
        dq = (dscores[:, :, None] * keys).sum(axis=0) / math.sqrt(states.shape[2])  # 2c 1c
    dp["w_q"] += query.T @ dq  # 1b 1c
    return dq @ p["w_q"].T


def keys_backward(
    dkeys: Array,  # [T,B,A]
    states: Array,  # [T,B,H]
    p: Params,
    dp: Params,  # accumulated into
    dstates: Array,  # [T,B,H] accumulated into
) -> None:
    """Undo ``keys``."""
    if "w_k" in p:
        dp["w_k"] += np.tensordot(states, dkeys, axes=((0, 1), (0, 1)))  # 1a
        dstates += dkeys @ p["w_k"].T  # 1a
    else:
        dstates += dkeys  # 1a
