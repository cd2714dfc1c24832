"""Where everything lies: the layout of packed weights and of a thread's work buffer for one network.

Kernels see a network as ``Net`` (sizes and offsets) and a table of layers. The flat parameter vector stays in its
public order (``NetworkSpec.blocks``); ``Plan.at[i]`` says where parameter i stands in the packed weights (and its
gradient in a packed gradient), ``Plan.at_t[i]`` where it stands a second time, transposed for the backward pass (-1:
nowhere). Letters as in ``lstm``: L lanes, Hp = units in whole vectors, K = D + 1 + H; head input of A = T*F (with a
skip) + 1 + H columns.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.tile import panel_index
from tsforecast.spec import CELLS, WINDOW_NORMS, NetworkSpec

# Columns of the layer table: sizes, offsets in the packed weights, offsets in the work buffer.
IN, UNITS, W, WH_T, WX_T, XH, C, GATES, TANH_C, DX, N_FIELDS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10


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
    at: np.ndarray  # [P] int64
    at_t: np.ndarray  # [P] int64
    is_weight: np.ndarray  # [P] bool, False for biases
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


def make_plan(spec: NetworkSpec, rows: int, input_gradient: bool = False) -> Plan:
    """Lay out a network; ``input_gradient`` adds what the gradient by the first layer's input needs."""
    offsets = _offsets(spec, rows, input_gradient)
    return Plan(**offsets, **_places(spec, input_gradient), rows=rows)


@lru_cache(maxsize=32)
def _offsets(spec: NetworkSpec, rows: int, input_gradient: bool) -> dict[str, Any]:
    """Sizes and offsets; those of the weights do not depend on ``rows``."""
    widths = (spec.n_features, *spec.hidden_sizes)
    n_gates = CELLS[spec.cell].n_gates
    layers = np.full((len(spec.hidden_sizes), N_FIELDS), -1, dtype=np.int64)
    head_in = (spec.n_timesteps * spec.n_features if spec.linear_skip else 0) + 1 + widths[-1]
    out_width = whole_vectors(spec.head_size)
    weights, work = _Heap(), _Heap()
    for layer, d, h in zip(layers, widths, widths[1:], strict=False):
        layer[IN], layer[UNITS] = d, h
        layer[W] = weights.take((d + 1 + h) * n_gates * whole_vectors(h))
    head_w = weights.take(head_in * out_width)
    n_with_gradient = weights.size
    for i, layer in enumerate(layers):
        hp, dp = whole_vectors(layer[UNITS]), whole_vectors(layer[IN])
        layer[WH_T] = weights.take(n_gates * hp * hp)
        if i > 0 or input_gradient:
            layer[WX_T] = weights.take(n_gates * hp * dp)
            layer[DX] = work.take(spec.n_timesteps * rows * dp)
        layer[XH] = work.take((spec.n_timesteps + 1) * rows * (layer[IN] + 1 + hp))
        layer[C] = work.take((spec.n_timesteps + 1) * rows * hp)
        layer[GATES] = work.take(spec.n_timesteps * rows * n_gates * hp)
        layer[TANH_C] = work.take(spec.n_timesteps * rows * hp)
    widest = max(map(whole_vectors, widths[1:]))
    net = Net(
        n_timesteps=spec.n_timesteps,
        n_features=spec.n_features,
        n_outputs=spec.n_outputs,
        n_quantiles=spec.n_quantiles,
        norm=WINDOW_NORMS[spec.window_norm],
        season=spec.season_length,
        skip=int(spec.linear_skip),
        n_layers=len(layers),
        n_gradient=n_with_gradient,
        head_in=head_in,
        out_width=out_width,
        head_w=head_w,
        head_wt=weights.take(out_width * whole_vectors(widths[-1])),
        head=work.take(rows * head_in),
        out=work.take(rows * out_width),
        dout=work.take(rows * out_width),
        dout_panels=work.take(rows * out_width),
        dh=work.take(rows * widest),
        dc=work.take(rows * widest),
        dz=work.take(rows * n_gates * widest),
    )
    return {"net": net, "layers": layers, "n_packed": weights.size, "n_work": work.size}


@lru_cache(maxsize=4)  # as large as the network
def _places(spec: NetworkSpec, input_gradient: bool) -> dict[str, np.ndarray]:
    """``Plan.at``, ``Plan.at_t`` and ``Plan.is_weight``."""
    offsets = _offsets(spec, 1, input_gradient)
    net, layers = offsets["net"], offsets["layers"]
    at = np.full(spec.n_params, -1, dtype=np.int64)
    at_t = np.full(spec.n_params, -1, dtype=np.int64)
    to, to_t = spec.views(at), spec.views(at_t)
    n_gates = CELLS[spec.cell].n_gates
    for i, layer in enumerate(layers):
        d, h = int(layer[IN]), int(layer[UNITS])
        hp, n_rows = whole_vectors(h), d + 1 + h
        unit, gate = np.arange(n_gates * h) % h, np.arange(n_gates * h) // h
        column = (unit // LANES * n_gates + gate) * LANES + unit % LANES  # gates of LANES units side by side
        row_t = gate * hp + unit

        def packed(row, column=column, layer=layer, n_rows=n_rows, hp=hp):
            return layer[W] + panel_index(row, column, n_rows, n_gates * hp // LANES)

        to[f"layers.{i}.w_x"][...] = packed(np.arange(d)[:, None])
        to[f"layers.{i}.b"][...] = packed(d)
        to[f"layers.{i}.w_h"][...] = packed(d + 1 + np.arange(h)[:, None])
        to_t[f"layers.{i}.w_h"][...] = layer[WH_T] + panel_index(
            row_t, np.arange(h)[:, None], n_gates * hp, hp // LANES
        )
        if layer[WX_T] >= 0:
            n_vectors = whole_vectors(d) // LANES
            to_t[f"layers.{i}.w_x"][...] = layer[WX_T] + panel_index(
                row_t, np.arange(d)[:, None], n_gates * hp, n_vectors
            )
    h, n_skip = spec.hidden_sizes[-1], net.head_in - 1 - spec.hidden_sizes[-1]
    column, n_vectors = np.arange(spec.head_size), net.out_width // LANES
    rows = np.arange(net.head_in)[:, None]
    place = net.head_w + panel_index(rows, column, net.head_in, n_vectors)
    if spec.linear_skip:
        to["skip.w"][...] = place[:n_skip]
    to["head.b"][...] = place[n_skip]
    to["head.w"][...] = place[n_skip + 1 :]
    to_t["head.w"][...] = net.head_wt + panel_index(
        column, np.arange(h)[:, None], net.out_width, whole_vectors(h) // LANES
    )
    return {"at": at, "at_t": at_t, "is_weight": spec.is_weight()}
