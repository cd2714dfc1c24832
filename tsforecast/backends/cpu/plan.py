"""Where everything lies: the layout of packed weights and of a thread's work buffer for one network.

Kernels see a network as ``Net`` (sizes and offsets; its type names the cell), a table of layers and a table of panels.
The flat parameter vector keeps its public order (``NetworkSpec.blocks``); ``Plan.runs`` says which stretches of it
stand where among the packed weights. Training works on packed weights, gradients and moments throughout; their padding
is and stays zero. Behind the ``n_gradient`` weights that have a gradient stand transposed copies, made from them
(``steps.transpose_panel``).

Letters: L lanes, Hp = units in whole vectors, G gate columns, R vectors of units that a step feeds back, S = D + 1 +
R Hp the width of a row of ``xh``, K rows of the weights; head input of A = T*F (with a skip) + 1 + H columns.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.packing import layer_places, whole_vectors
from tsforecast.backends.cpu.shapes import CELL_SHAPES
from tsforecast.backends.cpu.tile import panel_index
from tsforecast.spec import CELLS, WINDOW_NORMS, NetworkSpec

# Columns of the layer table: sizes, offsets in the packed weights, offsets in the work buffer.
IN, UNITS, PADDED, ROW, STATE, DEPTH, W, EXTRA, WH_T, WX_T, XH, C, GATES, KEPT, DX = range(15)
N_FIELDS = 15
# Columns of the panel table. A panel is a few vectors of columns of a weight matrix: its place in the packed weights,
# rows, vectors, which row is the bias (as many as there are rows: none), the place of its columns among those of all
# panels; where its columns stand as rows of transposed copies, and how far apart; and the two copies: rows of the panel
# from, how many (0: no copy), place, rows of the copy.
P_AT, P_ROWS, P_VECTORS, P_BIAS, P_COLUMN, P_TO, P_STEP, P_H, P_X = 0, 1, 2, 3, 4, 5, 6, 7, 11
FROM, COUNT, PLACE, HEIGHT, N_PANEL_FIELDS = 0, 1, 2, 3, 15
# What a work buffer is for; each holds what the one before does, and more.
INFERENCE, TRAINING, INPUT_GRADIENT = 0, 1, 2


class Net(NamedTuple):
    """Sizes of a network, how windows enter it (``norm``, ``season``), and offsets of what it has once."""

    n_timesteps: int
    n_features: int
    n_outputs: int
    n_quantiles: int
    norm: int
    season: int
    skip: int
    n_layers: int
    n_gradient: int  # packed weights that have a gradient: what one shard's gradient holds
    head_in: int  # A
    head_skip: int  # columns of A before the bias
    out_width: int  # K*Q in whole vectors
    head_w: int
    head_wt: int
    head: int  # [B,A] head input
    out: int  # [B,out_width]
    dout: int
    dout_panels: int
    dh: int
    dc: int
    dz: int


# A type of its own for every cell: what kernels are compiled for (``cells``). Machine code that is kept names them.
NETS = {cell: type(f"Net_{cell}", (Net,), {"cell": cell, "__module__": __name__}) for cell in CELL_SHAPES}
globals().update({net.__name__: net for net in NETS.values()})


class Plan(NamedTuple):
    """Layout of one network for at most ``rows`` rows at once."""

    net: Net
    layers: np.ndarray  # [n_layers, N_FIELDS] int64
    panels: np.ndarray  # [n_panels, N_PANEL_FIELDS] int64
    columns: np.ndarray  # [columns of all weight matrices] int64: where each one's panel column stands; public order
    runs: np.ndarray  # [n_runs, 3] int64: first parameter, first packed weight, length
    n_packed: int  # packed weights, transposed ones included
    n_work: int  # elements of a work buffer
    rows: int


class _Heap:
    """Hands out consecutive ranges, each from a whole vector on."""

    def __init__(self):
        self.size = 0

    def take(self, n: int) -> int:
        start = self.size
        self.size += whole_vectors(n)
        return start


@lru_cache(maxsize=64)
def operations(spec: NetworkSpec) -> int:
    """Additions and multiplications of the recurrent layers for the forecast of one window; learning takes 3 times."""
    widths = (spec.n_features, *spec.hidden_sizes)
    a_step = sum(2 * CELLS[spec.cell].n_gates * units * (below + 1 + units) for below, units in pairwise(widths))
    return spec.n_timesteps * a_step


@lru_cache(maxsize=8)  # beside those below: looking up one plan is cheaper than its three parts
def make_plan(spec: NetworkSpec, rows: int, purpose: int) -> Plan:
    """Lay out a network for ``INFERENCE``, ``TRAINING`` or ``INPUT_GRADIENT``."""
    offsets = _offsets(spec, rows, purpose)
    return Plan(**offsets, **_places(spec), panels=_panels(spec, purpose), rows=rows)


@lru_cache(maxsize=64)
def _offsets(spec: NetworkSpec, rows: int, purpose: int) -> dict[str, Any]:
    """Sizes and offsets; those of the weights with a gradient depend on the network alone."""
    T, widths = spec.n_timesteps, (spec.n_features, *spec.hidden_sizes)
    shape, n_gates = CELL_SHAPES[spec.cell], CELLS[spec.cell].n_gates
    n_extra = sum(n for name in shape.extras for n in CELLS[spec.cell].extras[name])
    layers = np.full((len(spec.hidden_sizes), N_FIELDS), -1, dtype=np.int64)
    head_skip = T * spec.n_features if spec.linear_skip else 0
    head_in, out_width = head_skip + 1 + widths[-1], whole_vectors(spec.head_size)
    weights, work = _Heap(), _Heap()
    for layer, d, h in zip(layers, widths, widths[1:], strict=False):
        hp = whole_vectors(h)
        layer[[IN, UNITS, PADDED, ROW]] = d, h, hp, d + 1 + shape.n_feedback * hp
        layer[STATE] = shape.n_states * hp
        layer[DEPTH] = d + 1 + (h if shape.n_feedback == 1 else shape.n_feedback * hp)
        layer[W] = weights.take(layer[DEPTH] * n_gates * hp)
        layer[EXTRA] = weights.take(n_extra * hp)
    head_w = weights.take(head_in * out_width)
    n_with_gradient = weights.size
    for i, layer in enumerate(layers):
        hp, dp = layer[PADDED], whole_vectors(layer[IN])
        layer[XH] = work.take((T + 1) * rows * layer[ROW])
        if purpose == INFERENCE:
            layer[C] = work.take(rows * layer[STATE])
            layer[GATES] = work.take(rows * shape.n_gates_kept * shape.blocks_a_panel * LANES)
            continue
        layer[WH_T] = weights.take(n_gates * hp * shape.n_feedback * hp)
        if i > 0 or purpose == INPUT_GRADIENT:
            layer[WX_T] = weights.take(n_gates * hp * dp)
            layer[DX] = work.take(T * rows * dp)
        layer[C] = work.take((T + 1) * rows * layer[STATE])
        layer[GATES] = work.take(T * rows * shape.n_gates_kept * hp)
        layer[KEPT] = work.take(T * rows * shape.n_kept * hp)
    backward = rows * (purpose != INFERENCE)
    widest = max(map(whole_vectors, widths[1:]))
    net = NETS[spec.cell](
        n_timesteps=T,
        n_features=spec.n_features,
        n_outputs=spec.n_outputs,
        n_quantiles=spec.n_quantiles,
        norm=WINDOW_NORMS[spec.window_norm],
        season=spec.season_length,
        skip=int(spec.linear_skip),
        n_layers=len(layers),
        n_gradient=n_with_gradient,
        head_in=head_in,
        head_skip=head_skip,
        out_width=out_width,
        head_w=head_w,
        head_wt=weights.take(out_width * whole_vectors(widths[-1])) if backward else -1,
        head=work.take(rows * head_in),
        out=work.take(rows * out_width),
        dout=work.take(rows * out_width),
        dout_panels=work.take(backward * out_width),
        dh=work.take(backward * shape.n_feedback * widest),
        dc=work.take(backward * shape.n_states * widest),
        dz=work.take(backward * shape.n_gates_kept * widest),
    )
    return {"net": net, "layers": layers, "n_packed": weights.size, "n_work": work.size}


@lru_cache(maxsize=8)
def _places(spec: NetworkSpec) -> dict[str, np.ndarray]:
    """``Plan.runs`` and ``Plan.columns``."""
    offsets = _offsets(spec, 1, INFERENCE)
    net, n_columns = offsets["net"], 0
    at = np.full(spec.n_params, -1, dtype=np.int64)
    to, columns = spec.views(at), []
    for i, layer in enumerate(offsets["layers"]):
        units, depth = int(layer[UNITS]), int(layer[DEPTH])
        places, own = layer_places(spec.cell, int(layer[IN]), units, depth, int(layer[W]), int(layer[EXTRA]))
        for name, place in places.items():
            to[f"layers.{i}.{name}"][...] = place
        for column, width in own:
            columns.append(n_columns + column)
            n_columns += width
    column, n_vectors = np.arange(spec.head_size), net.out_width // LANES
    place = net.head_w + panel_index(np.arange(net.head_in)[:, None], column, net.head_in, n_vectors)
    if spec.linear_skip:
        to["skip.w"][...] = place[: net.head_skip]
    to["head.b"][...] = place[net.head_skip]
    to["head.w"][...] = place[net.head_skip + 1 :]
    columns.append(n_columns + column)
    starts = np.flatnonzero(np.diff(at, prepend=-2) != 1)
    runs = np.stack([starts, at[starts], np.diff(starts, append=len(at))], axis=1)
    return {"runs": runs, "columns": np.concatenate(columns)}


@lru_cache(maxsize=24)
def _panels(spec: NetworkSpec, purpose: int) -> np.ndarray:
    """``Plan.panels``."""
    offsets = _offsets(spec, 1, purpose)
    net, shape, n_gates = offsets["net"], CELL_SHAPES[spec.cell], CELLS[spec.cell].n_gates
    panels, column, none = [], 0, (0, 0, 0, 0)

    def add(place, rows, n_vectors, most, bias, step, copies):
        nonlocal column
        for first in range(0, n_vectors, most):
            width = min(most, n_vectors - first)
            to = first * LANES if step == LANES else first // most * LANES
            panels.append((place + first * LANES * rows, rows, width, bias, column, to, step, *copies[0], *copies[1]))
            column += width * LANES

    for layer in offsets["layers"]:
        d, hp, depth = int(layer[IN]), int(layer[PADDED]), int(layer[DEPTH])
        height = n_gates * hp
        by_h = (d + 1, depth - d - 1, layer[WH_T], height) if layer[WH_T] >= 0 else none
        by_x = (0, d, layer[WX_T], height) if layer[WX_T] >= 0 else none
        most = n_gates * shape.blocks_a_panel
        step = hp if shape.blocks_a_panel == 1 else LANES
        add(layer[W], depth, n_gates * hp // LANES, most, d, step, (by_h, by_x))
        place = int(layer[EXTRA])
        for name in shape.extras:
            (n,) = CELLS[spec.cell].extras[name]
            add(place, 1, n * hp // LANES, n, 1 if name.startswith("w") else 0, LANES, (none, none))
            place += n * hp
    head = (net.head_skip + 1, spec.hidden_sizes[-1], net.head_wt, net.out_width) if net.head_wt >= 0 else none
    add(net.head_w, net.head_in, net.out_width // LANES, 4, net.head_skip, LANES, (head, none))
    return np.array(panels, dtype=np.int64)
