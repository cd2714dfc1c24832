"""Where the parameters of one layer stand among the packed weights; see ``plan`` and ``shapes``.

Letters: L lanes, D inputs, H units, Hp = H in whole vectors, G gate columns, K rows of the layer's weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.shapes import CELL_SHAPES
from tsforecast.backends.cpu.tile import panel_index
from tsforecast.spec import CELLS

Places = NDArray[np.int64]


def whole_vectors(n: int) -> int:
    """``n`` rounded up to a multiple of the lanes."""
    return -(-n // LANES) * LANES


def layer_places(
    cell: str, D: int, H: int, K: int, w: int, extra: int
) -> tuple[dict[str, Places], list[tuple[Places, int]]]:
    """Places of a layer's blocks by their short names, from ``w`` and ``extra`` on.

    Also, for every matrix, the columns that hold parameters, in public order, and the width with padding.
    """
    shape, kind, hp = CELL_SHAPES[cell], CELLS[cell], whole_vectors(H)
    G = kind.n_gates
    n_vectors, most = G * hp // LANES, G * shape.blocks_a_panel

    def at(row, column):
        return w + panel_index(row, column, K, n_vectors, most)

    by_x, by_h = _columns(H, G, shape.x_order), _columns(H, G, None)
    places = {"w_x": at(np.arange(D)[:, None], by_x), "b": at(D, by_x)}
    if kind.recurrent:
        places["w_h"] = at(D + 1 + np.arange(H)[:, None], by_h)
    if "w_g" in kind.extras:  # rows i, f, o of the step before, columns i, f, o
        before = np.arange(3 * H)
        rows = D + 1 + (1 + before // H) * hp + before % H
        gates = np.concatenate([by_h[kind.columns.index(gate) * H :][:H] for gate in "ifo"])
        places["w_g"] = at(rows[:, None], gates)
    columns = [(by_h, G * hp)]
    for name in shape.extras:
        (n,) = kind.extras[name]
        places[name] = extra + _columns(H, n, None)
        columns.append((_columns(H, n, None), n * hp))
        extra += n * hp
    return places, columns


def _columns(H: int, n: int, order: tuple[int, ...] | None) -> Places:
    """Columns of ``n`` times H units in public order: n times LANES units side by side, blocks one after the other."""
    unit, gate = np.arange(n * H) % H, np.arange(n * H) // H
    if order is not None:
        gate = np.array(order)[gate]
    return (unit // LANES * n + gate) * LANES + unit % LANES
