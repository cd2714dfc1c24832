"""The whole network on a tile of four rows: runs and head, forward and backward."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from numba import cuda, int32

from tsforecast.backends.cuda.head import head_forward, head_input
from tsforecast.backends.cuda.jit import device, load, renewed, thread
from tsforecast.backends.cuda.layer import make_layer
from tsforecast.backends.cuda.links import read_links, sum_links
from tsforecast.backends.cuda.noise import NO_KEY, drop_units, dropout_factor
from tsforecast.backends.cuda.plan import (
    COPIES,
    D_H,
    D_X,
    LIMIT,
    LINKS,
    N_LAYER,
    N_NET,
    ROWS,
    STEPS,
    SUMS,
    TOP,
    WIDTH,
)
from tsforecast.backends.cuda.state import FIRST_ROW, RUN, put


@lru_cache
def make_network(padded: int, cell: str, is_chain: bool) -> SimpleNamespace:
    """Device functions for networks whose layers have up to ``padded`` units; every thread of the block calls them."""
    layers = make_layer(padded, cell)
    layer_forward, layer_backward, derive_inputs = layers.forward, layers.backward, layers.derive_inputs
    THREADS = 4 * padded

    @device
    def forward(
        params, table, work, shared,
        state,  # see there
        key,  # [1] uint64, shared: of the step, which only dropout reads
    ):  # fmt: skip
        """From the windows of the tile to its outputs. Begins and ends with a barrier."""
        put(state, RUN, N_NET)
        while load(state, RUN) < load(table, LINKS):
            if not is_chain and load(table, load(state, RUN) + COPIES) != 0:
                read_links(table, load(state, RUN), work, ROWS, thread(), THREADS)
                cuda.syncthreads()
            layer_forward(params, table, load(state, RUN), work, shared)
            if not is_chain and load(table, LIMIT) != 0:
                first_row = load(state, FIRST_ROW)
                drop_units(table, load(state, RUN), load(key, 0), first_row, work, ROWS, thread(), THREADS)
            put(state, RUN, load(state, RUN) + N_LAYER)
        head_forward(params, table, work, ROWS, thread(), THREADS)
        cuda.syncthreads()

    @device
    def backward(params, table, work, shared, state, key):
        """From the derivatives by the outputs to those by the gates of all runs, and by what is asked for of their x.

        Begins and ends with a barrier.
        """
        put(state, RUN, load(table, TOP))
        while load(state, RUN) >= N_NET:
            at, mine, of_step, first_row = load(state, RUN), thread(), NO_KEY, int32(0)
            if not is_chain and load(table, LIMIT) != 0:
                of_step, first_row = load(key, 0), load(state, FIRST_ROW)
            if not is_chain and load(table, at + SUMS) != 0:
                sum_links(table, at, of_step, first_row, work, ROWS, mine, THREADS)
                cuda.syncthreads()
            dh = head_input(params, table, at, work, mine & 3, mine >> 2)
            if not is_chain and load(table, LIMIT) != 0:
                last = load(table, STEPS) - 1
                dh *= dropout_factor(table, at, of_step, first_row + (mine & 3), last, mine >> 2)
            layer_backward(params, table, load(state, RUN), work, shared, dh, load(table, at + D_H) >= 0)
            if load(table, load(state, RUN) + D_X) >= 0:
                k = int32(0)
                while k < load(table, renewed(load(state, RUN) + WIDTH)):
                    derive_inputs(params, table, load(state, RUN), work, k)
                    k = int32(k + padded)
            put(state, RUN, load(state, RUN) - N_LAYER)

    return SimpleNamespace(forward=forward, backward=backward)
