"""The sums over units and over steps that ``attention`` is made of; letters, layouts and numbers of lines as there."""

from __future__ import annotations

from tsforecast.backends.cpu.activations import exp, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, larger, load, splat, store
from tsforecast.backends.cpu.rows import clear
from tsforecast.backends.cpu.tile import multiply
from tsforecast.backends.cpu.transpose import transpose_columns


@kernel
def turn(T, B, H, rows, turned):
    """Copy ``[T,B,Hp]`` to a matrix ``[Hp,T]`` in panels for each of the B."""
    Hp, Tp = (H + LANES - 1) // LANES * LANES, (T + LANES - 1) // LANES * LANES
    for b in range(B):
        for u in range(0, Hp, LANES):
            transpose_columns(rows, b * Hp + u, B * Hp, T, turned, b * Hp * Tp, Hp, u)


@inlined
def products(
    T, Hp, Bp,
    x, x0,  # [Hp] from x0, zero beyond H
    turned, r0,  # [Hp,T] in panels from r0
    z,  # [Tp] scratch
    out, o0,  # [T] from o0, Bp apart
):  # fmt: skip
    """The product of x with each of the rows that were turned."""
    multiply(1, (T + LANES - 1) // LANES, Hp, x, x0, 0, 1, turned, r0, 0, z, 0, 0, LANES, False)
    for t in range(T):
        out[o0 + t * Bp] = z[t]


@inlined
def scores(
    T, H, Bp,
    q, q0,  # [H] from q0
    w_v,
    turned, r0,  # keys [Hp,T] in panels from r0
    z,  # [Tp] scratch
    out, o0,  # [T] from o0, Bp apart
):  # fmt: skip
    """Lines 2a and 2b of one row."""
    V, Hp = (T + LANES - 1) // LANES, (H + LANES - 1) // LANES * LANES
    for v in range(V):
        store(z, v * LANES, splat(z, 0))
    for start in range(0, V, 4):
        width = min(4, V - start)
        for u in range(H):
            q_u, v_u = splat(q, q[q0 + u]), splat(q, w_v[u])
            for v in range(width):
                at = r0 + start * Hp * LANES + (u * width + v) * LANES
                s = tanh(q_u + load(turned, at))  # 2a
                store(z, (start + v) * LANES, fma(s, v_u, load(z, (start + v) * LANES)))  # 2b
    for t in range(T):
        out[o0 + t * Bp] = z[t]


@inlined
def weighted_sums(
    T, B, Hp, Bp,
    a,  # [T,Bp]
    rows,  # [T,B,Hp]
    out, R,  # [B,R] out, the first Hp of each row
):  # fmt: skip
    """Sum over the steps, each times its number in a, for every row; step by step, as the states lie in memory."""
    for b in range(B):
        clear(out, b * R, Hp)
    for t in range(T):
        for b in range(B):
            number = splat(out, a[t * Bp + b])
            for u in range(0, Hp, LANES):
                store(out, b * R + u, fma(number, load(rows, (t * B + b) * Hp + u), load(out, b * R + u)))


@inlined
def softmax(T, Bp, weights):
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
def softmax_backward(T, Bp, weights, dscores):
    """Line 3a backwards, in place: ``dscores`` comes in as the gradient by the weights."""
    for b in range(0, Bp, LANES):
        mean = splat(weights, 0)
        for t in range(T):
            mean = fma(load(weights, t * Bp + b), load(dscores, t * Bp + b), mean)
        for t in range(T):
            at = t * Bp + b
            store(dscores, at, load(weights, at) * (load(dscores, at) - mean))


@inlined
def add_multiples(T, B, Hp, Bp, a, x, x0, S, out):
    """Add ``a [T,Bp]`` times row b of x, ``[B,S]`` from x0, to ``out [T,B,Hp]``."""
    for t in range(T):
        for b in range(B):
            number = splat(x, a[t * Bp + b])
            for u in range(0, Hp, LANES):
                at = (t * B + b) * Hp + u
                store(out, at, fma(number, load(x, x0 + b * S + u), load(out, at)))


@inlined
def scores_backward(T, B, Hp, Bp, dscores, q, w_v, keys, dkeys, dq, dw_v):
    """Lines 2b and 2a backwards."""
    one = splat(q, 1)
    clear(dq, 0, B * Hp)
    for t in range(T):
        for b in range(B):
            dscore = splat(q, dscores[t * Bp + b])
            for u in range(0, Hp, LANES):
                at, of_row = (t * B + b) * Hp + u, b * Hp + u
                s = tanh(load(q, of_row) + load(keys, at))  # 2a
                store(dw_v, u, fma(dscore, s, load(dw_v, u)))  # 2b
                dsum = dscore * load(w_v, u) * (one - s * s)  # 2b 2a
                store(dkeys, at, load(dkeys, at) + dsum)
                store(dq, of_row, load(dq, of_row) + dsum)
