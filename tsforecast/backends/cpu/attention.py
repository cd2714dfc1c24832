"""Attention over hidden states, forward and backward; equations as in ``backends.reference.attention``.

Letters: T steps, B rows, H units of a state, L lanes, Hp = H in whole vectors, V = Hp / L, Bp = B in whole vectors, K
rows of W_q (units N of the query; 1 more where there is a bias), S, R and U strides of a row. With x the query::

    1a   k_t = h_t W_k                              additive
    1b   q   = (1 | x) W_q                          additive; the bias is the first row of W_q
    1c   q   = x W_q / sqrt(H)                      dot product
    2a   s_t = tanh(q + k_t)                        additive
    2b   e_t = s_t . w_v                            additive
    2c   e_t = q . h_t                              dot product
    3a   a_t = exp(e_t - max e) / sum exp(e - max e)
    3b   context = sum_t a_t h_t

D. Bahdanau, K. Cho, Y. Bengio, 2015 (additive); M. Luong, H. Pham, C. Manning, 2015 (dot product).

Flat buffers: ``states, keys [T,B,Hp]`` with zeros beyond H; ``weights, dscores [T,Bp]``, so that the softmax has a row
in each lane and its sums are chains over the steps; ``w_q [K,V vectors]``, ``w_k [H,V vectors]`` in panels, ``w_v
[Hp]``, and ``_t`` their transposed copies. Scores are sums over units, so they want steps in the lanes: keys (states,
if dot product) stand there a second time, turned: ``keys_t`` is B matrices ``[Hp,T]`` in panels, made once for all
queries; ``states_t`` serves the way back, too. ``z`` is scratch of ``scratch_size`` numbers. What belongs to the other
kind of attention is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from tsforecast.backends.cpu.attention_sums import (
    add_multiples,
    products,
    scores,
    scores_backward,
    softmax,
    softmax_backward,
    turn,
    weighted_sums,
)
from tsforecast.backends.cpu.jit import kernel
from tsforecast.backends.cpu.lanes import LANES, load, splat, store
from tsforecast.backends.cpu.layer import GRADIENT_BLOCK, to_panels
from tsforecast.backends.cpu.tile import multiply, whole_vectors


class Kernels(NamedTuple):
    """The passes of one kind of attention: keys once a window, the others for every query."""

    make_keys: Callable
    attend: Callable
    attend_backward: Callable
    keys_backward: Callable


def scratch_size(T: int, B: int, Hp: int) -> int:
    """Numbers of scratch that the kernels need."""
    return max(whole_vectors(T), GRADIENT_BLOCK * Hp, B * Hp)


def make_kernels(additive: bool) -> Kernels:
    """Kernels of one kind; the flag is a constant to the compiler."""

    @kernel
    def make_keys(
        T, B, H, w_k, states,
        keys,  # out
        keys_t, states_t,  # out: the turned copies
        learns,  # bool: ``attend_backward`` follows, which reads ``states_t``
    ):  # fmt: skip
        """Line 1a."""
        V = (H + LANES - 1) // LANES
        if additive:
            multiply(T * B, V, H, states, 0, V * LANES, 1, w_k, 0, 0, keys, 0, V * LANES, LANES, False)  # 1a
            turn(T, B, H, keys, keys_t)
        if learns or not additive:
            turn(T, B, H, states, states_t)

    @kernel
    def attend(
        T, B, H, K,
        w_q, w_v,
        query, S,  # [B,S] rows begin with the query, or with 1 and the query
        states, keys_t, states_t,
        q,  # [B,Hp] out
        weights,  # [T,Bp] out
        context, R,  # [B,R] out, the first Hp of each row
        z,
    ):  # fmt: skip
        """Lines 1b to 3b for one query a row."""
        V, Bp = (H + LANES - 1) // LANES, (B + LANES - 1) // LANES * LANES
        Hp, size = V * LANES, V * LANES * ((T + LANES - 1) // LANES * LANES)
        multiply(B, V, K, query, 0, S, 1, w_q, 0, 0, q, 0, Hp, LANES, False)  # 1b 1c
        for t in range(T):
            for b in range(B, Bp):
                weights[t * Bp + b] = 0
        for b in range(B):
            if additive:
                scores(T, H, Bp, q, b * Hp, w_v, keys_t, b * size, z, weights, b)  # 2a 2b
            else:
                for u in range(0, Hp, LANES):
                    store(q, b * Hp + u, load(q, b * Hp + u) * splat(q, 1.0 / math.sqrt(H)))  # 1c
                products(T, Hp, Bp, q, b * Hp, states_t, b * size, z, weights, b)  # 2c
        softmax(T, Bp, weights)  # 3a
        weighted_sums(T, B, Hp, Bp, weights, states, context, R)  # 3b

    @kernel
    def attend_backward(
        T, B, H, K, N,  # N units of the query
        w_q_t,  # [Hp, ceil(N/L) vectors] panels
        w_v,
        query, S, states, keys, states_t, q, weights,  # as attend left them
        dcontext, R,  # [B,R] the first Hp of each row
        dscores,  # [T,Bp] scratch
        dq,  # [B,Hp] scratch
        dquery, U,  # [B,U] the first N of each row accumulate
        dkeys, dstates,  # [T,B,Hp] accumulate
        dw_q, dw_v,  # accumulate
        z,
    ):  # fmt: skip
        """Undo ``attend``."""
        V, Bp = (H + LANES - 1) // LANES, (B + LANES - 1) // LANES * LANES
        Hp, size = V * LANES, V * LANES * ((T + LANES - 1) // LANES * LANES)
        for t in range(T):
            for b in range(B, Bp):
                dscores[t * Bp + b] = 0
        for b in range(B):
            products(T, Hp, Bp, dcontext, b * R, states_t, b * size, z, dscores, b)  # 3b
        add_multiples(T, B, Hp, Bp, weights, dcontext, 0, R, dstates)  # 3b
        softmax_backward(T, Bp, weights, dscores)  # 3a
        if additive:
            scores_backward(T, B, Hp, Bp, dscores, q, w_v, keys, dkeys, dq, dw_v)  # 2b 2a
        else:
            weighted_sums(T, B, Hp, Bp, dscores, states, dq, Hp)  # 2c
            add_multiples(T, B, Hp, Bp, dscores, q, 0, Hp, dstates)  # 2c
            for u in range(0, B * Hp, LANES):
                store(dq, u, load(dq, u) * splat(q, 1.0 / math.sqrt(H)))  # 1c
        to_panels(B, V, dq, z)
        multiply(K, V, B, query, 0, 1, S, z, 0, 0, dw_q, 0, 0, K * LANES, True)  # 1b 1c
        multiply(B, (N + LANES - 1) // LANES, Hp, dq, 0, Hp, 1, w_q_t, 0, 0, dquery, 0, U, LANES, True)  # 1b 1c

    @kernel
    def keys_backward(T, B, H, w_k_t, states, dkeys, dstates, dw_k, z):
        """Undo ``make_keys``; ``dstates`` and ``dw_k`` accumulate."""
        V = (H + LANES - 1) // LANES
        Hp = V * LANES
        if additive:
            multiply(T * B, V, Hp, dkeys, 0, Hp, 1, w_k_t, 0, 0, dstates, 0, Hp, LANES, True)  # 1a, by h
            for k in range(0, T * B, GRADIENT_BLOCK):  # 1a, by W
                n = min(GRADIENT_BLOCK, T * B - k)
                to_panels(n, V, dkeys[k * Hp :], z)
                multiply(H, V, n, states, k * Hp, 1, Hp, z, 0, 0, dw_k, 0, 0, H * LANES, True)

    return Kernels(make_keys, attend, attend_backward, keys_backward)


KERNELS = {"additive": make_kernels(True), "dot": make_kernels(False)}
