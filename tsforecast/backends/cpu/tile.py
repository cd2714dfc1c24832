"""The one multiply: C (+)= A B on register tiles.

A tile keeps R rows x V vectors of C in registers, walks once over k, and does R*V fused multiply-adds a step:

    for k in range(K):  for r in range(R):  for v in range(V):  acc[r][v] = fma(A[r, k], B[k, v], acc[r][v])

Every element of C is one serial chain over k, from C (or zero) upwards, so its bits depend on neither the tile's shape, the
number of lanes, nor the order of tiles: splitting k or rows into blocks changes nothing.

Matrices live in flat arrays. A is strided: element (r, k) at ``a0 + r*a_row + k*a_k``. B and C are in *panels*: columns are cut into
vectors of LANES, and vectors into panels of 4, then 2, then 1 (``panel_index``); a panel of B is [K, V*LANES], contiguous.
C's panel that begins at vector v has its row r at ``c0 + v*c_vec + r*c_row``: ``c_vec = LANES``, ``c_row = N`` is the ordinary row-major
layout; ``c_vec = M*LANES``, ``c_row = 0`` (a panel's own width) the panel layout again, so that a product can be the next one's B.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from tsforecast.backends.cpu.jit import kernel, twin_of
from tsforecast.backends.cpu.lanes import (
    I64,
    LANES,
    LANES_OF,
    WIDE_REGISTERS,
    as_i64,
    broadcast,
    emit_fma,
    vector_type,
)

_REGISTER_BITS = 512 if WIDE_REGISTERS else 256
_ACCUMULATORS = 24 if WIDE_REGISTERS else 12  # of 32 or 16 registers; the rest hold operands


def tile_rows(dtype, vectors: int) -> int:
    """Rows of the largest tile whose accumulators fit the registers beside its operands."""
    registers_a_row = vectors * max(1, LANES * dtype.bitwidth // _REGISTER_BITS)
    if not WIDE_REGISTERS and registers_a_row >= 4:
        return max(1, 8 // registers_a_row)  # 3 rows x 4 vectors would spill beside the operands
    return max(1, min(12, _ACCUMULATORS // registers_a_row))


def _emit_tile(builder, dtype, rows, vectors, add, a, a_row, a_k, b, c, c_row, n):
    """One tile; ``a``, ``b``, ``c`` point at its first elements, ``add`` tells whether C is added to or overwritten."""
    vector = vector_type(dtype)
    align = dtype.bitwidth // 8

    def fixed(value):
        return ir.Constant(I64, value)

    def lanes_at(pointer, offset):
        return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

    def load_lanes(pointer, offset):
        value = builder.load(lanes_at(pointer, offset))
        value.align = align
        return value

    slots = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
    places = [[builder.add(builder.mul(c_row, fixed(r)), fixed(v * LANES)) for v in range(vectors)] for r in range(rows)]
    tile = [(r, v) for r in range(rows) for v in range(vectors)]
    with builder.if_else(add) as (then, otherwise):
        with then:
            for r, v in tile:
                builder.store(load_lanes(c, places[r][v]), slots[r][v])
        with otherwise:
            for r, v in tile:
                builder.store(ir.Constant(vector, [0.0] * LANES), slots[r][v])
    with cgutils.for_range(builder, n) as loop:
        a_here = builder.gep(a, [builder.mul(loop.index, a_k)])
        b_at = builder.mul(loop.index, fixed(vectors * LANES))
        held = [load_lanes(b, builder.add(b_at, fixed(v * LANES))) for v in range(vectors)]
        for r in range(rows):
            scalar = broadcast(builder, builder.load(builder.gep(a_here, [builder.mul(a_row, fixed(r))])), dtype)
            for v in range(vectors):
                builder.store(emit_fma(builder, dtype, scalar, held[v], builder.load(slots[r][v])), slots[r][v])
    for r, v in tile:
        builder.store(builder.load(slots[r][v]), lanes_at(c, places[r][v])).align = align


def _emit_panel(module, dtype, vectors):
    """Get or build the LLVM function for one panel: full tiles down the rows, then the rest in tiles of 8, 4, 2, 1 rows."""
    pointer = vector_type(dtype).element.as_pointer()
    arguments = [I64, I64, pointer, I64, I64, pointer, pointer, I64, ir.IntType(1)]
    name = f"tsforecast_panel_{dtype}_{vectors}"
    function = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    if function.blocks:
        return function
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    n_rows, n, a, a_row, a_k, b, c, c_row, add = function.args

    def tile_at(row, rows):
        a_tile, c_tile = builder.gep(a, [builder.mul(row, a_row)]), builder.gep(c, [builder.mul(row, c_row)])
        _emit_tile(builder, dtype, rows, vectors, add, a_tile, a_row, a_k, b, c_tile, c_row, n)

    full = tile_rows(dtype, vectors)
    n_full = builder.udiv(n_rows, ir.Constant(I64, full))
    with cgutils.for_range(builder, n_full) as loop:
        tile_at(builder.mul(loop.index, ir.Constant(I64, full)), full)
    row = builder.mul(n_full, ir.Constant(I64, full))
    for rows in (8, 4, 2, 1):
        if rows < full:
            size = ir.Constant(I64, rows)
            fits = builder.icmp_unsigned(">=", builder.sub(n_rows, row), size)
            with builder.if_then(fits):
                tile_at(row, rows)
            row = builder.add(row, builder.select(fits, size, ir.Constant(I64, 0)))
    builder.ret_void()
    return function


def _plain_panel(vectors):
    def panel(M, K, a, a0, a_row, a_k, b, b0, c, c0, c_row, add):
        width = vectors * LANES
        for r in range(M):
            row = c[c0 + r * c_row : c0 + r * c_row + width]
            if not add:
                row[:] = 0
            for k in range(K):
                row += a[a0 + r * a_row + k * a_k] * b[b0 + k * width : b0 + (k + 1) * width]

    return panel


def _make_panel(vectors):
    @twin_of(_plain_panel(vectors))
    def panel(typingctx, M, K, a, a0, a_row, a_k, b, b0, c, c0, c_row, add):
        def codegen(context, builder, sig, args):
            def index(i):
                return as_i64(builder, args[i], sig.args[i])

            def element(array, first):
                data = context.make_array(sig.args[array])(context, builder, args[array]).data
                return builder.gep(data, [index(first)])

            builder.call(
                _emit_panel(builder.module, a.dtype, vectors),
                [index(0), index(1), element(2, 3), index(4), index(5), element(6, 7), element(8, 9), index(10), args[11]],
            )
            return context.get_dummy_value()

        if not (a.dtype == b.dtype == c.dtype and a.dtype in LANES_OF):
            return None
        return types.void(M, K, a, a0, a_row, a_k, b, b0, c, c0, c_row, add), codegen

    return panel


_panel_4, _panel_2, _panel_1 = (_make_panel(vectors) for vectors in (4, 2, 1))


@kernel
def multiply(M, V, K, a, a0, a_row, a_k, b, b0, c, c0, c_row, c_vec, add):
    """C = A B, or C += A B where ``add`` (bool): A [M, K] strided, B [K, V vectors] in panels, C [M, V vectors]."""
    v = 0
    while v + 4 <= V:
        row = c_row if c_row > 0 else 4 * LANES
        _panel_4(M, K, a, a0, a_row, a_k, b, b0 + v * K * LANES, c, c0 + v * c_vec, row, add)
        v += 4
    if V - v >= 2:
        row = c_row if c_row > 0 else 2 * LANES
        _panel_2(M, K, a, a0, a_row, a_k, b, b0 + v * K * LANES, c, c0 + v * c_vec, row, add)
        v += 2
    if v < V:
        row = c_row if c_row > 0 else LANES
        _panel_1(M, K, a, a0, a_row, a_k, b, b0 + v * K * LANES, c, c0 + v * c_vec, row, add)


def panel_index(k, j, K: int, V: int):
    """Offset of element (k, j) of a [K, V*LANES] matrix in panels (``k``, ``j`` integer arrays; plain Python, for layouts)."""
    vector = np.asarray(j) // LANES
    start = vector - vector % 4
    width = np.where(V - start >= 4, 4, np.where((V - start >= 2) & (vector - start < 2), 2, 1))
    start = np.where((width == 1) & (vector - start == 2), start + 2, start)
    return start * LANES * K + np.asarray(k) * width * LANES + np.asarray(j) - start * LANES
