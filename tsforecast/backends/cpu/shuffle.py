"""The random order of an epoch's rows, inside compiled code; the equations are in ``backends.reference.shuffle``."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from tsforecast.backends.cpu.jit import kernel, twin_of
from tsforecast.backends.cpu.lanes import I64, as_i64
from tsforecast.backends.reference.shuffle import GOLDEN, LAST_SHIFT, MIX
from tsforecast.backends.reference.shuffle import hash64 as plain_hash64


@twin_of(plain_hash64)
def hash64(typingctx, key, n):
    """1: 63 random bits."""

    def codegen(context, builder, sig, args):
        def word(value):
            return ir.Constant(I64, value)

        key, n = (as_i64(builder, arg, kind) for arg, kind in zip(args, sig.args, strict=True))
        x = builder.add(key, builder.mul(builder.add(n, word(1)), word(GOLDEN)))
        for shift, factor in MIX:
            x = builder.mul(builder.xor(x, builder.lshr(x, word(shift))), word(factor))
        return builder.lshr(builder.xor(x, builder.lshr(x, word(LAST_SHIFT))), word(1))

    return types.int64(key, n), codegen


@kernel
def epoch_order(
    n_rows, seed, epoch,
    first,  # added to every row
    order,  # [n_rows] int64 out
    scratch,  # [3 * n_rows] int64
):  # fmt: skip
    """Random order of the rows ``first..first + n_rows - 1``."""
    bits = 0
    while 1 << bits < n_rows:
        bits += 1
    mask = (1 << bits) - 1
    key = hash64(seed, epoch)
    for i in range(n_rows):
        x = hash64(key, i)
        scratch[i] = x - (x & mask) + i  # 2
    _sort(n_rows, bits, scratch, scratch[n_rows:], order)  # 3
    for i in range(n_rows):
        order[i] = first + (order[i] & mask)


@kernel
def _sort(
    n,
    bits,  # 2**bits is at least n and below 2 n
    keys,  # [n] int64 evenly spread below 2**63
    places,  # [2**bits] int64 scratch: where the next key with these first bits goes
    result,  # [n] int64 out: the keys, rising
):  # fmt: skip
    """Put each key where its first bits say, next to one other on average; then move it past larger neighbours."""
    shift = 63 - bits
    for b in range(1 << bits):
        places[b] = 0
    for i in range(n):
        places[keys[i] >> shift] += 1
    start = 0
    for b in range(1 << bits):
        start += places[b]
        places[b] = start - places[b]
    for i in range(n):
        b = keys[i] >> shift
        result[places[b]] = keys[i]
        places[b] += 1
    for i in range(1, n):
        key, k = result[i], i
        while k > 0 and result[k - 1] > key:
            result[k] = result[k - 1]
            k -= 1
        result[k] = key
