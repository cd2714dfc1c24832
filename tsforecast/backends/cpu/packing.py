"""Where parameters stand among the packed weights, and the panels that these are made of; see ``plan`` and ``shapes``.

Letters: L lanes, D inputs, H units, Hp = H in whole vectors, G gate columns, K rows of the layer's weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.cpu.attention_places import AttentionPlaces, add_panels, block_places
from tsforecast.backends.cpu.attention_places import columns as attention_columns
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.shapes import CELL_SHAPES
from tsforecast.backends.cpu.tables import DEPTH, EXTRA, IN, PADDED, START, START_C, UNITS, WH_T, WX_T, W
from tsforecast.backends.cpu.tile import panel_index, whole_vectors
from tsforecast.cells import CELLS
from tsforecast.spec import NetworkSpec

Places = NDArray[np.int64]


def places(
    spec: NetworkSpec,
    layers: NDArray[np.int64],  # a row for each run, and one for a decoder
    pool: AttentionPlaces,
    head_w: int,
    head_in: int,
    head_skip: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``Plan.runs`` and ``Plan.columns``."""
    n_columns = 0
    at = np.full(spec.n_params, -1, dtype=np.int64)
    to, columns = spec.views(at), []
    prefixes = [*(run.name for run in spec.topology.runs), "decoder."]
    for prefix, layer in zip(prefixes, layers, strict=False):
        own_places, own = _layer_places(spec, layer)
        for name, place in own_places.items():
            to[prefix + name][...] = place
        for column, width in own:
            columns.append(n_columns + column)
            n_columns += width
    for name, place in block_places(pool).items():
        to[f"{'' if spec.decoder == 'dense' else 'decoder.'}attention.{name}"][...] = place
    for column, width in attention_columns(pool):
        columns.append(n_columns + column)
        n_columns += width
    column, n_vectors = np.arange(spec.map_size), whole_vectors(spec.map_size) // LANES
    place = head_w + panel_index(np.arange(head_in)[:, None], column, head_in, n_vectors)
    if spec.linear_skip:
        to["skip.w"][...] = place[:head_skip]
    to["head.b"][...] = place[head_skip]
    to["head.w"][...] = place[head_skip + 1 + _head_rows(spec, pool)]
    columns.append(n_columns + column)
    starts = np.flatnonzero(np.diff(at, prepend=-2) != 1)
    runs = np.stack([starts, at[starts], np.diff(starts, append=len(at))], axis=1)
    return runs, np.concatenate(columns)


def panels(
    spec: NetworkSpec,
    layers: NDArray[np.int64],
    pool: AttentionPlaces,
    head_w: int,
    head_in: int,
    head_skip: int,
    head_wt: int,
) -> NDArray[np.int64]:
    """``Plan.panels``."""
    cell, shape, n_gates = CELLS[spec.cell], CELL_SHAPES[spec.cell], CELLS[spec.cell].n_gates
    rows, column, none = [], 0, (0, 0, 0, 0)

    def add(place, n_rows, n_vectors, most, bias, step=LANES, by_h=none, by_x=none):
        nonlocal column
        for first in range(0, n_vectors, most):
            width = min(most, n_vectors - first)
            to = first * LANES if step == LANES else first // most * LANES
            rows.append((place + first * LANES * n_rows, n_rows, width, bias, column, to, step, *by_h, *by_x))
            column += width * LANES

    for layer in layers:
        d, hp, depth = int(layer[IN]), int(layer[PADDED]), int(layer[DEPTH])
        height = n_gates * hp
        by_h = (d + 1, depth - d - 1, layer[WH_T], height) if layer[WH_T] >= 0 else none
        by_x = (0, d, layer[WX_T], height) if layer[WX_T] >= 0 else none
        step = hp if shape.blocks_a_panel == 1 else LANES
        add(layer[W], depth, n_gates * hp // LANES, n_gates * shape.blocks_a_panel, d, step, by_h, by_x)
        place = int(layer[EXTRA])
        for name in shape.extras:
            (n,) = cell.extras[name]
            add(place, 1, n * hp // LANES, n, 1 if name.startswith("w") else 0)
            place += n * hp
        for field in (START, START_C):
            if layer[field] >= 0:
                add(layer[field], 1, hp // LANES, 4, 0)
    add_panels(pool, add)
    head = (head_skip + 1, head_in - head_skip - 1, head_wt, whole_vectors(spec.map_size)) if head_wt >= 0 else none
    add(head_w, head_in, whole_vectors(spec.map_size) // LANES, 4, head_skip, by_h=head)
    return np.array(rows, dtype=np.int64)


def _head_rows(spec: NetworkSpec, pool: AttentionPlaces) -> Places:
    """Which rows behind the bias the head's weights have: last states; with attention, padded, context; the future."""
    if spec.decoder != "dense":
        return np.arange(spec.hidden_sizes[-1])
    units, future = np.arange(spec.topology.head_units), np.arange(spec.n_outputs * spec.n_future)
    if spec.attention == "none":
        return np.concatenate([units, len(units) + future])
    return np.concatenate([units, pool.padded + units, 2 * pool.padded + future])


def _layer_places(spec: NetworkSpec, layer: NDArray[np.int64]) -> tuple[dict[str, Places], list[tuple[Places, int]]]:
    """Places of a run's blocks by their short names.

    Also, for every matrix, the columns that hold parameters, in public order, and the width with padding.
    """
    shape, kind = CELL_SHAPES[spec.cell], CELLS[spec.cell]
    D, H, hp, K = (int(layer[field]) for field in (IN, UNITS, PADDED, DEPTH))
    G = kind.n_gates
    n_vectors, most = G * hp // LANES, G * shape.blocks_a_panel

    def at(row, column):
        return int(layer[W]) + panel_index(row, column, K, n_vectors, most)

    by_x, by_h = _columns(H, G, shape.x_order), _columns(H, G, None)
    places = {"w_x": at(np.arange(D)[:, None], by_x), "b": at(D, by_x)}
    if kind.recurrent:
        places["w_h"] = at(D + 1 + np.arange(H)[:, None], by_h)
    if "w_g" in kind.extras:  # rows i, f, o of the step before, columns i, f, o
        before = np.arange(3 * H)
        rows = D + 1 + (1 + before // H) * hp + before % H
        gates = np.concatenate([by_h[kind.columns.index(gate) * H :][:H] for gate in "ifo"])
        places["w_g"] = at(rows[:, None], gates)
    columns, extra = [(by_h, G * hp)], int(layer[EXTRA])
    for name in shape.extras:
        (n,) = kind.extras[name]
        places[name] = extra + _columns(H, n, None)
        columns.append((_columns(H, n, None), n * hp))
        extra += n * hp
    for state, field in (("h_0", START), ("c_0", START_C)):
        if layer[field] >= 0:
            places[state] = int(layer[field]) + np.arange(H)
            columns.append((np.arange(H), hp))
    return places, columns


def _columns(H: int, n: int, order: tuple[int, ...] | None) -> Places:
    """Columns of ``n`` times H units in public order: n times LANES units side by side, blocks one after the other."""
    unit, gate = np.arange(n * H) % H, np.arange(n * H) // H
    if order is not None:
        gate = np.array(order)[gate]
    return (unit // LANES * n + gate) * LANES + unit % LANES
