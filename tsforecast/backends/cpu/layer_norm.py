"""Layer normalisation of rows in unit blocks, and its undoing; equations as in ``backends.reference.layer_norm``.

Rows are those of ``row_sums``, up to ROWS of them at a time, of one side or two (sums of x and sums of h); lanes beyond
H hold zeros, or count for nothing and become zero. The sums of a row add up the G vectors of a block first. What is
known of a row stands in a row of STATISTICS numbers: the means of its sides, and behind them their scales (line 1c).
"""

from __future__ import annotations

from functools import partial, reduce

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from tsforecast.backends.cpu.jit import twin_of
from tsforecast.backends.cpu.lanes import I64, LANES, LANES_OF, emit_fma, vector_type
from tsforecast.backends.cpu.row_sums import CHAINS, ROWS, VECTORS, Rows
from tsforecast.backends.cpu.tile import shared_function
from tsforecast.backends.reference.layer_norm import EPSILON

STATISTICS = 8


def _begin(module, name, dtype, n_gates, n_sides, kinds):
    """A shared function, its passes along rows (None if it is built already), and its arguments behind the sizes."""
    kinds = [vector_type(dtype).element.as_pointer() if kind == "array" else I64 for kind in kinds]
    function, builder = shared_function(module, f"tsforecast_{name}_{dtype}_{n_gates}_{n_sides}", [I64] * 6 + kinds)
    rows = None if builder is None else Rows(builder, dtype, n_gates, n_sides, *function.args[:6])
    return function, rows, function.args[6:]


def _emit_moments(n_gates, n_sides, module, dtype):
    """Get or build the LLVM function for lines 1a to 1c."""
    function, rows, (a, statistics) = _begin(module, "moments", dtype, n_gates, n_sides, ["array"] * 2)
    if rows is None:
        return function
    builder, means, scales = rows.builder, rows.room(ROWS * n_sides), rows.room(ROWS * n_sides)

    def sums(b, p):
        return [reduce(builder.fadd, rows.load_gates(a, b, p, j)) for j in rows.sides]

    def squares(b, p):
        for j in rows.sides:
            mean = rows.splat(rows.number(means, (b, n_sides), j))
            d, *rest = [rows.units_only(p, builder.fsub(x, mean)) for x in rows.load_gates(a, b, p, j)]
            yield reduce(lambda total, d: emit_fma(builder, dtype, d, d, total), rest, builder.fmul(d, d))

    rows.store_all(rows.means(rows.chains(sums), n_sides), means)  # 1a
    variances = rows.means(rows.chains(squares), n_sides)  # 1b
    one, epsilon = (ir.Constant(variances[0].type, [x] * CHAINS) for x in (1.0, EPSILON))
    name = f"llvm.sqrt.v{CHAINS}f{dtype.bitwidth}"
    sqrt = cgutils.get_or_insert_function(module, ir.FunctionType(one.type, [one.type]), name)
    roots = [builder.call(sqrt, [builder.fadd(variance, epsilon)]) for variance in variances]
    rows.store_all([builder.fdiv(one, root) for root in roots], scales)  # 1c
    with rows.all_rows() as loop:
        for j in rows.sides:
            for i, numbers in enumerate((means, scales)):
                number = rows.number(numbers, (loop.index, n_sides), j)
                rows.store(number, statistics, (loop.index, STATISTICS), i * n_sides + j)
    builder.ret_void()
    return function


def _emit_undo(n_gates, n_sides, module, dtype):
    """Get or build the LLVM function that undoes lines 2b to 1a."""
    kinds = ["array", "array", "array", "array", "size", "size", "array", "array", "size", "size"]
    function, rows, arguments = _begin(module, "undo", dtype, n_gates, n_sides, kinds)
    if rows is None:
        return function
    dn, y, statistics, gain, gain_block, gain_side, dgain, da_rows, row, gate = arguments
    builder, n_sums = rows.builder, 2 * n_sides
    chains, means = rows.room(ROWS * n_sums * CHAINS), rows.room(ROWS * n_sums)

    def of_gain(p, j, k):
        return (p, gain_block), (j, gain_side), k * LANES

    def gradients(b, p):
        """By the normalised numbers of each side: gates have the same, those of candidates stand side by side."""
        here = rows.load_gates(dn, b, p)
        beside = [rows.load(dn, (b, rows.row), (p, rows.block), LANES)] if n_gates == 1 and n_sides == 2 else here
        return (here, beside)[:n_sides]

    with rows.all_rows() as loop:
        for i in range(n_sums * VECTORS):
            rows.store(rows.zero, chains, (loop.index, n_sums * CHAINS), i * LANES)
    with rows.blocks() as (p, _):
        gains = [[rows.load(gain, *of_gain(p, j, k)) for k in rows.gates] for j in rows.sides]
        totals = [rows.slots([rows.load(dgain, *of_gain(p, j, k)) for k in rows.gates]) for j in rows.sides]
        part = (builder.and_(p, I64(VECTORS - 1)), LANES)
        with rows.all_rows() as loop:
            for j, dns in enumerate(gradients(loop.index, p)):
                places = [((loop.index, n_sums * CHAINS), (2 * j + i) * CHAINS, part) for i in range(2)]
                sums = [rows.load(chains, *place) for place in places]
                for k, normed in enumerate(rows.load_gates(y, loop.index, p, j)):
                    total = emit_fma(builder, dtype, dns[k], normed, builder.load(totals[j][k]))  # 2b
                    builder.store(total, totals[j][k])
                    dy = builder.fmul(dns[k], gains[j][k])  # 2b
                    sums = [builder.fadd(sums[0], dy), emit_fma(builder, dtype, dy, normed, sums[1])]
                for total, place in zip(sums, places, strict=True):
                    rows.store(total, chains, *place)
        for j in rows.sides:
            for k in rows.gates:
                rows.store(builder.load(totals[j][k]), dgain, *of_gain(p, j, k))
    rows.store_all(rows.means(chains, n_sums), means)
    with rows.all_rows() as loop:
        for j in rows.sides:
            scale = rows.number(statistics, (loop.index, STATISTICS), n_sides + j)
            for i in range(2):
                place = (loop.index, n_sums), 2 * j + i
                rows.store(builder.fneg(builder.fmul(scale, rows.number(means, *place))), means, *place)
    with rows.blocks() as (p, _):
        gains = [[rows.load(gain, *of_gain(p, j, k)) for k in rows.gates] for j in rows.sides]
        with rows.all_rows() as loop:
            b = loop.index
            dns = gradients(b, p)
            for j in rows.sides:
                scale = rows.splat(rows.number(statistics, (b, STATISTICS), n_sides + j))
                shift, slope = (rows.splat(rows.number(means, (b, n_sums), 2 * j + i)) for i in range(2))
                shift = rows.units_only(p, shift)
                for k, normed in enumerate(rows.load_gates(y, b, p, j)):
                    rest = emit_fma(builder, dtype, normed, slope, shift)  # 2a 1c 1b, 1a
                    da = emit_fma(builder, dtype, builder.fmul(dns[j][k], gains[j][k]), scale, rest)  # 2b 2a
                    rows.store(da, y, (b, rows.row), (p, rows.block), (j, rows.side), k * LANES)
                    if j > 0:
                        rows.store(da, da_rows, (b, row), (k, gate), (p, LANES))
    builder.ret_void()
    return function


def _numbers(n_gates, n_rows, n_blocks, n_units, row, block):
    """Places ``[n_rows, N + padding]`` and which columns of them are units, for the plain twins."""
    column = np.arange(n_gates * LANES) + np.zeros((n_blocks, 1), np.int64)
    p = np.arange(n_blocks)[:, None]
    places = np.arange(n_rows)[:, None] * row + (p * block + column).ravel()
    return places, (p * LANES + column % LANES < n_units).ravel()


def _plain_moments(n_gates, n_sides, n_rows, n_blocks, n_units, row, block, side, a, a0, statistics, s0):
    places, is_unit = _numbers(n_gates, n_rows, n_blocks, n_units, row, block)
    for j in range(n_sides):
        numbers, at = a[a0 + j * side + places][:, is_unit], s0 + j + np.arange(n_rows) * STATISTICS
        statistics[at] = numbers.mean(axis=1)
        statistics[at + n_sides] = 1 / np.sqrt(numbers.var(axis=1) + a.dtype.type(EPSILON))


def _plain_undo(
    n_gates, n_sides, n_rows, n_blocks, n_units, row, block, side, dn, dn0, y, y0, statistics, s0, gain, gain0,
    gain_block, gain_side, dgain, dgain0, da_rows, da0, da_row, da_gate,
):  # fmt: skip
    places, is_unit = _numbers(n_gates, n_rows, n_blocks, n_units, row, block)
    of_gain, _ = _numbers(n_gates, 1, n_blocks, n_units, 0, gain_block)
    gate, unit = np.arange(n_gates * LANES) // LANES, np.arange(n_gates * LANES) % LANES
    in_rows = (gate * da_gate + unit + np.arange(n_blocks)[:, None] * LANES).ravel()
    n, b = n_gates * n_units, np.arange(n_rows)
    for j in range(n_sides):
        d, normed = dn[dn0 + places + (j * LANES if n_gates == 1 else 0)], y[y0 + j * side + places]
        scale = statistics[s0 + b * STATISTICS + n_sides + j][:, None]
        dgain[dgain0 + j * gain_side + of_gain] += (d * normed).sum(axis=0)
        dy = d * gain[gain0 + j * gain_side + of_gain]
        through_r = normed * ((dy * normed).sum(axis=1, keepdims=True) / n)
        da = np.where(is_unit, scale * (dy - dy.sum(axis=1, keepdims=True) / n - through_r), 0)
        y[y0 + j * side + places] = da
        if j > 0:
            da_rows[da0 + b[:, None] * da_row + in_rows] = da


def _plain_standardised(n_gates, a, at, mean, scale):
    found = tuple((a[at + k * LANES :][:LANES] - mean) * scale for k in range(n_gates))
    a[at : at + n_gates * LANES] = np.concatenate(found)
    return found


def _call(emit):
    """Make the code that calls an emitted function; an array and the place of its first element become a pointer."""

    def codegen(context, builder, sig, args):
        values, rest = [], zip(sig.args, args, strict=True)
        for kind, value in rest:
            if isinstance(kind, types.Array):
                data, place = context.make_array(kind)(context, builder, value).data, next(rest)
                values.append(builder.gep(data, [context.cast(builder, place[1], place[0], types.int64)]))
                dtype = kind.dtype
            else:
                values.append(context.cast(builder, value, kind, types.int64))
        builder.call(emit(builder.module, dtype), values)
        return context.get_dummy_value()

    return codegen


def make_moments(n_gates: int, n_sides: int):
    """Make the kernel for lines 1a to 1c."""

    @twin_of(partial(_plain_moments, n_gates, n_sides))
    def moments(typingctx, n_rows, n_blocks, n_units, row, block, side, a, a0, statistics, s0):
        """Means and scales of rows, and what they are of."""
        arguments = (n_rows, n_blocks, n_units, row, block, side, a, a0, statistics, s0)
        return types.void(*arguments), _call(partial(_emit_moments, n_gates, n_sides))

    return moments


def make_standardised(n_gates: int):
    """Make the kernel for line 2a."""

    @twin_of(partial(_plain_standardised, n_gates))
    def standardised(typingctx, a, at, mean, scale):
        """The vectors of a block at ``a[at:]``, normalised there and given back; the lanes of ``mean`` are units."""

        def codegen(context, builder, sig, args):
            data, kind = context.make_array(a)(context, builder, args[0]).data, vector_type(a.dtype)
            start, found = builder.gep(data, [context.cast(builder, args[1], at, types.int64)]), []
            for k in range(n_gates):
                place = builder.bitcast(builder.gep(start, [I64(k * LANES)]), kind.as_pointer())
                x = builder.load(place, align=a.dtype.bitwidth // 8)
                found.append(builder.fmul(builder.fsub(x, args[2]), args[3]))
                builder.store(found[-1], place, align=a.dtype.bitwidth // 8)
            return context.make_tuple(builder, sig.return_type, found)

        return types.UniTuple(LANES_OF[a.dtype], n_gates)(a, at, mean, scale), codegen

    return standardised


def make_undo(n_gates: int, n_sides: int):
    """Make the kernel for lines 2b to 1a backwards."""

    @twin_of(partial(_plain_undo, n_gates, n_sides))
    def undo(
        typingctx, n_rows, n_blocks, n_units, row, block, side,
        dn, dn0,  # gradients of n, those of the two sides of one vector a block side by side, else the same
        y, y0,  # out: da
        statistics, s0,
        gain, gain0, gain_block, gain_side,
        dgain, dgain0,  # accumulates
        da_rows, da0, da_row, da_gate,  # da of the second side once more, row by row and gate by gate
    ):  # fmt: skip
        """Write ``da`` in the place of ``y``, and add to ``dgain``."""
        arguments = (
            n_rows, n_blocks, n_units, row, block, side, dn, dn0, y, y0, statistics, s0, gain, gain0, gain_block,
            gain_side, dgain, dgain0, da_rows, da0, da_row, da_gate,
        )  # fmt: skip
        return types.void(*arguments), _call(partial(_emit_undo, n_gates, n_sides))

    return undo


# By the number of vectors a block that are normalised together, and of sides.
moments_1_1, moments_1_2, moments_2_2, moments_4_2 = (make_moments(*n) for n in ((1, 1), (1, 2), (2, 2), (4, 2)))
undo_1_1, undo_1_2, undo_2_2, undo_4_2 = (make_undo(*n) for n in ((1, 1), (1, 2), (2, 2), (4, 2)))
standardised_1, standardised_2, standardised_4 = map(make_standardised, (1, 2, 4))
