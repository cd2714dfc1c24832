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

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tsforecast.backends.cpu import tables
from tsforecast.backends.cpu.attention_places import AttentionPlaces, take_weights
from tsforecast.backends.cpu.attention_places import take_buffers as take_attention_buffers
from tsforecast.backends.cpu.decoder_places import DecoderPlaces
from tsforecast.backends.cpu.decoder_places import take_buffers as take_decoder_buffers
from tsforecast.backends.cpu.net import Net, fields_of, net_type
from tsforecast.backends.cpu.packing import panels, places
from tsforecast.backends.cpu.run_places import (
    Heap,
    decoder_row,
    link_rows,
    run_rows,
    take_all_buffers,
    take_output_gradients,
    take_run_buffers,
)
from tsforecast.backends.cpu.shapes import CELL_SHAPES, check_supported
from tsforecast.backends.cpu.tile import whole_vectors
from tsforecast.cells import CELLS
from tsforecast.spec import NetworkSpec

# What a work buffer is for; each holds what the one before does, and more.
INFERENCE, TRAINING, INPUT_GRADIENT = 0, 1, 2
# Rows of a chunk of forecasts: a multiple of every tile's rows; fewer where the states of all steps would be large.
INFERENCE_ROWS, FEWEST_INFERENCE_ROWS, INFERENCE_NUMBERS = 48, 6, 3_000_000
EVALUATION_ROWS = 8 * INFERENCE_ROWS


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


def inference_plan(spec: NetworkSpec, n_windows: int) -> Plan:
    """Plan for forecasts of ``n_windows`` windows, in chunks of a bounded size."""
    spec = spec.without_dropout
    return make_plan(spec, 1 if spec.stateful else max(1, min(n_windows, _inference_rows(spec))), INFERENCE)


@lru_cache(maxsize=64)
def _inference_rows(spec: NetworkSpec) -> int:
    """Most rows of a chunk of forecasts."""
    check_supported(spec)
    numbers = spec.n_timesteps * sum(run.inputs + run.units for run in spec.topology.runs)
    return min(INFERENCE_ROWS, max(1, INFERENCE_NUMBERS // numbers // FEWEST_INFERENCE_ROWS) * FEWEST_INFERENCE_ROWS)


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
    T, shape = spec.n_timesteps, CELL_SHAPES[spec.cell]
    head_skip = T * spec.n_features if spec.linear_skip else 0
    head_units, out_width = spec.topology.head_units, whole_vectors(spec.head_size)
    weights, work = Heap(), Heap()
    learns, map_width, decodes = purpose != INFERENCE, whole_vectors(spec.map_size), spec.decoder != "dense"
    layers, own_row = run_rows(spec, n_steps, weights), decoder_row(spec, weights)
    attention = "additive" if spec.decoder == "recurrent_attention" else spec.attention
    pool = take_weights(attention, spec.hidden_sizes[-1] if decodes else head_units, head_units, weights.take)
    of_states = head_units if pool.n_units < 0 else 2 * pool.padded
    head_read = spec.hidden_sizes[-1] if decodes else of_states + spec.n_outputs * spec.n_future
    head_in = head_skip + 1 + head_read
    head_w = weights.take(head_in * map_width)
    n_with_gradient = weights.size
    take_all_buffers(spec, layers, rows, learns, purpose == INPUT_GRADIENT, weights, work)
    links = link_rows(spec)
    if learns:
        take_output_gradients(spec.dropout > 0, n_steps, rows, layers, links, pool.n_units >= 0, work)
    backward = rows * learns
    widest = max(layer[tables.DILATION] * layer[tables.PADDED] for layer in layers)
    n_queries = spec.n_outputs if decodes else 1
    pool = take_attention_buffers(pool, T, rows, learns, n_queries, weights.take, work.take)
    decoder, head = DecoderPlaces(), work.take(rows * head_in)
    future, future_row, future_step = head + head_skip + 1 + of_states, head_in, spec.n_future
    if decodes:
        take_run_buffers(spec.cell, own_row, rows, learns, True, weights, work)
        decoder = take_decoder_buffers(spec, own_row, rows, learns, work.take)
        future, future_row, future_step = int(own_row[tables.XH]) + 1, int(own_row[tables.ROW]), 0
    de_width = whole_vectors(head_units if decodes else head_read)
    net = net_type(spec.cell, spec.attention, spec.decoder, spec.is_noisy, spec.n_future > 0)(
        **fields_of(spec),
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
        future=future,
        future_row=future_row,
        future_step=future_step,
        pool=pool if decodes or pool.n_units >= 0 else (),
        decoder=decoder if decodes else (),
        rest=work.take(2 * rows * widest * spec.is_noisy),
    )
    return net, np.concatenate([layers, links]), weights.size, work.size
