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
[Hp]``, and ``_t`` their transposed copies. A product of a vector with many states is a multiply by a matrix of which
one column is used: its chains over units stand side by side for several states, where a single one would wait for
itself. ``z`` is scratch of ``scratch_size`` numbers. What belongs to the other kind of attention is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from tsforecast.backends.cpu.activations import exp, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, larger, load, splat, store
from tsforecast.backends.cpu.layer import GRADIENT_BLOCK, to_panels
from tsforecast.backends.cpu.tile import multiply


class Kernels(NamedTuple):
    """The passes of one kind of attention: keys once a window, the others for every query."""

    make_keys: Callable
    attend: Callable
    attend_backward: Callable
    keys_backward: Callable


def scratch_size(T: int, B: int, Hp: int) -> int:
    """Numbers of scratch that the kernels need."""
    return max(T * Hp + (T + Hp) * LANES, GRADIENT_BLOCK * Hp, B * Hp)


@inlined
def _products(
    T, H, Bp,
    x, x0,  # [H] from x0
    rows, r0, R,  # [T,Hp] from r0, R apart
    z, z0,  # scratch from z0
    out, o0,  # [T] from o0, Bp apart
):  # fmt: skip
    """The product of x with each of the rows."""
    for u in range(H):
        store(z, z0 + u * LANES, splat(z, x[x0 + u]))
    found = z0 + H * LANES
    multiply(T, 1, H, rows, r0, R, 1, z, z0, 0, z, found, LANES, LANES, False)
    for t in range(T):
        out[o0 + t * Bp] = z[found + t * LANES]


@inlined
def _weighted_sum(
    T, V, Bp,
    a, a0,  # [T] from a0, Bp apart
    rows, r0, R,  # [T,Hp] from r0, R apart
    out, o0,  # [Hp] from o0
    add,  # bool
):  # fmt: skip
    """Sum over the rows, each times its number in a."""
    for v in range(0, V, 4):
        width = min(4, V - v)
        multiply(1, width, T, a, a0, 0, Bp, rows, r0 + v * LANES, R, out, o0 + v * LANES, 0, LANES, add)


@inlined
def _softmax(T, Bp, weights):
    """Line 3a, from scores to weights in place."""
    for b in range(0, Bp, LANES):
        top = load(weights, b)
        for t in range(1, T):
            top = larger(load(weights, t * Bp + b), top)
        total = splat(weights, 0)
        for t in range(T):
            power = exp(load(weights, t * Bp + b) - top)
            store(weights, t * Bp + b, power)
            total = total + power
        for t in range(T):
            store(weights, t * Bp + b, load(weights, t * Bp + b) / total)


@inlined
def _softmax_backward(T, Bp, weights, dscores):
    """Line 3a backwards, in place: ``dscores`` comes in as the gradient by the weights."""
    for b in range(0, Bp, LANES):
        mean = splat(weights, 0)
        for t in range(T):
            mean = fma(load(weights, t * Bp + b), load(dscores, t * Bp + b), mean)
        for t in range(T):
            at = t * Bp + b
            store(dscores, at, load(weights, at) * (load(dscores, at) - mean))


@inlined
def _add_multiples(T, B, Hp, Bp, a, x, x0, S, out):
    """Add ``a [T,Bp]`` times row b of x, ``[B,S]`` from x0, to ``out [T,B,Hp]``."""
    for b in range(B):
        for t in range(T):
            number = splat(x, a[t * Bp + b])
            for u in range(0, Hp, LANES):
                at = (t * B + b) * Hp + u
                store(out, at, fma(number, load(x, x0 + b * S + u), load(out, at)))


def make_kernels(additive: bool) -> Kernels:
    """Kernels of one kind; the flag is a constant to the compiler."""

    @kernel
    def make_keys(T, B, H, w_k, states, keys):
        """Line 1a."""
        V = (H + LANES - 1) // LANES
        if additive:
            multiply(T * B, V, H, states, 0, V * LANES, 1, w_k, 0, 0, keys, 0, V * LANES, LANES, False)  # 1a

    @kernel
    def attend(
        T, B, H, K,
        w_q, w_v,
        query, S,  # [B,S] rows begin with the query, or with 1 and the query
        states, keys,
        q,  # [B,Hp] out
        weights,  # [T,Bp] out
        context, R,  # [B,R] out, the first Hp of each row
        z,
    ):  # fmt: skip
        """Lines 1b to 3b for one query a row."""
        V, Bp = (H + LANES - 1) // LANES, (B + LANES - 1) // LANES * LANES
        Hp = V * LANES
        multiply(B, V, K, query, 0, S, 1, w_q, 0, 0, q, 0, Hp, LANES, False)  # 1b 1c
        for t in range(T):
            for b in range(B, Bp):
                weights[t * Bp + b] = 0
        for b in range(B):
            if additive:
                for t in range(T):
                    for u in range(0, Hp, LANES):
                        sums = load(q, b * Hp + u) + load(keys, (t * B + b) * Hp + u)
                        store(z, t * Hp + u, tanh(sums))  # 2a
                _products(T, H, Bp, w_v, 0, z, 0, Hp, z, T * Hp, weights, b)  # 2b
            else:
                for u in range(0, Hp, LANES):
                    store(q, b * Hp + u, load(q, b * Hp + u) * splat(q, 1.0 / math.sqrt(H)))  # 1c
                _products(T, H, Bp, q, b * Hp, states, b * Hp, B * Hp, z, 0, weights, b)  # 2c
        _softmax(T, Bp, weights)  # 3a
        for b in range(B):
            _weighted_sum(T, V, Bp, weights, b, states, b * Hp, B * Hp, context, b * R, False)  # 3b

    @kernel
    def attend_backward(
        T, B, H, K, N,  # N units of the query
        w_q_t,  # [Hp, ceil(N/L) vectors] panels
        w_v,
        query, S, states, keys, q, weights,  # as attend left them
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
        Hp = V * LANES
        for t in range(T):
            for b in range(B, Bp):
                dscores[t * Bp + b] = 0
        for b in range(B):
            _products(T, H, Bp, dcontext, b * R, states, b * Hp, B * Hp, z, 0, dscores, b)  # 3b
        _add_multiples(T, B, Hp, Bp, weights, dcontext, 0, R, dstates)  # 3b
        _softmax_backward(T, Bp, weights, dscores)  # 3a
        for b in range(B):
            if additive:
                for u in range(0, Hp, LANES):
                    one, q_u, v_u, dq_u = splat(q, 1), load(q, b * Hp + u), load(w_v, u), splat(q, 0)
                    for t in range(T):
                        at = (t * B + b) * Hp + u
                        s = tanh(q_u + load(keys, at))  # 2a
                        store(z, t * Hp + u, s)
                        dsum = splat(q, dscores[t * Bp + b]) * v_u * (one - s * s)  # 2b 2a
                        store(dkeys, at, load(dkeys, at) + dsum)
                        dq_u = dq_u + dsum
                    store(dq, b * Hp + u, dq_u)
                _weighted_sum(T, V, Bp, dscores, b, z, 0, Hp, dw_v, 0, True)  # 2b
            else:
                _weighted_sum(T, V, Bp, dscores, b, states, b * Hp, B * Hp, dq, b * Hp, False)  # 2c
                for u in range(0, Hp, LANES):
                    store(dq, b * Hp + u, load(dq, b * Hp + u) * splat(q, 1.0 / math.sqrt(H)))  # 1c
        if not additive:
            _add_multiples(T, B, Hp, Bp, dscores, q, 0, Hp, dstates)  # 2c
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
