"""The whole network on a tile of four rows: layers and head, forward and backward."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from numba import cuda

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.head import head_backward, head_forward, head_input
from tsforecast.backends.cuda.jit import device, load
from tsforecast.backends.cuda.layer import make_layer
from tsforecast.backends.cuda.plan import D_H, H_SLOT, INPUTS, LAYERS, N_LAYER, N_NET, ROWS, UNITS, WIDTH, X_SLOT, H, X


@lru_cache
def make_network(padded: int, cell: str) -> SimpleNamespace:
    """Device functions for networks whose layers have up to ``padded`` units; every thread of the block calls them."""
    layers = make_layer(padded, cell)
    layer_forward, layer_backward = layers.forward, layers.backward
    derive_inputs, derive_weights = layers.derive_inputs, layers.derive_weights
    THREADS = 4 * padded

    @device
    def forward(params, table, work, shared, tid):
        """From the windows of the tile to its outputs. Begins and ends with a barrier."""
        top = N_NET + (load(table, LAYERS) - 1) * N_LAYER
        cuda.syncthreads()
        for layer in range(N_NET, top + 1, N_LAYER):
            layer_forward(params, table, layer, work, shared, tid)
        head_forward(params, table, top, padded, work, ROWS, tid, THREADS)
        cuda.syncthreads()

    @device
    def backward(params, table, work, shared, gradient, first, tid):
        """From the derivatives by the outputs to the gradient. Begins and ends with a barrier."""
        top = N_NET + (load(table, LAYERS) - 1) * N_LAYER
        cuda.syncthreads()
        head_backward(table, top, padded, work, gradient, first, ROWS, tid, THREADS)
        dh = head_input(params, table, top, work, tid & 3, tid >> 2)
        for above in range(load(table, LAYERS)):
            at = top - above * N_LAYER
            layer_backward(params, table, at, work, shared, dh, above > 0, gradient, first, tid)
            dh = ZERO
            units, width, inputs = load(table, at + UNITS), load(table, at + WIDTH), load(table, at + INPUTS)
            derive_weights(table, at, work, load(table, at + H), padded, units, H_SLOT, gradient, first, tid)
            derive_weights(table, at, work, load(table, at + X), width, inputs, X_SLOT, gradient, first, tid)
            if at > N_NET:
                derive_inputs(params, table, at, work, load(table, at - N_LAYER + D_H), padded, 0, tid)
            cuda.syncthreads()

    return SimpleNamespace(forward=forward, backward=backward, derive_inputs=derive_inputs)
