"""Where everything lies: the layout of packed weights and of a thread's work buffer for one network.

Kernels see a network as ``Net`` (sizes and offsets), a table of layers and a table of panels. The flat parameter
vector keeps its public order (``NetworkSpec.blocks``); ``Plan.runs`` says which stretches of it stand where among the
packed weights. Training works on packed weights, gradients and moments throughout; their padding is and stays zero.
Behind the ``n_gradient`` weights that have a gradient stand transposed copies, made from them
(``steps.transpose_panel``). Letters as in ``lstm``: L lanes, Hp = units in whole vectors, K = D + 1 + H; head input of
A = T*F (with a skip) + 1 + H columns.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.tile import panel_index
from tsforecast.spec import CELLS, WINDOW_NORMS, NetworkSpec

# Columns of the layer table: sizes, offsets in the packed weights, offsets in the work buffer.
IN, UNITS, W, WH_T, WX_T, XH, C, GATES, TANH_C, DX, N_FIELDS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
# Columns of the panel table. A panel is up to 4 vectors of columns of a weight matrix: its place in the packed weights,
# rows, vectors, which row is the bias, layer (the head is the one after the last), first vector of columns, and the
# place of its columns among those of all panels.
P_AT, P_ROWS, P_VECTORS, P_BIAS, P_LAYER, P_FIRST, P_COLUMN, N_PANEL_FIELDS = 0, 1, 2, 3, 4, 5, 6, 7
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


def whole_vectors(n: int) -> int:
    """``n`` rounded up to a multiple of the lanes."""
    return -(-n // LANES) * LANES


def operations(spec: NetworkSpec) -> int:
    """Additions and multiplications of the recurrent layers for the forecast of one window; learning takes 3 times."""
    widths = (spec.n_features, *spec.hidden_sizes)
    a_step = sum(2 * CELLS[spec.cell].n_gates * units * (below + 1 + units) for below, units in pairwise(widths))
    return spec.n_timesteps * a_step


def make_plan(spec: NetworkSpec, rows: int, purpose: int) -> Plan:
    """Lay out a network for ``INFERENCE``, ``TRAINING`` or ``INPUT_GRADIENT``."""
    return Plan(**_offsets(spec, rows, purpose), **_places(spec), rows=rows)


@lru_cache(maxsize=64)
def _offsets(spec: NetworkSpec, rows: int, purpose: int) -> dict[str, Any]:
    """Sizes and offsets; those of the weights with a gradient depend on the network alone."""
    T, widths = spec.n_timesteps, (spec.n_features, *spec.hidden_sizes)
    n_gates = CELLS[spec.cell].n_gates
    layers = np.full((len(spec.hidden_sizes), N_FIELDS), -1, dtype=np.int64)
    head_skip = T * spec.n_features if spec.linear_skip else 0
    head_in, out_width = head_skip + 1 + widths[-1], whole_vectors(spec.head_size)
    weights, work = _Heap(), _Heap()
    for layer, d, h in zip(layers, widths, widths[1:], strict=False):
        layer[IN], layer[UNITS] = d, h
        layer[W] = weights.take((d + 1 + h) * n_gates * whole_vectors(h))
    head_w = weights.take(head_in * out_width)
    n_with_gradient = weights.size
    for i, layer in enumerate(layers):
        hp, dp = whole_vectors(layer[UNITS]), whole_vectors(layer[IN])
        layer[XH] = work.take((T + 1) * rows * (layer[IN] + 1 + hp))
        if purpose == INFERENCE:
            layer[C], layer[GATES] = work.take(rows * hp), work.take(rows * n_gates * LANES)
            continue
        layer[WH_T] = weights.take(n_gates * hp * hp)
        if i > 0 or purpose == INPUT_GRADIENT:
            layer[WX_T] = weights.take(n_gates * hp * dp)
            layer[DX] = work.take(T * rows * dp)
        layer[C] = work.take((T + 1) * rows * hp)
        layer[GATES] = work.take(T * rows * n_gates * hp)
        layer[TANH_C] = work.take(T * rows * hp)
    backward = rows * (purpose != INFERENCE)
    widest = max(map(whole_vectors, widths[1:]))
    net = Net(
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
        dh=work.take(backward * widest),
        dc=work.take(backward * widest),
        dz=work.take(backward * n_gates * widest),
    )
    return {"net": net, "layers": layers, "n_packed": weights.size, "n_work": work.size}


@lru_cache(maxsize=8)
def _places(spec: NetworkSpec) -> dict[str, np.ndarray]:
    """``Plan.runs``, ``Plan.panels`` and ``Plan.columns``."""
    offsets = _offsets(spec, 1, INFERENCE)
    net, layers = offsets["net"], offsets["layers"]
    at = np.full(spec.n_params, -1, dtype=np.int64)
    to = spec.views(at)
    n_gates = CELLS[spec.cell].n_gates
    panels, columns, n_columns = [], [], 0
    for i, layer in enumerate(layers):
        d, h = int(layer[IN]), int(layer[UNITS])
        n_rows, n_vectors = d + 1 + h, n_gates * whole_vectors(h) // LANES
        unit, gate = np.arange(n_gates * h) % h, np.arange(n_gates * h) // h
        column = (unit // LANES * n_gates + gate) * LANES + unit % LANES  # gates of LANES units side by side

        def packed(row, column=column, layer=layer, n_rows=n_rows, n_vectors=n_vectors):
            return layer[W] + panel_index(row, column, n_rows, n_vectors)

        to[f"layers.{i}.w_x"][...] = packed(np.arange(d)[:, None])
        to[f"layers.{i}.b"][...] = packed(d)
        to[f"layers.{i}.w_h"][...] = packed(d + 1 + np.arange(h)[:, None])
        columns.append(n_columns + column)
        for first in range(0, n_vectors, n_gates):
            start = layer[W] + first * LANES * n_rows
            panels.append((start, n_rows, n_gates, d, i, first // n_gates, n_columns + first * LANES))
        n_columns += n_vectors * LANES
    column, n_vectors = np.arange(spec.head_size), net.out_width // LANES
    place = net.head_w + panel_index(np.arange(net.head_in)[:, None], column, net.head_in, n_vectors)
    if spec.linear_skip:
        to["skip.w"][...] = place[: net.head_skip]
    to["head.b"][...] = place[net.head_skip]
    to["head.w"][...] = place[net.head_skip + 1 :]
    columns.append(n_columns + column)
    for first in range(0, n_vectors, 4):
        start, width = net.head_w + first * LANES * net.head_in, min(4, n_vectors - first)
        panels.append((start, net.head_in, width, net.head_skip, len(layers), first, n_columns + first * LANES))
    starts = np.flatnonzero(np.diff(at, prepend=-2) != 1)
    runs = np.stack([starts, at[starts], np.diff(starts, append=len(at))], axis=1)
    return {"runs": runs, "panels": np.array(panels, dtype=np.int64), "columns": np.concatenate(columns)}
