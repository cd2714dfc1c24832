"""Where everything lies: the layout of packed weights and of a thread's work buffer for one network.

Kernels see a network as ``Net`` (sizes and offsets; its type names the cell) and two tables (``tables``), of layers and
of panels. A layer is here one run of a cell (``tsforecast.topology``). A dilation d costs nothing: row t B + b of all
buffers is step t of sample b, so that a run of dilation d sees them as ceil(T / d) steps of d B rows. Steps that fill
up the last of these come after all others, and nothing reads what they make.

The flat parameter vector keeps its public order (``NetworkSpec.blocks``); ``Plan.runs`` says which stretches of it
stand where among the packed weights. Training works on packed weights, gradients and moments throughout; their padding
is and stays zero. Behind the ``n_gradient`` weights that have a gradient stand transposed copies, made from them
(``steps.transpose_panel``).

Letters: L lanes, Hp = units in whole vectors, G gate columns, R vectors of units that a step feeds back, S = D + 1 +
R Hp the width of a row of ``xh``, K rows of the weights; head input of A = T*F (with a skip) + 1 + head_units columns.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from tsforecast.backends.cpu import tables
from tsforecast.backends.cpu.attention_places import AttentionPlaces, take_weights
from tsforecast.backends.cpu.attention_places import take_buffers as take_attention_buffers
from tsforecast.backends.cpu.decoder_places import DecoderPlaces
from tsforecast.backends.cpu.decoder_places import take_buffers as take_decoder_buffers
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.packing import panels, places
from tsforecast.backends.cpu.shapes import CELL_SHAPES
from tsforecast.backends.cpu.tile import whole_vectors
from tsforecast.cells import CELLS
from tsforecast.spec import WINDOW_NORMS, NetworkSpec
from tsforecast.topology import WINDOW, Run

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
    n_layers: int  # runs
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
    de: int  # [B,de_width] gradient by what the head reads behind the 1
    de_width: int
    dh: int
    dc: int
    dz: int
    n_future: int  # E
    future: int  # known-future inputs in the work buffer; E numbers of a step stand together
    future_row: int  # how far apart the rows are
    future_step: int  # and the steps; 0: B rows
    pool: AttentionPlaces | tuple[()]  # of the head, or of the decoder; empty where it would only add to compiling
    decoder: DecoderPlaces | tuple[()]
    dropout: float
    recurrent_dropout: float
    zoneout: float
    carries_h: int  # whether under noise c holds h
    zones_c: int  # whether zoneout is for c, too
    rest: int


@cache
def net_type(cell: str, attention: str, decoder: str, noisy: bool, reads_future: bool) -> type[Net]:
    """A type of its own for all that decides which kernels are compiled. Machine code that is kept names it."""
    parts = [part for part in (attention, decoder) if part not in ("none", "dense")]
    name = "_".join(["Net", cell, *parts, *["noisy"] * noisy, *["future"] * reads_future])
    kind = {"cell": cell, "attention": attention, "decodes": decoder, "noisy": noisy, "reads_future": reads_future}
    made = type(name, (Net,), kind | {"__module__": __name__})
    globals()[name] = made
    return made


class Plan(NamedTuple):
    """Layout of one network for at most ``rows`` rows at once."""

    net: Net
    layers: np.ndarray  # [n_layers + links, N_FIELDS] int64
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
    """Additions and multiplications of all steps for the forecast of one window; learning takes 3 times as many."""
    cell, width = CELLS[spec.cell], spec.topology.head_units
    a_step = sum(
        2 * cell.n_gates * run.units * (run.inputs + 1 + cell.recurrent * run.units) for run in spec.topology.runs
    )
    if spec.attention == "additive" or spec.decoder == "recurrent_attention":
        a_step += 2 * width**2
    if spec.decoder == "dense":
        return spec.n_timesteps * a_step
    units, attends = spec.hidden_sizes[-1], spec.decoder == "recurrent_attention"
    decoded = 2 * cell.n_gates * units * (2 + spec.n_future + units + attends * width)
    return spec.n_timesteps * a_step + spec.n_outputs * (decoded + attends * spec.n_timesteps * 4 * width)


@lru_cache(maxsize=8)  # beside those below: looking up one plan is cheaper than its three parts
def make_plan(spec: NetworkSpec, rows: int, purpose: int, n_steps: int | None = None) -> Plan:
    """Lay out a network for ``INFERENCE``, ``TRAINING`` or ``INPUT_GRADIENT``.

    Gradients go back the last ``n_steps`` steps of a window (``base.gradient_steps``), or all.
    """
    net, layers, n_packed, n_work = _offsets(spec, rows, purpose, n_steps or spec.n_timesteps)
    runs, columns = _places(spec)
    return Plan(net, layers, _panels(spec, purpose), columns, runs, n_packed, n_work, rows)


def carried_states(spec: NetworkSpec, plan: Plan, n_rows: int, dtype: np.dtype) -> np.ndarray:
    """Zero states ``[n_rows, numbers of a row]`` that a stateful network carries on; none for another."""
    last = plan.layers[plan.net.n_layers - 1]
    width = last[tables.CARRIED] + last[tables.ROW] - last[tables.IN] - 1 + last[tables.STATES]
    return np.zeros((n_rows, width) if spec.stateful else (0, 0), dtype)


@lru_cache(maxsize=8)
def _places(spec: NetworkSpec) -> tuple[np.ndarray, np.ndarray]:
    net, layers, _, _ = _offsets(spec, 1, INFERENCE, spec.n_timesteps)
    return places(spec, _rows(net, layers), net.pool or AttentionPlaces(), net.head_w, net.head_in, net.head_skip)


@lru_cache(maxsize=24)
def _panels(spec: NetworkSpec, purpose: int) -> np.ndarray:
    net, layers, _, _ = _offsets(spec, 1, purpose, spec.n_timesteps)
    return panels(
        spec, _rows(net, layers), net.pool or AttentionPlaces(), net.head_w, net.head_in, net.head_skip, net.head_wt
    )


def _rows(net: Net, layers: np.ndarray) -> np.ndarray:
    """Rows of the table of layers for all runs and, behind them, the decoder."""
    decoder = [net.decoder.row] if net.decoder else []
    return np.array([*layers[: net.n_layers], *decoder])


@lru_cache(maxsize=64)
def _offsets(spec: NetworkSpec, rows: int, purpose: int, n_steps: int) -> tuple[Net, np.ndarray, int, int]:
    """Net, table of layers and sizes of the buffers; places of weights with a gradient depend on the network alone."""
    T, runs, shape = spec.n_timesteps, spec.topology.runs, CELL_SHAPES[spec.cell]
    head_skip = T * spec.n_features if spec.linear_skip else 0
    head_units, out_width = spec.topology.head_units, whole_vectors(spec.head_size)
    weights, work = _Heap(), _Heap()
    learns, map_width, decodes = purpose != INFERENCE, whole_vectors(spec.map_size), spec.decoder != "dense"
    layers = np.array([_sizes(spec, run, T, n_steps, spec.learned_states, weights) for run in runs])
    decoder_row = _decoder_sizes(spec, weights)
    attention = "additive" if spec.decoder == "recurrent_attention" else spec.attention
    pool = take_weights(attention, spec.hidden_sizes[-1] if decodes else head_units, head_units, weights.take)
    of_states = head_units if pool.n_units < 0 else 2 * pool.padded
    head_read = spec.hidden_sizes[-1] if decodes else of_states + spec.n_outputs * spec.n_future
    head_in = head_skip + 1 + head_read
    head_w = weights.take(head_in * map_width)
    n_with_gradient = weights.size
    for layer, run in zip(layers, runs, strict=True):
        wants_dx = run.links[0].source != WINDOW or purpose == INPUT_GRADIENT
        _lay_out(spec.cell, layer, rows, learns, wants_dx, weights, work)
        if learns:
            _lay_out_noise(spec, layer, rows, work)
    n_carried = layers[:, tables.ROW] - layers[:, tables.IN] - 1 + layers[:, tables.STATES]
    layers[:, tables.CARRIED] = np.cumsum(n_carried) - n_carried
    links = _links(spec)
    if learns:
        _find_gradients(spec.dropout > 0, n_steps, rows, layers, links, pool.n_units >= 0, work)
    backward = rows * learns
    widest = max(layer[tables.DILATION] * layer[tables.PADDED] for layer in layers)
    n_queries = spec.n_outputs if decodes else 1
    pool = take_attention_buffers(pool, T, rows, learns, n_queries, weights.take, work.take)
    decoder, head = DecoderPlaces(), work.take(rows * head_in)
    future, future_row, future_step = head + head_skip + 1 + of_states, head_in, spec.n_future
    if decodes:
        _lay_out(spec.cell, decoder_row, rows, learns, True, weights, work)
        decoder = take_decoder_buffers(spec, decoder_row, rows, learns, work.take)
        future, future_row, future_step = int(decoder_row[tables.XH]) + 1, int(decoder_row[tables.ROW]), 0
    de_width = whole_vectors(head_units if decodes else head_read)
    net = net_type(spec.cell, spec.attention, spec.decoder, spec.is_noisy, spec.n_future > 0)(
        n_timesteps=T,
        n_features=spec.n_features,
        n_outputs=spec.n_outputs,
        n_quantiles=spec.n_quantiles,
        norm=WINDOW_NORMS[spec.window_norm],
        season=spec.season_length,
        skip=int(spec.linear_skip),
        n_layers=len(runs),
        n_gradient=n_with_gradient,
        head_in=head_in,
        head_skip=head_skip,
        out_width=out_width,
        head_w=head_w,
        head_wt=weights.take(map_width * whole_vectors(head_read)) if backward else -1,
        head=head,
        out=work.take(rows * out_width),
        dout=work.take(rows * out_width),
        dout_panels=work.take(backward * out_width),
        de=work.take(backward * de_width),
        de_width=de_width,
        dh=work.take(backward * shape.n_feedback * widest),
        dc=work.take(backward * shape.n_states * widest),
        dz=work.take(backward * shape.n_gates_kept * widest),
        n_future=spec.n_future,
        future=future,
        future_row=future_row,
        future_step=future_step,
        pool=pool if decodes or pool.n_units >= 0 else (),
        decoder=decoder if decodes else (),
        dropout=float(spec.dropout),
        recurrent_dropout=float(spec.recurrent_dropout),
        zoneout=float(spec.zoneout),
        carries_h=int(shape.carries_h),
        zones_c=int("c" in spec.zoned_states),
        rest=work.take(2 * rows * widest * spec.is_noisy),
    )
    return net, np.concatenate([layers, links]), weights.size, work.size


def _decoder_sizes(spec: NetworkSpec, weights: _Heap) -> np.ndarray:
    """``_sizes`` of a decoder's cell, which is a run of K steps; nothing where there is none."""
    if spec.decoder == "dense":
        return np.empty(0, dtype=np.int64)
    run = Run("decoder.", len(spec.hidden_sizes), spec.decoder_inputs, spec.hidden_sizes[-1], False, 1, ())
    return _sizes(spec, run, spec.n_outputs, spec.n_outputs, (), weights)


def _sizes(
    spec: NetworkSpec, run: Run, n_all: int, n_steps: int, learned: tuple[str, ...], weights: _Heap
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


def _lay_out(
    cell: str, layer: np.ndarray, rows: int, learns: bool, wants_dx: bool, weights: _Heap, work: _Heap
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


def _lay_out_noise(spec: NetworkSpec, layer: np.ndarray, rows: int, work: _Heap) -> None:
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


def _links(spec: NetworkSpec) -> np.ndarray:
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


def _find_gradients(
    drops: bool, n_steps: int, rows: int, layers: np.ndarray, links: np.ndarray, head_reads_all: bool, work: _Heap
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
