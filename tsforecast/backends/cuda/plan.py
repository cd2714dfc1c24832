"""Where everything lies: sizes and places of one network, as a table of int32 that kernels read.

Parameters, gradients and moments keep the public flat layout (``NetworkSpec.blocks``) on the device, so nothing is
packed. What a block of threads needs for its four rows lies in its own part of one work buffer, here from place 0 on.
Layers too wide for one block are worked on by all blocks together (``wide``), with the rows of a batch for the four.
Letters: T steps, F features, K outputs, Q quantiles, Hp units padded to a size that there are kernels for.

====================  =============================  ===========================================================
array of a layer      shape                          holds
====================  =============================  ===========================================================
x                     [T,4,width]                    what the layer reads; of the first one: windows, then zeros
h                     [T+1,4,Hp]                     its states, the one before the first step at 0
carried               [T+1,4,Hp]                     what its units carry from step to step beside h (lstm: c)
gates                 [T,4,Hp,4]                     forward: the gates; backward: the derivatives before them
dh                    [T,4,Hp]                       derivatives by h from the layer above
====================  =============================  ===========================================================
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tsforecast.backends.cuda import cells
from tsforecast.exceptions import BackendUnavailableError
from tsforecast.spec import CELLS, WINDOW_NORMS, NetworkSpec

ROWS = 4  # of a tile: what a block of threads works on at once
SLOTS = 4  # gate columns that a kernel has for a unit
CHUNK = 16  # inputs that a thread takes at once: 4 of them itself, for the 4 slots of its unit
# Chunks of the recurrent weights that stay in registers, by padded size; the others are read in every step.
REGISTER_CHUNKS = {16: 1, 32: 2, 48: 3, 64: 4, 96: 2, 128: 2}
PADDED_SIZES = (16, 32, 48, 64, 96, 128)
WIDEST_OF_A_BLOCK, WIDEST = 128, 1024
# The table: fields of the network, then fields of every layer.
STEPS, FEATURES, OUTPUTS, QUANTILES, NORM, SEASON, LAYERS = 0, 1, 2, 3, 4, 5, 6
HEAD_W, HEAD_B, SKIP_W, PARAMS, OUT, D_OUT, STREAMED, CAPACITY, PADDED, D_LAST, D_CARRIED, D_PEEPHOLES, N_NET = (
    7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
)  # fmt: skip
UNITS, WIDTH, INPUTS, X, H, CARRIED, GATES, D_H, COLUMNS, X_SLOT, H_SLOT, B_SLOT, C_SLOT, N_LAYER = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17, 21, 25,
)  # fmt: skip
# What a work buffer is for.
INFERENCE, TRAINING = 0, 1


class Plan(NamedTuple):
    """Layout of one network."""

    table: np.ndarray  # [N_NET + layers * N_LAYER] int32
    padded: int  # Hp
    rows: int  # of a tile
    n_work: int  # float32 numbers of a block's work buffer
    is_weight: np.ndarray  # [P] int8, 0 for biases


class _Heap:
    """Hands out consecutive ranges that begin at multiples of 16 bytes."""

    def __init__(self):
        self.size = 0

    def take(self, n: int) -> int:
        start = self.size
        self.size += -(-n // 4) * 4
        return start


def padded_size(spec: NetworkSpec) -> int:
    """Units for which kernels are compiled; an error where there are none."""
    if spec.cell not in cells.CELLS:
        raise BackendUnavailableError(
            f"device='cuda' has no kernels for the cell {spec.cell!r}, only for {', '.join(cells.CELLS)}; "
            "device='cpu' or the reference backend may have them"
        )
    if not spec.is_plain_stack:
        raise BackendUnavailableError(
            "device='cuda' has no kernels for bidirectional, residual or dilated layers, learned or carried states, "
            "dropout and zoneout, attention, recurrent decoders and known-future inputs; device='cpu' and the "
            "reference backend have them"
        )
    widest = max(spec.hidden_sizes)
    if widest > WIDEST:
        raise BackendUnavailableError(
            f"device='cuda' has kernels for layers of up to {WIDEST} units, and hidden_layer_sizes asks for {widest}; "
            "use device='cpu' or smaller layers"
        )
    return next((size for size in PADDED_SIZES if size >= widest), -(-widest // CHUNK) * CHUNK)


def is_wide(padded: int) -> bool:
    """Whether layers of this size are worked on by all blocks together (``wide``)."""
    return padded > WIDEST_OF_A_BLOCK


@lru_cache(maxsize=64)
def make_plan(spec: NetworkSpec, purpose: int, rows: int = ROWS) -> Plan:
    """Lay out a network for ``INFERENCE`` or ``TRAINING`` of so many rows at once."""
    padded, T = padded_size(spec), spec.n_timesteps
    places = {block.name: block.offset for block in spec.blocks}
    slots, n_gates = cells.CELLS[spec.cell], CELLS[spec.cell].n_gates
    work = _Heap()
    net = np.full(N_NET, -1, dtype=np.int64)
    width = -(-spec.n_features // CHUNK) * CHUNK
    x = work.take(T * rows * width)
    layers = []
    for i, (below, units) in enumerate(pairwise((spec.n_features, *spec.hidden_sizes))):
        layer = np.full(N_LAYER, -1, dtype=np.int64)
        n_columns = n_gates * units
        layer[[UNITS, WIDTH, INPUTS, X, COLUMNS]] = units, width, below, x, n_columns
        for first, name, columns in (
            (X_SLOT, "w_x", slots.x), (H_SLOT, "w_h", slots.h), (B_SLOT, "b", slots.b), (C_SLOT, "w_c", slots.c),
        ):  # fmt: skip
            for slot, column in enumerate(columns):
                if column >= 0:
                    layer[first + slot] = places[f"layers.{i}.{name}"] + column * units
        if purpose == TRAINING or i == 0:
            layer[H] = work.take((T + 1) * rows * padded)
            layer[CARRIED] = work.take((T + 1) * rows * padded)
            layer[GATES] = work.take(T * rows * padded * SLOTS)
        else:  # forecasts keep no layer but the last one
            layer[[H, CARRIED, GATES]] = layers[0][[H, CARRIED, GATES]]
        if purpose == TRAINING:
            layer[D_H] = work.take(T * rows * padded)
        layers.append(layer)
        width, x = padded, layer[H] + rows * padded
    net[[STEPS, FEATURES, OUTPUTS, QUANTILES]] = T, spec.n_features, spec.n_outputs, spec.n_quantiles
    net[[NORM, SEASON, LAYERS]] = WINDOW_NORMS[spec.window_norm], spec.season_length, len(layers)
    net[[HEAD_W, HEAD_B, SKIP_W]] = places["head.w"], places["head.b"], places.get("skip.w", -1)
    net[PARAMS] = spec.n_params
    net[OUT], net[D_OUT] = work.take(rows * spec.head_size), work.take(rows * spec.head_size)
    net[[CAPACITY, PADDED]] = rows, padded
    if is_wide(padded):
        net[D_LAST], net[D_CARRIED] = work.take(rows * padded), work.take(rows * padded)
        if slots.has_peepholes:
            net[D_PEEPHOLES] = work.take(rows * padded * SLOTS)
    else:
        net[STREAMED] = work.take(max(0, padded // CHUNK - REGISTER_CHUNKS[padded]) * CHUNK * SLOTS * padded)
    table = np.concatenate([net, *layers])
    if max(work.size, spec.n_params) >= 2**31:
        raise BackendUnavailableError("the network or its windows are too large for device='cuda'; use device='cpu'")
    return Plan(table.astype(np.int32), padded, rows, work.size, spec.is_weight().astype(np.int8))
