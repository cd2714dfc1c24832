"""Layer normalisation of rows in unit blocks, and its undoing; equations as in ``backends.reference.layer_norm``.

Letters: L lanes, P unit blocks, G vectors a block (gates normalised together), H units, N = G*H numbers a row. Vector
``k`` of block ``p`` of row ``b`` begins at ``b*row + p*block + k*L``; lanes beyond H count for nothing and become zero.

A sum along a row goes across lanes, so its order must not come from their number: the G vectors of a block are added
up, then the blocks in CHAINS chains, unit ``u`` in chain ``u % CHAINS``, then the upper half of the chains to the lower
one until one is left. Sixteen lanes hold all chains in one vector; eight hold them in two, one of the even and one of
the odd blocks. ROWS rows are taken side by side, so that none waits for its own sums.
"""

from __future__ import annotations

from functools import partial, reduce

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from tsforecast.backends.cpu.jit import twin_of
from tsforecast.backends.cpu.lanes import I32, I64, LANES, emit_fma, vector_type
from tsforecast.backends.cpu.tile import shared_function
from tsforecast.backends.reference.layer_norm import EPSILON

ROWS, CHAINS = 4, 16
PARTS = CHAINS // LANES


class _Walk:
    """Emits passes along ``n`` rows from row ``first`` on, block by block."""

    def __init__(self, builder, dtype, n_gates, n_blocks, n_units, row, block, first, n):
        self.builder, self.dtype, self.gates = builder, dtype, range(n_gates)
        self.n_blocks, self.n_units, self.block = n_blocks, n_units, block
        self.first, self.starts = first, [builder.mul(builder.add(first, I64(b)), row) for b in range(n)]
        self.zero = ir.Constant(vector_type(dtype), [0.0] * LANES)

    def at(self, b, p, k):
        """Offset of vector ``k`` of block ``p`` of the ``b``-th row."""
        start = self.builder.add(self.starts[b], self.builder.mul(p, self.block))
        return self.builder.add(start, I64(k * LANES))

    def load(self, pointer, offset, lanes=LANES):
        vector = ir.VectorType(self.zero.type.element, lanes).as_pointer()
        value = self.builder.load(self.builder.bitcast(self.builder.gep(pointer, [offset]), vector))
        value.align = self.dtype.bitwidth // 8
        return value

    def store(self, value, pointer, offset):
        place = self.builder.bitcast(self.builder.gep(pointer, [offset]), value.type.as_pointer())
        self.builder.store(value, place).align = self.dtype.bitwidth // 8

    def units_only(self, p):
        """Make the function that zeroes the lanes of block ``p`` beyond the last unit."""
        left = self.builder.sub(self.n_units, self.builder.mul(p, I64(LANES)))
        integers = ir.VectorType(I32, LANES)
        one_lane = self.builder.insert_element(
            ir.Constant(integers, ir.Undefined), self.builder.trunc(left, I32), I32(0)
        )
        limits = self.splat(one_lane, 0)
        is_unit = self.builder.icmp_signed("<", ir.Constant(integers, list(range(LANES))), limits)
        return lambda value: self.builder.select(is_unit, value, self.zero)

    def blocks(self, first=0, step=1):
        """Loop over every ``step``-th block."""
        return cgutils.for_range_slice(self.builder, I64(first), self.n_blocks, I64(step))

    def means(self, n_sums, terms):
        """One vector of the means over N numbers of ``n_sums`` sums, to which block ``p`` adds ``terms(p)``."""
        slots = [[cgutils.alloca_once(self.builder, self.zero.type) for _ in range(PARTS)] for _ in range(n_sums)]
        for part in range(PARTS):
            for slot in slots:
                self.builder.store(self.zero, slot[part])
            with self.blocks(part, PARTS) as (p, _):
                for slot, term in zip(slots, terms(p), strict=True):
                    self.builder.store(self.builder.fadd(self.builder.load(slot[part]), term), slot[part])
        totals = self._totals([reduce(self.builder.fadd, map(self.builder.load, slot)) for slot in slots])
        n = self.builder.uitofp(self.builder.mul(self.n_units, I64(len(self.gates))), self.zero.type.element)
        return self.builder.fdiv(totals, self._shuffled([self.builder.insert_element(totals, n, I32(0))], [0] * n_sums))

    def _totals(self, chains):
        """One vector of the sums over the lanes of each of 2^m vectors, which share their additions."""
        width = LANES
        while width > 1:
            width //= 2
            pairs = [chains[i : i + 2] for i in range(0, len(chains), 2)]
            each = len(pairs[0]) * chains[0].type.count // (2 * width)
            halves = [[k * 2 * width + j for k in range(each) for j in range(s, s + width)] for s in (0, width)]
            chains = [self.builder.fadd(*(self._shuffled(pair, half) for half in halves)) for pair in pairs]
        return chains[0]

    def _shuffled(self, vectors, lanes):
        """Lanes of one vector or of two, counted through."""
        return self.builder.shuffle_vector(vectors[0], vectors[-1], ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    def splat(self, vector, lane):
        """All lanes as one lane of a vector."""
        return self._shuffled([vector], [lane] * LANES)


def _emit_over_rows(function, builder, dtype, n_gates, emit):
    """Emit loops over ROWS rows at a time and over the rest; a function's first arguments are rows to block."""
    n_rows, *sizes = function.args[:5]
    whole = builder.mul(builder.udiv(n_rows, I64(ROWS)), I64(ROWS))
    for start, stop, n in ((I64(0), whole, ROWS), (whole, n_rows, 1)):
        with cgutils.for_range_slice(builder, start, stop, I64(n)) as (first, _):
            emit(_Walk(builder, dtype, n_gates, *sizes, first, n), range(n))
    builder.ret_void()


def _emit_standardise(module, dtype, n_gates):
    """Get or build the LLVM function for lines 1a to 2a."""
    scalar = vector_type(dtype).element
    arguments = [I64] * 5 + [scalar.as_pointer()] * 3
    function, builder = shared_function(module, f"tsforecast_standardise_{dtype}_{n_gates}", arguments)
    if builder is None:
        return function
    a, y, r = function.args[5:]

    def emit(walk, rows):
        def sums(p):
            return [reduce(builder.fadd, [walk.load(a, walk.at(b, p, k)) for k in walk.gates]) for b in rows]

        means = walk.means(len(rows), sums)  # 1a

        def deviation(b, p, k):
            return builder.fsub(walk.load(a, walk.at(b, p, k)), walk.splat(means, b))

        def squares(p):
            units_only = walk.units_only(p)
            for b in rows:
                d, *rest = [units_only(deviation(b, p, k)) for k in walk.gates]
                yield reduce(lambda total, d: emit_fma(builder, dtype, d, d, total), rest, builder.fmul(d, d))

        variances = walk.means(len(rows), squares)  # 1b
        one, epsilon = (ir.Constant(variances.type, [x] * len(rows)) for x in (1.0, EPSILON))
        name = f"llvm.sqrt.v{len(rows)}f{dtype.bitwidth}"
        sqrt = cgutils.get_or_insert_function(module, ir.FunctionType(one.type, [one.type]), name)
        scales = builder.fdiv(one, builder.call(sqrt, [builder.fadd(variances, epsilon)]))  # 1c
        walk.store(scales, r, walk.first)
        with walk.blocks() as (p, _):
            units_only = walk.units_only(p)
            for b in rows:
                for k in walk.gates:
                    normed = builder.fmul(deviation(b, p, k), walk.splat(scales, b))  # 2a
                    walk.store(units_only(normed), y, walk.at(b, p, k))

    _emit_over_rows(function, builder, dtype, n_gates, emit)
    return function


def _emit_undo(module, dtype, n_gates):
    """Get or build the LLVM function that undoes lines 2b to 1a."""
    pointer = vector_type(dtype).element.as_pointer()
    arguments = [I64] * 5 + [pointer] * 4 + [I64] + [pointer] * 2
    function, builder = shared_function(module, f"tsforecast_standardise_undo_{dtype}_{n_gates}", arguments)
    if builder is None:
        return function
    dn, y, r, gain, gain_block, dgain, da = function.args[5:]

    def emit(walk, rows):
        def at_gain(p, k):
            return builder.add(builder.mul(p, gain_block), I64(k * LANES))

        def sums(p):
            found = [[walk.zero, walk.zero] for _ in rows]
            for k in walk.gates:
                g, of_gain = walk.load(gain, at_gain(p, k)), walk.load(dgain, at_gain(p, k))
                for b in rows:
                    d, normed = (walk.load(source, walk.at(b, p, k)) for source in (dn, y))
                    of_gain, dy = emit_fma(builder, dtype, d, normed, of_gain), builder.fmul(d, g)  # 2b
                    found[b] = [builder.fadd(found[b][0], dy), emit_fma(builder, dtype, dy, normed, found[b][1])]
                walk.store(of_gain, dgain, at_gain(p, k))
            return [one for two in found for one in two]

        means = walk.means(2 * len(rows), sums)
        scales = walk.load(r, walk.first, len(rows))
        scales = [walk.splat(scales, b) for b in rows]
        shifts = [builder.fneg(builder.fmul(scales[b // 2], walk.splat(means, b))) for b in range(2 * len(rows))]
        with walk.blocks() as (p, _):
            units_only = walk.units_only(p)
            for k in walk.gates:
                g = walk.load(gain, at_gain(p, k))
                for b in rows:
                    d, normed = (walk.load(source, walk.at(b, p, k)) for source in (dn, y))
                    rest = emit_fma(builder, dtype, normed, shifts[2 * b + 1], shifts[2 * b])  # 2a 1c 1b, 1a
                    d = emit_fma(builder, dtype, builder.fmul(d, g), scales[b], rest)  # 2b 2a
                    walk.store(units_only(d), da, walk.at(b, p, k))

    _emit_over_rows(function, builder, dtype, n_gates, emit)
    return function


def _numbers(n_gates, n_rows, n_blocks, n_units, row, block):
    """Places ``[n_rows, N + padding]`` and which columns of them are units, for the plain twins."""
    column = np.arange(n_gates * LANES) + np.zeros((n_blocks, 1), np.int64)
    p = np.arange(n_blocks)[:, None]
    places = np.arange(n_rows)[:, None] * row + (p * block + column).ravel()
    return places, (p * LANES + column % LANES < n_units).ravel()


def _plain_standardise(n_gates, n_rows, n_blocks, n_units, row, block, a, a0, y, y0, r, r0):
    places, is_unit = _numbers(n_gates, n_rows, n_blocks, n_units, row, block)
    numbers = a[a0 + places][:, is_unit]
    deviation = numbers - numbers.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((deviation * deviation).mean(axis=1, keepdims=True) + a.dtype.type(EPSILON))
    y[y0 + places[:, ~is_unit]] = 0
    y[y0 + places[:, is_unit]] = deviation * scale
    r[r0 : r0 + n_rows] = scale[:, 0]


def _plain_undo(
    n_gates,
    n_rows,
    n_blocks,
    n_units,
    row,
    block,
    dn,
    dn0,
    y,
    y0,
    r,
    r0,
    gain,
    gain0,
    gain_block,
    dgain,
    dgain0,
    da,
    da0,
):
    places, is_unit = _numbers(n_gates, n_rows, n_blocks, n_units, row, block)
    of_gain, _ = _numbers(n_gates, 1, n_blocks, n_units, 0, gain_block)
    d, normed, scale = dn[dn0 + places], y[y0 + places], r[r0 : r0 + n_rows, None]
    dgain[dgain0 + of_gain] += (d * normed).sum(axis=0)
    dy, n = d * gain[gain0 + of_gain], n_gates * n_units
    through_r = normed * ((dy * normed).sum(axis=1, keepdims=True) / n)
    da[da0 + places] = np.where(is_unit, scale * (dy - dy.sum(axis=1, keepdims=True) / n - through_r), 0)


def _call(emit, n_gates):
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
        builder.call(emit(builder.module, dtype, n_gates), values)
        return context.get_dummy_value()

    return codegen


def _make_standardise(n_gates: int):
    @twin_of(partial(_plain_standardise, n_gates))
    def standardise(typingctx, n_rows, n_blocks, n_units, row, block, a, a0, y, y0, r, r0):
        """Lines 1a to 2a for rows of G vectors a block: ``y`` (which may be ``a``) and the scale ``r`` of each row."""
        return types.void(n_rows, n_blocks, n_units, row, block, a, a0, y, y0, r, r0), _call(_emit_standardise, n_gates)

    return standardise


def _make_undo(n_gates: int):
    @twin_of(partial(_plain_undo, n_gates))
    def undo(
        typingctx, n_rows, n_blocks, n_units, row, block, dn, dn0, y, y0, r, r0, gain, gain0, gain_block, dgain, dgain0,
        da, da0,
    ):  # fmt: skip
        """Lines 2b to 1a backwards: adds to ``dgain`` and writes ``da``, which may be ``dn`` or ``y``."""
        arguments = (
            n_rows, n_blocks, n_units, row, block, dn, dn0, y, y0, r, r0, gain, gain0, gain_block, dgain, dgain0,
            da, da0,
        )  # fmt: skip
        return types.void(*arguments), _call(_emit_undo, n_gates)

    return undo


# By the number of vectors a block that are normalised together.
standardise_1, standardise_2, standardise_4 = map(_make_standardise, (1, 2, 4))
undo_1, undo_2, undo_4 = map(_make_undo, (1, 2, 4))
