"""The whole network on a tile of four rows: runs and head, forward and backward."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from numba import cuda

from tsforecast.backends.cuda.head import head_backward, head_forward, head_input
from tsforecast.backends.cuda.jit import device, load, renewed
from tsforecast.backends.cuda.layer import make_layer
from tsforecast.backends.cuda.links import read_links, sum_links
from tsforecast.backends.cuda.noise import drop_units, dropout_factor
from tsforecast.backends.cuda.plan import (
    COPIES,
    D_H,
    D_X,
    H_SLOT,
    INPUTS,
    LIMIT,
    LINKS,
    N_LAYER,
    N_NET,
    ROWS,
    STEPS,
    SUMS,
    TOP,
    UNITS,
    WIDTH,
    X_SLOT,
    H,
    X,
)


@lru_cache
def make_network(padded: int, cell: str, is_chain: bool) -> SimpleNamespace:
    """Device functions for networks whose layers have up to ``padded`` units; every thread of the block calls them."""
    layers = make_layer(padded, cell)
    layer_forward, layer_backward = layers.forward, layers.backward
    derive_inputs, derive_weights = layers.derive_inputs, layers.derive_weights
    THREADS = 4 * padded

    @device
    def forward(
        params, table, work, shared,
        key, first_row,  # with dropout: as in noise.drop_units
        tid,
    ):  # fmt: skip
        """From the windows of the tile to its outputs. Begins and ends with a barrier."""
        cuda.syncthreads()
        for layer in range(N_NET, load(table, LINKS), N_LAYER):
            if not is_chain and load(table, layer + COPIES) != 0:
                read_links(table, layer, work, ROWS, tid, THREADS)
                cuda.syncthreads()
            layer_forward(params, table, layer, work, shared, tid)
            if not is_chain and load(table, LIMIT) != 0:
                drop_units(table, layer, key, first_row, work, ROWS, tid, THREADS)
                cuda.syncthreads()
        head_forward(params, table, work, ROWS, tid, THREADS)
        cuda.syncthreads()

    @device
    def backward(params, table, work, shared, gradient, first, key, first_row, tid):
        """From the derivatives by the outputs to the gradient. Begins and ends with a barrier."""
        top = load(table, TOP)
        cuda.syncthreads()
        head_backward(table, work, gradient, first, ROWS, tid, THREADS)
        for at in range(top, N_NET - 1, -N_LAYER):
            if not is_chain and load(table, at + SUMS) != 0:
                sum_links(table, at, key, first_row, work, ROWS, tid, THREADS)
                cuda.syncthreads()
            mine = renewed(tid)
            dh = head_input(params, table, at, work, mine & 3, mine >> 2)
            if not is_chain and load(table, LIMIT) != 0:
                dh *= dropout_factor(table, at, key, first_row + (mine & 3), load(table, STEPS) - 1, mine >> 2)
            layer_backward(params, table, at, work, shared, dh, load(table, at + D_H) >= 0, tid)
            units, width, inputs = load(table, at + UNITS), load(table, at + WIDTH), load(table, at + INPUTS)
            derive_weights(table, at, work, load(table, at + H), padded, units, H_SLOT, gradient, first, tid)
            derive_weights(table, at, work, load(table, at + X), width, inputs, X_SLOT, gradient, first, tid)
            to = load(table, at + D_X)
            if to >= 0:
                if not is_chain:  # x gives way
                    cuda.syncthreads()
                for k in range(0, padded if is_chain else width, padded):
                    derive_inputs(params, table, at, work, to, width, k, tid)
            cuda.syncthreads()

    @device
    def derive_windows(params, table, work, tid):
        """Derivatives by what the runs of the first layer read, in its place. Ends with a barrier."""
        for layer in range(N_NET, load(table, LINKS), N_LAYER):
            if load(table, layer + D_X) < 0:
                width = load(table, layer + WIDTH)
                for k in range(0, width, padded):
                    derive_inputs(params, table, layer, work, load(table, layer + X), width, k, tid)
        cuda.syncthreads()

    return SimpleNamespace(forward=forward, backward=backward, derive_windows=derive_windows)
