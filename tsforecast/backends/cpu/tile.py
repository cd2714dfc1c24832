"""The one multiply: C (+)= A B on register tiles.

A tile keeps R rows x V vectors of C in registers, walks once over k, and does R*V fused multiply-adds a step:

    for k in range(K):  for r in range(R):  for v in range(V):  acc[r][v] = fma(A[r, k], B[k, v], acc[r][v])

Every element of C is one serial chain over k, from C (or zero) upwards, so its bits depend on neither the tile's
shape, the number of lanes, nor the order of tiles: splitting k or rows into blocks changes nothing.

Matrices live in flat arrays. A is strided: element (r, k) at ``a0 + r*a_row + k*a_k``. B and C are in *panels*:
columns are cut into vectors of LANES, and vectors into panels of 4 and one of the rest (``panel_index``); a panel of B
is [K, V*LANES], contiguous (``b_row = 0``), or part of a wider one whose rows are ``b_row`` apart. C's panel that
begins at vector v has its row r at ``c0 + v*c_vec + r*c_row``: ``c_vec = LANES``, ``c_row = N`` is the ordinary
row-major layout; ``c_vec = M*LANES``, ``c_row = 0`` (a panel's own width) the
panel layout again, so that a product can be the next one's B.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from tsforecast.backends.cpu.jit import twin_of
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


def _opaque(builder, pointer):
    """The same pointer, of which LLVM knows nothing.

    Else it makes each row's address of the one before by an addition, and a tile of many rows and one vector waits for
    that chain.
    """
    function_type = ir.FunctionType(pointer.type, [pointer.type])
    return builder.call(ir.InlineAsm(function_type, "", "=r,0"), [pointer])


def _emit_tile(builder, dtype, rows, vectors, add, a, a_row, a_k, b, b_row, c, c_row, n):
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
    places = [
        [builder.add(builder.mul(c_row, fixed(r)), fixed(v * LANES)) for v in range(vectors)] for r in range(rows)
    ]
    tile = [(r, v) for r in range(rows) for v in range(vectors)]
    apart = 3 if vectors == 1 else rows
    with builder.if_else(add) as (then, otherwise):
        with then:
            for r, v in tile:
                builder.store(load_lanes(c, places[r][v]), slots[r][v])
        with otherwise:
            for r, v in tile:
                builder.store(ir.Constant(vector, [0.0] * LANES), slots[r][v])
    with cgutils.for_range(builder, n) as loop:
        a_here = builder.gep(a, [builder.mul(loop.index, a_k)])
        b_at = builder.mul(loop.index, b_row)
        held = [load_lanes(b, builder.add(b_at, fixed(v * LANES))) for v in range(vectors)]
        for r in range(rows):
            if r % apart == 0:
                near = _opaque(builder, builder.gep(a_here, [builder.mul(a_row, fixed(r))])) if r else a_here
            scalar = broadcast(builder, builder.load(builder.gep(near, [builder.mul(a_row, fixed(r % apart))])), dtype)
            for v in range(vectors):
                builder.store(emit_fma(builder, dtype, scalar, held[v], builder.load(slots[r][v])), slots[r][v])
    for r, v in tile:
        builder.store(builder.load(slots[r][v]), lanes_at(c, places[r][v])).align = align


def shared_function(module, name, arguments):
    """Get the function of that name and None, or a new one and the builder of its body; one copy a linked module."""
    function = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    if function.blocks:
        return function, None
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _emit_panel(module, dtype, vectors):
    """Get or build the LLVM function for one panel: full tiles, then the rest of the rows in tiles of 8, 4, 2, 1."""
    pointer = vector_type(dtype).element.as_pointer()
    arguments = [I64, I64, pointer, I64, I64, pointer, I64, pointer, I64, ir.IntType(1)]
    function, builder = shared_function(module, f"tsforecast_panel_{dtype}_{vectors}", arguments)
    if builder is None:
        return function
    n_rows, n, a, a_row, a_k, b, b_row, c, c_row, add = function.args

    def tile_at(row, rows):
        a_tile, c_tile = builder.gep(a, [builder.mul(row, a_row)]), builder.gep(c, [builder.mul(row, c_row)])
        _emit_tile(builder, dtype, rows, vectors, add, a_tile, a_row, a_k, b, b_row, c_tile, c_row, n)

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


def _emit_multiply(module, dtype):
    """Get or build the LLVM function that walks over the panels of C."""
    pointer = vector_type(dtype).element.as_pointer()
    # M V K a a_row a_k b b_row c c_row c_vec add
    arguments = [I64, I64, I64, pointer, I64, I64, pointer, I64, pointer, I64, I64, ir.IntType(1)]
    function, builder = shared_function(module, f"tsforecast_multiply_{dtype}", arguments)
    if builder is None:
        return function
    n_rows, n_vectors, n, a, a_row, a_k, b, b_row, c, c_row, c_vec, add = function.args

    def or_own_width(stride, width):
        is_given = builder.icmp_signed("!=", stride, ir.Constant(I64, 0))
        return builder.select(is_given, stride, ir.Constant(I64, width * LANES))

    def panel_at(vector, width):
        b_panel = builder.gep(b, [builder.mul(vector, builder.mul(n, ir.Constant(I64, LANES)))])
        c_panel = builder.gep(c, [builder.mul(vector, c_vec)])
        strides = or_own_width(b_row, width), or_own_width(c_row, width)
        panel = _emit_panel(module, dtype, width)
        builder.call(panel, [n_rows, n, a, a_row, a_k, b_panel, strides[0], c_panel, strides[1], add])

    n_full = builder.lshr(n_vectors, ir.Constant(I64, 2))
    with cgutils.for_range(builder, n_full) as loop:
        panel_at(builder.mul(loop.index, ir.Constant(I64, 4)), 4)
    vector = builder.mul(n_full, ir.Constant(I64, 4))
    rest = builder.sub(n_vectors, vector)
    for width in (3, 2, 1):
        with builder.if_then(builder.icmp_unsigned("==", rest, ir.Constant(I64, width))):
            panel_at(vector, width)
    builder.ret_void()
    return function


def _plain_multiply(M, V, K, a, a0, a_row, a_k, b, b0, b_row, c, c0, c_row, c_vec, add):
    v = 0
    while v < V:
        width = min(4, V - v) * LANES
        places = b0 + v * K * LANES + np.arange(K)[:, None] * (b_row or width) + np.arange(width)
        panel = b[places]
        for r in range(M):
            row = c[c0 + v * c_vec + r * (c_row or width) :][:width]
            products = (a[a0 + r * a_row + np.arange(K) * a_k, None] * panel).sum(axis=0)
            row[:] = row + products if add else products
        v += width // LANES


@twin_of(_plain_multiply)
def multiply(typingctx, M, V, K, a, a0, a_row, a_k, b, b0, b_row, c, c0, c_row, c_vec, add):
    """C = A B, or C += A B where ``add`` (bool): A [M, K] strided, B [K, V vectors] in panels, C [M, V vectors]."""

    def codegen(context, builder, sig, args):
        def index(i):
            return as_i64(builder, context.cast(builder, args[i], sig.args[i], types.int64), types.int64)

        def element(array, first):
            data = context.make_array(sig.args[array])(context, builder, args[array]).data
            return builder.gep(data, [index(first)])

        add = context.cast(builder, args[14], sig.args[14], types.boolean)
        if add.type.width > 1:
            add = builder.trunc(add, ir.IntType(1))
        builder.call(
            _emit_multiply(builder.module, a.dtype),
            [index(0), index(1), index(2), element(3, 4), index(5), index(6), element(7, 8), index(9)]
            + [element(10, 11), index(12), index(13), add],
        )
        return context.get_dummy_value()

    if not (a.dtype == b.dtype == c.dtype and a.dtype in LANES_OF):
        return None
    return types.void(M, V, K, a, a0, a_row, a_k, b, b0, b_row, c, c0, c_row, c_vec, add), codegen


def whole_vectors(n: int) -> int:
    """``n`` rounded up to a multiple of the lanes."""
    return -(-n // LANES) * LANES


def panel_index(k, j, K: int, V: int, most: int = 4):
    """Offset of element (k, j) of a [K, V*LANES] matrix in panels of ``most`` vectors and one of the rest, for layouts.

    ``k`` and ``j`` are integer arrays.
    """
    vector = np.asarray(j) // LANES
    start = vector - vector % most
    width = np.minimum(most, V - start)
    return start * LANES * K + np.asarray(k) * width * LANES + np.asarray(j) - start * LANES
