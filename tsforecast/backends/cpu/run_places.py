"""Where runs lie: their rows in the table of layers, with places among the packed weights and in a work buffer.

See ``plan`` for the letters, and ``tables`` for the fields. A decoder's cell is one more run, of K steps.
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.cpu import tables
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.shapes import CELL_SHAPES
from tsforecast.backends.cpu.tile import whole_vectors
from tsforecast.cells import CELLS
from tsforecast.spec import NetworkSpec
from tsforecast.topology import WINDOW, Run


class Heap:
    """Hands out consecutive ranges, each from a whole vector on."""

    def __init__(self):
        self.size = 0

    def take(self, n: int) -> int:
        """Where a range of n numbers begins."""
        start = self.size
        self.size += whole_vectors(n)
        return start


def run_rows(spec: NetworkSpec, n_steps: int, weights: Heap) -> np.ndarray:
    """Rows of all runs, with sizes and places of weights with a gradient; gradients go back ``n_steps`` steps."""
    n_all = spec.n_timesteps
    return np.array([_sizes(spec, run, n_all, n_steps, spec.learned_states, weights) for run in spec.topology.runs])


def decoder_row(spec: NetworkSpec, weights: Heap) -> np.ndarray:
    """``_sizes`` of a decoder's cell, which is a run of K steps; nothing where there is none."""
    if spec.decoder == "dense":
        return np.empty(0, dtype=np.int64)
    run = Run("decoder.", len(spec.hidden_sizes), spec.decoder_inputs, spec.hidden_sizes[-1], False, 1, ())
    return _sizes(spec, run, spec.n_outputs, spec.n_outputs, (), weights)


def _sizes(
    spec: NetworkSpec, run: Run, n_all: int, n_steps: int, learned: tuple[str, ...], weights: Heap
) -> np.ndarray:
    """Sizes of a run and places of its weights with a gradient: the first fields of its row."""
    shape, cell = CELL_SHAPES[spec.cell], CELLS[spec.cell]
    layer = np.full(tables.N_FIELDS, -1, dtype=np.int64)
    d, h, hp = run.inputs, run.units, whole_vectors(run.units)
    n_extra = sum(n for name in shape.extras for n in cell.extras[name])
    layer[[tables.IN, tables.UNITS, tables.PADDED]] = d, h, hp
    layer[tables.ROW] = d + 1 + shape.n_feedback * hp
    layer[tables.DEPTH] = d + 1 + cell.recurrent * (h if shape.n_feedback == 1 else shape.n_feedback * hp)
    layer[tables.STATES] = shape.n_states * hp
    layer[tables.STEPS], layer[tables.DILATION] = -(-n_all // run.dilation), run.dilation
    layer[tables.TAPE] = -(-n_steps // run.dilation)
    layer[tables.W] = weights.take(layer[tables.DEPTH] * cell.n_gates * hp)
    layer[tables.EXTRA] = weights.take(n_extra * hp)
    for state, field in (("h", tables.START), ("c", tables.START_C)):
        if state in learned:
            layer[field] = weights.take(hp)
    return layer


def take_all_buffers(
    spec: NetworkSpec, layers: np.ndarray, rows: int, learns: bool, all_inputs: bool, weights: Heap, work: Heap
) -> None:
    """``take_run_buffers`` for all runs; with ``all_inputs`` the gradient by the window is wanted, too."""
    for layer, run in zip(layers, spec.topology.runs, strict=True):
        wants_dx = run.links[0].source != WINDOW or all_inputs
        take_run_buffers(spec.cell, layer, rows, learns, wants_dx, weights, work)
        if learns:
            _take_noise_buffers(spec, layer, rows, work)
    n_carried = layers[:, tables.ROW] - layers[:, tables.IN] - 1 + layers[:, tables.STATES]
    layers[:, tables.CARRIED] = np.cumsum(n_carried) - n_carried


def take_run_buffers(
    cell: str, layer: np.ndarray, rows: int, learns: bool, wants_dx: bool, weights: Heap, work: Heap
) -> None:
    """Places of a run in the work buffer and of its transposed weights."""
    shape, n_gates = CELL_SHAPES[cell], CELLS[cell].n_gates
    T, hp, dp = layer[tables.TAPE], layer[tables.PADDED], whole_vectors(layer[tables.IN])
    rows = rows * layer[tables.DILATION]
    layer[tables.XH] = work.take((layer[tables.STEPS] + 1) * rows * layer[tables.ROW])
    if not learns:
        layer[tables.C] = work.take(rows * shape.n_states * hp)
        width = hp if shape.whole_steps else shape.blocks_a_panel * LANES
        layer[tables.GATES] = work.take(rows * shape.n_gates_kept * width)
        return
    layer[tables.WH_T] = weights.take(CELLS[cell].recurrent * n_gates * hp * shape.n_feedback * hp)
    if wants_dx:
        layer[tables.WX_T] = weights.take(n_gates * hp * dp)
        layer[tables.DX] = work.take(T * rows * dp)
    layer[tables.C] = work.take((T + 1) * rows * shape.n_states * hp)
    layer[tables.GATES] = work.take(T * rows * shape.n_gates_kept * hp)
    layer[tables.KEPT] = work.take(T * rows * shape.n_kept * hp)


def _take_noise_buffers(spec: NetworkSpec, layer: np.ndarray, rows: int, work: Heap) -> None:
    """Places of what noise needs of a run in training; see ``noisy``."""
    hp = layer[tables.PADDED]
    row, tape = rows * layer[tables.DILATION] * hp, layer[tables.TAPE]
    if spec.dropout:
        layer[tables.UP] = work.take(layer[tables.STEPS] * row)
    if spec.recurrent_dropout or spec.zoneout:
        layer[tables.OUT] = work.take((layer[tables.STEPS] + 1) * row)
    if spec.zoneout:
        layer[tables.OWN_C] = work.take(tape * row)
    if spec.recurrent_dropout:
        layer[tables.MASK] = work.take(rows * hp)


def link_rows(spec: NetworkSpec) -> np.ndarray:
    """Rows of all links, but that of the first run to the window: gathering writes there."""
    runs, rows = spec.topology.runs, []
    targets = [*(run.links for run in runs), spec.topology.head_links]
    for target, links in enumerate(targets):
        written: set[int] = set()
        for link in links:
            source_turned = link.source != WINDOW and runs[link.source].reverse
            turned = source_turned != (target < len(runs) and runs[target].reverse)
            row = np.full(tables.N_FIELDS, -1, dtype=np.int64)
            row[[tables.SOURCE, tables.TARGET, tables.COLUMN]] = link.source, target, link.column
            row[[tables.TURNED, tables.ADDS]] = turned, link.column in written
            written.add(link.column)
            if target > 0 or link.source != WINDOW:
                rows.append(row)
    return np.array(rows)


def take_output_gradients(
    drops: bool, n_steps: int, rows: int, layers: np.ndarray, links: np.ndarray, head_reads_all: bool, work: Heap
) -> None:
    """Where the gradient of every run's outputs stands: with the one run that reads it as it is, or in a sum.

    Dropout changes it in place, which must not reach other runs that the reader reads.
    """
    for i, layer in enumerate(layers):
        of_run = links[links[:, tables.SOURCE] == i]
        readers = of_run[of_run[:, tables.TARGET] < len(layers)]
        to_head = head_reads_all and len(of_run) > len(readers)
        if len(readers) == 0 and not to_head:
            continue
        is_alone = len(readers) == 1 and not to_head and not readers[0, tables.TURNED]
        above = layers[readers[0, tables.TARGET]] if is_alone else layer
        as_it_is = is_alone and above[tables.IN] == layer[tables.UNITS]
        if as_it_is and drops:
            as_it_is = np.count_nonzero(links[:, tables.TARGET] == readers[0, tables.TARGET]) == 1
        layer[tables.SUMMED] = not (as_it_is and layer[tables.TAPE] * layer[tables.DILATION] == n_steps)
        layer[tables.DOUT] = above[tables.DX]
        if layer[tables.SUMMED]:
            n_rows = layer[tables.TAPE] * layer[tables.DILATION] * rows
            layer[tables.DOUT] = work.take(n_rows * layer[tables.PADDED])
