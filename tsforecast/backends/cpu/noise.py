"""Masks of dropout, recurrent dropout and zoneout inside compiled code; equations as in ``backends.reference.noise``.

Lines 1 to 3 are whole numbers, a few for each row of a batch and step; lines 4 to 6 are done for LANES units at once.
The functions of rows work on whole vectors from the places of a flat buffer; in padding everything is and stays zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir

from tsforecast.backends.cpu.jit import inlined, kernel, twin_of
from tsforecast.backends.cpu.lanes import I32, LANES, as_i64, fma, load, splat, store
from tsforecast.backends.cpu.shuffle import hash64
from tsforecast.backends.reference import noise as equations

EXPECTED = -1  # as the key of a step: what is expected of the noise, as in inference
_WORD = ir.VectorType(I32, LANES)


class Noise(NamedTuple):
    """What masks of a shard depend on beside the run."""

    key: int  # of the step, or ``EXPECTED``
    first: int  # row of the batch that the shard begins with


@inlined
def step_key(seed, step):
    """Line 1."""
    return hash64(hash64(seed, equations.NO_EPOCH), step)


@inlined
def run_key(noise, i, purpose):
    """Line 2."""
    return hash64(noise.key, equations.N_PURPOSES * i + purpose)


@inlined
def limit_of(rate):
    """What the bits of line 6 are compared with."""
    return np.int64(rate * 4294967296.0)


def _plain_draw(word, unit, limit, drawn, kept):
    bits = equations.unit_bits(np.uint32(word & 0xFFFFFFFF), np.arange(unit, unit + LANES, dtype=np.uint32))
    return np.where(bits < np.uint32(limit), drawn, kept)


@twin_of(_plain_draw)
def draw(typingctx, word, unit, limit, drawn, kept):
    """Lanes of ``drawn`` where line 6 draws the units from ``unit`` on, else of ``kept``."""

    def codegen(context, builder, sig, args):
        def word_of(i):
            return builder.trunc(as_i64(builder, args[i], sig.args[i]), I32)

        def all_lanes(scalar):
            nothing = ir.Constant(_WORD, ir.Undefined)
            first = builder.insert_element(nothing, scalar, ir.Constant(I32, 0))
            return builder.shuffle_vector(first, nothing, ir.Constant(_WORD, [0] * LANES))

        def constant(value):
            return ir.Constant(_WORD, [value] * LANES)

        golden = equations.GOLDEN_32
        steps = ir.Constant(_WORD, [(lane + 1) * golden & 0xFFFFFFFF for lane in range(LANES)])
        x = builder.add(word_of(0), builder.mul(word_of(1), ir.Constant(I32, golden)))
        x = builder.add(all_lanes(x), steps)  # 4
        for shift, factor in equations.MIX_32:  # 5
            x = builder.mul(builder.xor(x, builder.lshr(x, constant(shift))), constant(factor))
        x = builder.xor(x, builder.lshr(x, constant(equations.LAST_SHIFT_32)))
        return builder.select(builder.icmp_unsigned("<", x, all_lanes(word_of(2))), args[3], args[4])  # 6

    return drawn(word, unit, limit, drawn, kept), codegen


@kernel
def drop_rows(
    key,  # of the run
    first,  # row of the batch that the shard begins with
    T,  # steps of a window
    B,  # rows of the shard
    row, last,  # rows t B + b from here up to, but not, here
    n,  # units in whole vectors
    rate, work,
    source, source_row,  # place of the first of them, and how far apart they are
    target, target_row,
):  # fmt: skip
    """Line 7: units that are drawn become 0, the others larger."""
    scale, zero, limit = splat(work, 1.0 / (1.0 - rate)), splat(work, 0), limit_of(rate)
    for k in range(last - row):
        t, b = (row + k) // B, (row + k) % B
        word = hash64(key, (first + b) * T + t)
        for u in range(0, n, LANES):
            kept = load(work, source + k * source_row + u) * scale
            store(work, target + k * target_row + u, draw(word, u, limit, zero, kept))


@inlined
def write_mask(noise, key, B, n, rate, work, mask):
    """Line 8: the factors ``[B,n]`` of h in the recurrent multiply, the same at every step."""
    scale, zero, limit = splat(work, 1.0 / (1.0 - rate)), splat(work, 0), limit_of(rate)
    for b in range(B):
        word = hash64(key, noise.first + b)
        for u in range(0, n, LANES):
            store(work, mask + b * n + u, draw(word, u, limit, zero, scale))


@inlined
def mix_row(is_drawn, word, rate, n, work, old, new, target):
    """Line 9: ``n`` numbers of a state, from its old and its new value."""
    share, limit = splat(work, rate), limit_of(rate)
    rest = splat(work, 1.0 - rate)
    if is_drawn:
        for u in range(0, n, LANES):
            store(work, target + u, draw(word, u, limit, load(work, old + u), load(work, new + u)))
    else:
        for u in range(0, n, LANES):
            store(work, target + u, fma(share, load(work, old + u), rest * load(work, new + u)))


@inlined
def unmix_row(is_drawn, word, rate, n, work, d, d_old):
    """Undo ``mix_row``: of the gradient at ``d`` the part by the old value goes to ``d_old``, that by the new stays."""
    share, limit, zero = splat(work, rate), limit_of(rate), splat(work, 0)
    rest = splat(work, 1.0 - rate)
    if is_drawn:
        for u in range(0, n, LANES):
            whole = load(work, d + u)
            store(work, d_old + u, draw(word, u, limit, whole, zero))
            store(work, d + u, draw(word, u, limit, zero, whole))
    else:
        for u in range(0, n, LANES):
            whole = load(work, d + u)
            store(work, d_old + u, share * whole)
            store(work, d + u, rest * whole)


@inlined
def mask_row(n, work, h, mask, kept):
    """``kept = h``, and then ``h *= mask``."""
    for u in range(0, n, LANES):
        value = load(work, h + u)
        store(work, kept + u, value)
        store(work, h + u, value * load(work, mask + u))


@inlined
def multiply_row(n, work, a, b, target):
    """``target = a * b``."""
    for u in range(0, n, LANES):
        store(work, target + u, load(work, a + u) * load(work, b + u))


@inlined
def add_row(n, work, a, target):
    """``target += a``."""
    for u in range(0, n, LANES):
        store(work, target + u, load(work, target + u) + load(work, a + u))
