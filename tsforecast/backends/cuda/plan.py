"""Where everything lies: sizes and places of one network, as a table of int32 that kernels read.

Parameters, gradients and moments keep the public flat layout (``NetworkSpec.blocks``) on the device, so nothing is
packed. What a block of threads needs for its four rows lies in its own part of one work buffer, here from place 0 on.
Layers too wide for one block are worked on by all blocks together (``wide``), with the rows of a batch for the four.
The table has the network's fields, those of every run (``topology``; "layer" in the kernels, by its place in the
table), and those of every link: first what runs read, then what the head reads.
Letters: T steps, F features, K outputs, Q quantiles, Hp units padded to a size that there are kernels for.

====================  =============================  ===========================================================
array of a run        shape                          holds, by the run's own steps
====================  =============================  ===========================================================
x                     [T,4,width]                    what the run reads; of the first one: windows, then zeros
h                     [T+1,4,Hp]                     its states, the one before the first step at 0
carried               [T+1,4,Hp]                     what its units carry from step to step beside h (lstm: c)
gates                 [T,4,Hp,4]                     forward: the gates; backward: the derivatives before them
dh                    [T,4,Hp]                       derivatives by h from the runs that read it
====================  =============================  ===========================================================

In a chain, where each run reads the one below alone and as it is, x is that one's h, and the derivatives by x are that
one's dh. Elsewhere a run has an array of its own for them, and those of two directions or with residual connections
copy x from the runs below (``links``). With dropout, a run has a copy of h with units silenced, which others read
instead (``noise``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tsforecast.backends.cuda import cells
from tsforecast.backends.reference.noise import threshold
from tsforecast.cells import CELLS
from tsforecast.exceptions import BackendUnavailableError
from tsforecast.spec import WINDOW_NORMS, NetworkSpec

ROWS = 4  # of a tile: what a block of threads works on at once
SLOTS = 4  # gate columns that a kernel has for a unit
CHUNK = 16  # inputs that a thread takes at once: 4 of them itself, for the 4 slots of its unit
# Chunks of the recurrent weights that stay in registers, by padded size; the others are read in every step.
REGISTER_CHUNKS = {16: 1, 32: 2, 48: 3, 64: 4, 96: 2, 128: 2}
PADDED_SIZES = (16, 32, 48, 64, 96, 128)
WIDEST_OF_A_BLOCK, WIDEST = 128, 1024
# The table: fields of the network, then of every run, then of every link. Places of runs and links are those in it.
# LIMIT: dropout silences a unit whose bits are below, 0: none; TOP: the last run; LINKS, HEAD_LINKS, END: the first
# link, the first that the head reads, behind the last.
(
    STEPS, FEATURES, OUTPUTS, QUANTILES, NORM, SEASON, HEAD_W, HEAD_B, SKIP_W, PARAMS, OUT, D_OUT, STREAMED, CAPACITY,
    PADDED, D_LAST, D_CARRIED, D_PEEPHOLES, LIMIT, TOP, LINKS, HEAD_LINKS, END, N_NET,
) = range(24)  # fmt: skip
UNITS, WIDTH, INPUTS, X, H, CARRIED, GATES, D_H, COLUMNS, X_SLOT, H_SLOT, B_SLOT, C_SLOT = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17, 21,
)  # fmt: skip
# UP: what a run passes upwards, from its first step on. D_X: where derivatives by what it reads go, -1: nobody asks.
# COPIES, SUMS: 1 where x, or dh, is put together from links.
UP, D_X, COPIES, SUMS, N_LAYER = 25, 26, 27, 28, 29
# A link: places of the run that is read and of the one that reads; the rows that are read in the work buffer, how far
# apart they are and how many numbers of them; the column that the first becomes; whether one of the runs is reverse;
# whether another link into the same column came before.
SOURCE, TARGET, FROM, STRIDE, SIZE, COLUMN, TURNED, ADDS, N_LINK = range(9)
WINDOW, HEAD = -1, -1  # as the source, and as the target of a link
# What a work buffer is for; GRADIENT has the derivatives by windows, too.
INFERENCE, TRAINING, GRADIENT = 0, 1, 2


class Plan(NamedTuple):
    """Layout of one network."""

    table: np.ndarray  # [N_NET + runs * N_LAYER + links * N_LINK] int32
    padded: int  # Hp
    is_chain: bool  # see above
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
            "device='cpu' or device='reference' may have them"
        )
    _check_parts(spec)
    widest = max(spec.hidden_sizes)
    if widest > WIDEST:
        raise BackendUnavailableError(
            f"device='cuda' has kernels for layers of up to {WIDEST} units, and hidden_layer_sizes asks for {widest}; "
            "use device='cpu' or smaller layers"
        )
    return next((size for size in PADDED_SIZES if size >= widest), -(-widest // CHUNK) * CHUNK)


def _check_parts(spec: NetworkSpec) -> None:
    """Refuse by name what there are no kernels for."""
    parts = {
        "dilated layers": max(spec.dilations, default=1) > 1,
        "learned first states": spec.learned_state,
        "states carried from window to window": spec.stateful,
        "recurrent dropout": spec.recurrent_dropout > 0.0,
        "zoneout": spec.zoneout > 0.0,
        "attention": spec.attention != "none",
        "recurrent decoders": spec.decoder != "dense",
        "known-future inputs": spec.n_future > 0,
    }
    lacking = [part for part, is_asked_for in parts.items() if is_asked_for]
    if lacking:
        raise BackendUnavailableError(
            f"device='cuda' has no kernels for {' and '.join(lacking)}; device='cpu' and device='reference' have them"
        )


def is_wide(padded: int) -> bool:
    """Whether layers of this size are worked on by all blocks together (``wide``)."""
    return padded > WIDEST_OF_A_BLOCK


@lru_cache(maxsize=64)
def make_plan(spec: NetworkSpec, purpose: int, rows: int = ROWS) -> Plan:
    """Lay out a network for ``INFERENCE``, ``TRAINING`` or ``GRADIENT`` of so many rows at once."""
    padded, runs = padded_size(spec), spec.topology.runs
    places = {block.name: block.offset for block in spec.blocks}
    work = _Heap()
    net = np.full(N_NET, -1, dtype=np.int64)
    limit = threshold(spec.dropout) if purpose == TRAINING else 0
    is_chain = _is_stack(spec) and limit == 0
    layers = _runs(spec, purpose, rows, padded, limit, work)
    links = _links(spec, padded, layers)
    n_read = sum(len(run.links) for run in runs)
    net[[STEPS, FEATURES, OUTPUTS, QUANTILES]] = spec.n_timesteps, spec.n_features, spec.n_outputs, spec.n_quantiles
    net[[NORM, SEASON, TOP]] = WINDOW_NORMS[spec.window_norm], spec.season_length, _place(len(runs) - 1)
    net[[LINKS, HEAD_LINKS, END]] = _place(len(runs)) + N_LINK * np.array([0, n_read, len(links)])
    net[[HEAD_W, HEAD_B, SKIP_W]] = places["head.w"], places["head.b"], places.get("skip.w", -1)
    net[[PARAMS, LIMIT]] = spec.n_params, limit
    net[OUT], net[D_OUT] = work.take(rows * spec.head_size), work.take(rows * spec.head_size)
    net[[CAPACITY, PADDED]] = rows, padded
    if is_wide(padded):
        net[D_LAST], net[D_CARRIED] = work.take(rows * padded), work.take(rows * padded)
        if cells.CELLS[spec.cell].has_peepholes:
            net[D_PEEPHOLES] = work.take(rows * padded * SLOTS)
    else:
        net[STREAMED] = work.take(max(0, padded // CHUNK - REGISTER_CHUNKS[padded]) * CHUNK * SLOTS * padded)
    table = np.concatenate([net, *layers, *links])
    if max(work.size, spec.n_params) >= 2**31:
        raise BackendUnavailableError("the network or its windows are too large for device='cuda'; use device='cpu'")
    return Plan(
        table.astype(np.uint32).view(np.int32), padded, is_chain, rows, work.size, spec.is_weight().astype(np.int8)
    )


def _place(i: int) -> int:
    """Where run ``i`` stands in the table; behind the last one begin the links."""
    return N_NET + i * N_LAYER


def _is_stack(spec: NetworkSpec) -> bool:
    """Whether each run reads the one below alone."""
    return spec.bidirectional == "none" and not spec.residual


def _runs(spec: NetworkSpec, purpose: int, rows: int, padded: int, limit: int, work: _Heap) -> list[np.ndarray]:
    """Fields of every run."""
    is_stack = _is_stack(spec)
    T, runs, layers = spec.n_timesteps, spec.topology.runs, []
    places = {block.name: block.offset for block in spec.blocks}
    slots, n_gates = cells.CELLS[spec.cell], CELLS[spec.cell].n_gates
    x, width = work.take(T * rows * _whole_chunks(spec.n_features)), _whole_chunks(spec.n_features)
    for i, run in enumerate(runs):
        layer = np.full(N_LAYER, -1, dtype=np.int64)
        layer[COPIES] = i > 0 and not is_stack
        if layer[COPIES]:
            width = _whole_chunks(run.inputs)
            x = work.take(T * rows * width)
        layer[[UNITS, WIDTH, INPUTS, X, COLUMNS]] = run.units, width, run.inputs, x, n_gates * run.units
        for first, name, columns in (
            (X_SLOT, "w_x", slots.x), (H_SLOT, "w_h", slots.h), (B_SLOT, "b", slots.b), (C_SLOT, "w_c", slots.c),
        ):  # fmt: skip
            for slot, column in enumerate(columns):
                if column >= 0:
                    layer[first + slot] = places[run.name + name] + column * run.units
        if purpose != INFERENCE or i == 0:
            layer[CARRIED] = work.take((T + 1) * rows * padded)
            layer[GATES] = work.take(T * rows * padded * SLOTS)
        else:
            layer[[CARRIED, GATES]] = layers[0][[CARRIED, GATES]]
        # Forecasts keep no states of a stack but those of the last layer.
        is_kept = purpose != INFERENCE or i == 0 or not is_stack
        layer[H] = work.take((T + 1) * rows * padded) if is_kept else layers[0][H]
        layer[UP] = work.take(T * rows * padded) if limit else layer[H] + rows * padded
        if purpose != INFERENCE:
            is_read = any(link.source == i for other in runs for link in other.links)
            layer[D_H] = work.take(T * rows * padded) if is_read else -1
            layer[SUMS] = is_read and (limit > 0 or not is_stack)
            if run.layer > 0 or purpose == GRADIENT:
                own = run.layer == 0 or limit or not is_stack
                layer[D_X] = work.take(T * rows * width) if own else layers[i - 1][D_H]
        layers.append(layer)
        x, width = layer[UP], padded
    return layers


def _links(spec: NetworkSpec, padded: int, layers: list[np.ndarray]) -> list[np.ndarray]:
    """Fields of every link, those into the head at the end."""
    runs, window = spec.topology.runs, layers[0]
    readers = [(_place(i), run.reverse, run.links) for i, run in enumerate(runs)]
    links = []
    for target, is_reverse, read in (*readers, (HEAD, False, spec.topology.head_links)):
        columns: set[int] = set()
        for link in read:
            fields = np.empty(N_LINK, dtype=np.int64)
            fields[[TARGET, COLUMN, ADDS]] = target, link.column, link.column in columns
            if link.source < 0:
                fields[[SOURCE, FROM, STRIDE, SIZE]] = WINDOW, window[X], window[WIDTH], spec.n_features
                fields[TURNED] = is_reverse
            else:
                source = layers[link.source]
                fields[[SOURCE, FROM, STRIDE, SIZE]] = _place(link.source), source[UP], padded, source[UNITS]
                fields[TURNED] = is_reverse != runs[link.source].reverse
            columns.add(link.column)
            links.append(fields)
    return links


def _whole_chunks(n: int) -> int:
    """``n`` numbers filled up to whole chunks."""
    return -(-n // CHUNK) * CHUNK
