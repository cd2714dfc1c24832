"""The whole network: stacked recurrent layers, a dense head on the last hidden state, an optional linear skip.

Letters: B rows, T steps, F features, L layers, K outputs, Q quantiles. Windows are ``[B,T,F]``, layers ``[T,B,.]``::

    1a   h^0 = x, time-major
    1b   h^l = layer(h^{l-1})                      l = 1..L, from a zero state
    2a   y   = h^L_T W_head + b_head
    2b   y   = y + vec(x) W_skip                   with a linear skip; vec(x) is time-major
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.reference import dense, layer
from tsforecast.backends.reference.cell import Params
from tsforecast.backends.reference.cells import CELLS
from tsforecast.spec import CELLS as CELL_SPECS
from tsforecast.spec import NetworkSpec

Array = NDArray[np.float64]


def forward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F] as the network sees it, after normalisation
) -> tuple[Array, list[layer.Tape]]:
    """Return the outputs ``[B,K*Q]`` and one tape a layer."""
    p = spec.views(params)
    tapes = []
    h = x.transpose(1, 0, 2)  # 1a
    for i, units in enumerate(spec.hidden_sizes):
        zeros = tuple(np.zeros((len(x), units)) for _ in CELL_SPECS[spec.cell].states)
        tapes.append(layer.forward(CELLS[spec.cell], h, layer_params(p, i), zeros))  # 1b
        h = tapes[-1].h[1:]
    y = dense.forward(h[-1], p["head.w"], p["head.b"])  # 2a
    if spec.linear_skip:
        y = y + dense.forward(x.reshape(len(x), -1), p["skip.w"], 0.0)  # 2b
    return y, tapes


def backward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F]
    tapes: list[layer.Tape],
    dy: Array,  # [B,K*Q]
) -> tuple[Array, Array]:
    """Undo ``forward``; return ``dparams [P]`` and ``dx [B,T,F]``."""
    p = spec.views(params)
    dparams = np.zeros(spec.n_params)
    dp = spec.views(dparams)
    dx = np.zeros_like(x)
    if spec.linear_skip:
        flat = x.reshape(len(x), -1)
        dx += dense.backward(dy, flat, p["skip.w"], dp["skip.w"], None).reshape(x.shape)  # 2b
    dh = np.zeros_like(tapes[-1].h[1:])
    dh[-1] = dense.backward(dy, tapes[-1].h[-1], p["head.w"], dp["head.w"], dp["head.b"])  # 2a
    n_states = len(CELL_SPECS[spec.cell].states)
    for i in reversed(range(len(tapes))):
        dh, _ = layer.backward(CELLS[spec.cell], dh, tapes[i], layer_params(p, i), layer_params(dp, i), n_states)  # 1b
    return dparams, dx + dh.transpose(1, 0, 2)  # 1a


def layer_params(views: Params, i: int) -> Params:
    """Blocks of layer ``i`` by their short names, as views."""
    prefix = f"layers.{i}."
    return {name.removeprefix(prefix): view for name, view in views.items() if name.startswith(prefix)}
