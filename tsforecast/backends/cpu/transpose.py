"""Transposed copies of weights, for the backward multiplies: LANES by LANES elements at a time, in registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from tsforecast.backends.cpu.jit import inlined, twin_of
from tsforecast.backends.cpu.lanes import I32, I64, LANES, LANES_OF, as_i64, vector_type


def _emit_transposed(builder, dtype, rows):
    """Transpose LANES vectors: in stage s, elements whose index differs in bit s of row and column change places."""
    vectors = list(rows)
    s = 1
    while s < LANES:
        even = [j if j & s == 0 else LANES + j - s for j in range(LANES)]
        odd = [j + s if j & s == 0 else LANES + j for j in range(LANES)]
        masks = [ir.Constant(ir.VectorType(I32, LANES), mask) for mask in (even, odd)]
        for i in range(LANES):
            if i & s == 0:
                a, b = vectors[i], vectors[i + s]
                vectors[i] = builder.shuffle_vector(a, b, masks[0])
                vectors[i + s] = builder.shuffle_vector(a, b, masks[1])
        s *= 2
    return vectors


def _plain_tile(source, s0, s_row, n_rows, target, t0, t_row):
    for k in range(LANES):
        for j in range(LANES):
            target[t0 + j * t_row + k] = source[s0 + k * s_row + j] if k < n_rows else 0


@twin_of(_plain_tile)
def transpose_tile(typingctx, source, s0, s_row, n_rows, target, t0, t_row):
    """``target[t0 + j*t_row + k] = source[s0 + k*s_row + j]``, zero for ``k >= n_rows`` (which is at least 1)."""
    dtype = source.dtype

    def codegen(context, builder, sig, args):
        def index(i):
            return as_i64(builder, args[i], sig.args[i])

        def lanes_at(array, offset):
            data = context.make_array(sig.args[array])(context, builder, args[array]).data
            return builder.bitcast(builder.gep(data, [offset]), vector_type(dtype).as_pointer())

        zero = ir.Constant(vector_type(dtype), [0.0] * LANES)
        rows = []
        for k in range(LANES):
            exists = builder.icmp_signed("<", ir.Constant(I64, k), index(3))
            row = builder.select(exists, ir.Constant(I64, k), ir.Constant(I64, 0))
            value = builder.load(lanes_at(0, builder.add(index(1), builder.mul(row, index(2)))))
            value.align = dtype.bitwidth // 8
            rows.append(builder.select(exists, value, zero))
        for j, value in enumerate(_emit_transposed(builder, dtype, rows)):
            offset = builder.add(index(5), builder.mul(ir.Constant(I64, j), index(6)))
            builder.store(value, lanes_at(4, offset)).align = dtype.bitwidth // 8
        return context.get_dummy_value()

    if dtype not in LANES_OF:
        return None
    return types.void(source, s0, s_row, n_rows, target, t0, t_row), codegen


@inlined
def transpose_columns(source, s0, s_row, n_rows, target, t0, n_target_rows, first_row):
    """Write LANES columns of a matrix as LANES rows, from ``first_row``, of a matrix in panels with ``n_rows`` columns.

    Padding columns become zero.
    """
    V = (n_rows + LANES - 1) // LANES
    for q in range(V):
        start = q // 4 * 4  # of the panel that this vector stands in
        width = min(4, V - start)
        place = t0 + start * LANES * n_target_rows + first_row * width * LANES + (q - start) * LANES
        n = min(LANES, n_rows - q * LANES)
        transpose_tile(source, s0 + q * LANES * s_row, s_row, n, target, place, width * LANES)
