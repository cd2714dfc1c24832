"""Sums along rows in unit blocks, with the same bits for any number of lanes: what layer normalisation is built from.

Letters: L lanes, P unit blocks, G vectors a block, H units, N = G*H numbers a row. Vector ``k`` of block ``p`` of side
``j`` of row ``b`` begins at ``b*row + p*block + j*side + k*L``; the sides of a row are summed each by itself.

A sum along a row goes across lanes, so its order must not come from their number: what the blocks add is summed in
CHAINS chains, unit ``u`` in chain ``u % CHAINS``, then the upper half of the chains is added to the lower one until one
is left. Sixteen lanes hold all chains of a sum in one vector; eight hold them in two, one of the even and one of the
odd blocks. Up to ROWS rows are taken at a time: they stay in the first cache from pass to pass, and the last additions
of all their sums share vectors, as do the divisions that follow, so that no row waits for its own.
"""

from __future__ import annotations

from functools import reduce

from llvmlite import ir
from numba.core import cgutils

from tsforecast.backends.cpu.lanes import I32, I64, LANES, emit_first_lanes, vector_type

ROWS, CHAINS = 16, 16
TOGETHER = 4  # rows side by side
VECTORS = CHAINS // LANES  # of chains a sum


class Rows:
    """Emits passes along rows of ``n_gates`` vectors a block and ``n_sides`` sides; the rest are values."""

    def __init__(self, builder, dtype, n_gates, n_sides, n_rows, n_blocks, n_units, row, block, side):
        self.builder, self.dtype, self.gates, self.sides = builder, dtype, range(n_gates), range(n_sides)
        self.n_rows, self.n_blocks, self.n_units = n_rows, n_blocks, n_units
        self.row, self.block, self.side = row, block, side
        self.vector = vector_type(dtype)
        self.zero = ir.Constant(self.vector, [0.0] * LANES)

    def offset(self, *terms):
        """Sum of integers, values, and products of two of them."""
        multiply, add = self.builder.mul, self.builder.add

        def value(term):
            if isinstance(term, tuple):
                return reduce(multiply, map(value, term))
            return I64(term) if isinstance(term, int) else term

        return reduce(add, map(value, terms))

    def number(self, pointer, *offset):
        """One number."""
        return self.builder.load(self.builder.gep(pointer, [self.offset(*offset)]))

    def load(self, pointer, *offset):
        """One vector."""
        place = self.builder.gep(pointer, [self.offset(*offset)])
        value = self.builder.load(self.builder.bitcast(place, self.vector.as_pointer()))
        value.align = self.dtype.bitwidth // 8
        return value

    def store(self, value, pointer, *offset):
        """A vector of any length, or a number."""
        place = self.builder.gep(pointer, [self.offset(*offset)])
        place = self.builder.bitcast(place, value.type.as_pointer())
        self.builder.store(value, place).align = self.dtype.bitwidth // 8

    def store_all(self, values, pointer):
        """Vectors one behind the other."""
        for i, value in enumerate(values):
            self.store(value, pointer, i * value.type.count)

    def load_gates(self, pointer, b, p, j=0):
        """All vectors of a block of one side."""
        place = self.builder.gep(pointer, [self.offset((b, self.row), (p, self.block), (j, self.side))])
        return [self.load(place, k * LANES) for k in self.gates]

    def units_only(self, p, value):
        """Zero in the lanes of block ``p`` beyond the last unit."""
        return emit_first_lanes(self.builder, value, self.offset(self.n_units, (p, -LANES)))

    def splat(self, number, n=LANES):
        """A vector of ``n`` times the same."""
        one = self.builder.insert_element(ir.Constant(ir.VectorType(number.type, n), ir.Undefined), number, I32(0))
        return self._shuffled([one], [0] * n)

    def room(self, n):
        """Room for ``n`` numbers on the stack."""
        return cgutils.alloca_once(self.builder, self.vector.element, size=n)

    def slots(self, values):
        """Variables that begin with these vectors."""
        found = [cgutils.alloca_once(self.builder, self.vector) for _ in values]
        for slot, value in zip(found, values, strict=True):
            self.builder.store(value, slot)
        return found

    def all_rows(self):
        """Loop over the rows."""
        return cgutils.for_range(self.builder, self.n_rows)

    def blocks(self, first=0, step=1):
        """Loop over every ``step``-th block."""
        return cgutils.for_range_slice(self.builder, I64(first), self.n_blocks, I64(step))

    def chains(self, terms):
        """The chains of one sum a side for every row, to which block ``p`` adds ``terms(b, p)``."""
        builder, n_sides, last = self.builder, len(self.sides), self.offset(self.n_rows, -1)
        room = self.room(ROWS * n_sides * CHAINS)
        with cgutils.for_range_slice(builder, I64(0), self.n_rows, I64(TOGETHER)) as (first, _):
            rows = [self.least(self.offset(first, i), last) for i in range(TOGETHER)]
            for part in range(VECTORS):
                slots = [self.slots([self.zero] * n_sides) for _ in rows]
                with self.blocks(part, VECTORS) as (p, _):
                    for b, totals in zip(rows, slots, strict=True):
                        for slot, term in zip(totals, terms(b, p), strict=True):
                            builder.store(builder.fadd(builder.load(slot), term), slot)
                for b, totals in zip(rows, slots, strict=True):
                    for j, slot in enumerate(totals):
                        self.store(builder.load(slot), room, (b, n_sides * CHAINS), j * CHAINS + part * LANES)
        return room

    def least(self, a, b):
        """The smaller one of two offsets."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def means(self, chains, n_sums):
        """Vectors of the means over N numbers of ``n_sums`` sums a row; behind the last row they repeat that."""
        last, sums = self.offset(self.n_rows, -1), []
        for b in range(ROWS):
            start = (self.least(I64(b), last), n_sums * CHAINS)
            sums += [(start, i * CHAINS) for i in range(n_sums)]
        n = self.builder.uitofp(self.offset((self.n_units, len(self.gates))), self.vector.element)
        totals = [self._total(chains, sums[i : i + CHAINS])[0] for i in range(0, len(sums), CHAINS)]
        return [self.builder.fdiv(total, self.splat(n, CHAINS)) for total in totals]

    def _total(self, chains, sums):
        """Totals of 2^m sums, and how many lanes are still to be added up for each."""
        if len(sums) == 1:
            parts = [self.load(chains, *sums[0], part * LANES) for part in range(VECTORS)]
            return reduce(self.builder.fadd, parts), LANES
        (a, width), (b, _) = (self._total(chains, half) for half in (sums[: len(sums) // 2], sums[len(sums) // 2 :]))
        n, width = 2 * a.type.count, width // 2
        if width == 0:
            return self._shuffled([a, b], list(range(n))), 1
        starts = range(0, n, 2 * width)
        lower, upper = ([k + j for k in starts for j in range(s, s + width)] for s in (0, width))
        return self.builder.fadd(self._shuffled([a, b], lower), self._shuffled([a, b], upper)), width

    def _shuffled(self, vectors, lanes):
        """Lanes of one vector or of two, counted through."""
        return self.builder.shuffle_vector(vectors[0], vectors[-1], ir.Constant(ir.VectorType(I32, len(lanes)), lanes))
