"""Which kernels a network takes, on how many blocks, and the memory that they work in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsforecast.backends.cuda import epoch, inference, wide_epoch, wide_gradient, wide_tile
from tsforecast.backends.cuda.gradient import count_blocks, tiles_of_a_part
from tsforecast.backends.cuda.launches import batches_at_once
from tsforecast.backends.cuda.memory import Store
from tsforecast.backends.cuda.plan import INFERENCE, ROWS, Plan, is_wide, make_plan, padded_size
from tsforecast.backends.cuda.tile import BLOCKS_PER_PROCESSOR
from tsforecast.exceptions import BackendUnavailableError
from tsforecast.spec import NetworkSpec

MOST_WIDE_ROWS = 256  # that forecasts take through a wide network at once


@dataclass(frozen=True)
class Setup:
    """Layout, kernels and memory for one call of the backend; arrays are on the device."""

    spec: NetworkSpec
    plan: Plan
    n_blocks: int  # of a launch that trains or forecasts
    n_tiles: int  # that go through the network at once
    work: object
    gradients: object
    totals: object

    @property
    def is_wide(self) -> bool:
        """Whether all blocks work on a batch together."""
        return is_wide(self.plan.padded)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return wide_tile.THREADS if self.is_wide else 4 * self.plan.padded

    @property
    def tile_rows(self) -> int:
        """Rows of a tile: of what a block takes through the network, or all blocks together."""
        return self.plan.rows

    @property
    def buffers(self) -> tuple:
        """The arguments of the kernel that trains from ``work`` to ``totals``."""
        parts = () if self.is_wide else (self.n_tiles, tiles_of_a_part(self.plan, self.n_tiles))
        return (self.work, self.plan.n_work, *parts, self.totals)

    def train(self):
        """The kernel that trains."""
        if self.is_wide:
            return wide_epoch.make_train_wide(self.spec.cell, self.plan.is_chain)
        return epoch.make_train(self.plan.padded, self.spec.cell, self.plan.is_chain, self.n_blocks > 1)

    def infer(self):
        """The kernel for forecasts and losses."""
        if self.is_wide:
            return wide_epoch.make_infer_wide(self.spec.cell, self.plan.is_chain)
        return inference.make_infer(self.plan.padded, self.spec.cell, self.plan.is_chain)

    def differentiate(self):
        """The kernel for gradients."""
        if self.is_wide:
            return wide_epoch.make_differentiate_wide(self.spec.cell, self.plan.is_chain)
        return inference.make_differentiate(self.plan.padded, self.spec.cell, self.plan.is_chain)

    def batches_at_once(self, batch_size: int) -> int:
        """Batches of one launch."""
        return batches_at_once(self.spec, batch_size, self.n_tiles)

    def tiles_at_once(self) -> int:
        """Tiles of one launch."""
        if self.is_wide:
            return self.batches_at_once(self.tile_rows)
        return self.batches_at_once(self.n_tiles * ROWS) * self.n_tiles


def plan_for(spec: NetworkSpec, dtype: np.dtype, purpose: int, n_rows: int) -> Plan:
    """Layout; ``n_rows`` is the size of a batch, or how many rows there are to forecast."""
    check_float32(dtype)
    if not is_wide(padded_size(spec)):
        return make_plan(spec, purpose)
    rows = min(n_rows, MOST_WIDE_ROWS) if purpose == INFERENCE else n_rows
    return make_plan(spec, purpose, -(-rows // ROWS) * ROWS)


def set_up(
    store: Store, spec: NetworkSpec, plan: Plan, purpose: int, n_rows: int, n_processors: int, n_gradients: int
) -> Setup:
    """Choose and allocate, when all else is on the device: tiles at once are as many as there is room left for."""
    if is_wide(plan.padded):
        n_blocks = n_tiles = n_processors * wide_epoch.BLOCKS_PER_PROCESSOR
        scratch = wide_gradient.scratch_size(plan) if purpose != INFERENCE else 0
        gradients = store.room("gradients", n_gradients + scratch)
        work = store.room_for_batch(plan, min(n_rows, plan.rows))
    else:
        most = n_processors * (BLOCKS_PER_PROCESSOR[plan.padded] if purpose == INFERENCE else 1)
        n_tiles, work, gradients = store.room_for_tiles(plan, min(-(-n_rows // ROWS), most), n_gradients)
        n_blocks = n_tiles if purpose == INFERENCE else count_blocks(plan, n_tiles, n_processors)
    return Setup(spec, plan, n_blocks, n_tiles, work, gradients, store.room("totals", 3 * n_blocks))


def check_float32(dtype: np.dtype) -> None:
    """Raise ``BackendUnavailableError`` for any other dtype."""
    if dtype != np.float32:
        raise BackendUnavailableError(
            f"device='cuda' computes in float32, not in {dtype}; set dtype='float32' or use device='cpu'"
        )
