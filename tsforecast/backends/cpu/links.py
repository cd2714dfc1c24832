"""What passes between runs: hidden states upwards in the forward pass, sums of gradients on the way back.

Layouts are those of ``plan``, links those of ``tables``. Letters: T steps of a window, B rows, D inputs and H units of
a run, S width of a row of its ``xh``. Row t B + b is step t of row b, where a run begins with its own first step.
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.rows import clear, copy_row
from tsforecast.backends.cpu.tables import (
    ADDS,
    CARRIED,
    COLUMN,
    DILATION,
    DOUT,
    DX,
    IN,
    OUT,
    PADDED,
    ROW,
    SOURCE,
    START,
    START_C,
    STATES,
    STEPS,
    SUMMED,
    TAPE,
    TARGET,
    TURNED,
    UNITS,
    UP,
    XH,
    C,
)


@kernel
def move(
    link,  # [N_FIELDS]
    T, B, n,
    work,
    source, source_row,  # n numbers from here on, for every t and b, of rows so wide
    target, target_row,
    adds,  # whether they are added to what is there
):  # fmt: skip
    """Copy or add ``T*B`` rows of ``n`` numbers from one place of the work buffer to another."""
    for t in range(T):
        t_source = T - 1 - t if link[TURNED] > 0 else t
        for b in range(B):
            a, c = source + (t_source * B + b) * source_row, target + (t * B + b) * target_row
            if adds > 0:
                for u in range(n):
                    work[c + u] += work[a + u]
            else:
                copy_row(work, a, work, c, n)


@kernel
def enter(net, layers, i, B, weights, work):
    """Put run ``i`` into its first state, learned or zero, and write what it reads of other runs."""
    layer = layers[i]
    D, S, n_state, H = layer[IN], layer[ROW], layer[STATES], layer[UNITS]
    xh, c, n_rows = layer[XH], layer[C], B * layer[DILATION]
    n_filled, T = layer[STEPS] * n_rows, net.n_timesteps
    for row in range(n_filled + n_rows):
        work[xh + row * S + D] = 1
    clear(work, c, n_rows * n_state)
    for b in range(n_rows):
        h = xh + b * S + D + 1
        clear(work, h, S - D - 1)
        if layer[START] >= 0:
            copy_row(weights, layer[START], work, h, H)
        if layer[START_C] >= 0:
            copy_row(weights, layer[START_C], work, c + b * n_state, H)
    for row in range(T * B, n_filled):  # what fills up the last step of a dilated run
        clear(work, xh + row * S, D)
    read_links(net, layers, i, T, B, work, xh, S)


@inlined
def outputs(layer, B):
    """Where what a run passes upwards stands, from its first step on, and how wide the rows are."""
    if layer[UP] >= 0:
        return layer[UP], layer[PADDED]
    if layer[OUT] >= 0:
        return layer[OUT] + B * layer[DILATION] * layer[PADDED], layer[PADDED]
    return layer[XH] + B * layer[DILATION] * layer[ROW] + layer[IN] + 1, layer[ROW]


@kernel
def take_states(layer, B, work, carried, first):
    """Start a run from the states of rows ``first..first+B-1`` of ``carried``."""
    D, S, n_state = layer[IN], layer[ROW], layer[STATES]
    for b in range(B):
        row, at, n_fed = carried[first + b], layer[CARRIED], S - D - 1
        copy_row(row, at, work, layer[XH] + b * S + D + 1, n_fed)
        copy_row(row, at + n_fed, work, layer[C] + b * n_state, n_state)


@kernel
def leave_states(
    layer, B, work, carried, first,
    n_steps,  # place of the last state in c
):  # fmt: skip
    """Undo ``take_states`` after the last step: keep the states that the run ends with."""
    D, S, n_state = layer[IN], layer[ROW], layer[STATES]
    for b in range(B):
        row, at, n_fed = carried[first + b], layer[CARRIED], S - D - 1
        copy_row(work, layer[XH] + (layer[STEPS] * B + b) * S + D + 1, row, at, n_fed)
        copy_row(work, layer[C] + (n_steps * B + b) * n_state, row, at + n_fed, n_state)


@kernel
def read_links(
    net, layers, i, T, B, work,
    to, S,  # rows from here on, so wide
):  # fmt: skip
    """Write what run ``i``, or with ``net.n_layers`` the head, reads of other runs at all steps."""
    for k in range(net.n_layers, len(layers)):
        link = layers[k]
        if link[TARGET] == i:
            s = link[SOURCE]
            source, width, n = layers[0, XH], layers[0, ROW], layers[0, IN]  # the window, where the first run has it
            if s >= 0:
                n = layers[s, UNITS]
                source, width = outputs(layers[s], B)
            move(link, T, B, n, work, source, width, to + link[COLUMN], S, link[ADDS])


@inlined
def read_last_states(net, layers, B, work):
    """Write what the head reads of the runs."""
    for k in range(net.n_layers, len(layers)):
        link = layers[k]
        if link[TARGET] == net.n_layers:
            run = layers[link[SOURCE]]
            source, S = outputs(run, B)
            source += (net.n_timesteps - 1) * B * S
            to = net.head + net.head_skip + 1 + link[COLUMN]
            move(link, np.int64(1), B, run[UNITS], work, source, S, to, net.head_in, link[ADDS])


@kernel
def gradient_from_above(
    net, layers, i, B,
    n_de,  # the head sends ``[B, n_de]`` at ``net.de``
    work,
):  # fmt: skip
    """Gradients by the last state of run ``i``, into dh and dc, and by every output, where these must be added up."""
    layer = layers[i]
    n_rows, n_fed = B * layer[DILATION], layer[ROW] - layer[IN] - 1
    T = min(net.n_timesteps, layer[TAPE] * layer[DILATION])
    Hp, one = layer[PADDED], np.int64(1)  # a literal would have ``move`` compiled once more
    clear(work, net.dh, n_rows * n_fed)
    clear(work, net.dc, n_rows * layer[STATES])
    last = net.dh + (T - 1) % layer[DILATION] * B * n_fed
    if layer[SUMMED] > 0:
        clear(work, layer[DOUT], layer[TAPE] * n_rows * Hp)
    for k in range(net.n_layers, len(layers)):
        link = layers[k]
        if link[SOURCE] == i and link[TARGET] == net.n_layers:
            move(link, one, B, layer[UNITS], work, net.de + link[COLUMN], n_de, last, n_fed, one)
        elif link[SOURCE] == i and layer[SUMMED] > 0:
            reader = layers[link[TARGET]]
            width = (reader[IN] + LANES - 1) // LANES * LANES
            move(link, T, B, layer[UNITS], work, reader[DX] + link[COLUMN], width, layer[DOUT], Hp, one)


@inlined
def start_gradient(net, layers, i, B, work, dw):
    """Add to the gradient of a learned first state, from dh and dc."""
    layer = layers[i]
    n_fed, n_state = layer[ROW] - layer[IN] - 1, layer[STATES]
    if layer[START] >= 0:
        for b in range(B * layer[DILATION]):
            for u in range(layer[UNITS]):
                dw[layer[START] + u] += work[net.dh + b * n_fed + u]
                if layer[START_C] >= 0:
                    dw[layer[START_C] + u] += work[net.dc + b * n_state + u]


@inlined
def window_gradient(net, layers, B, work, dx):
    """Gradient ``dx [B,T,F]`` by the window, from all runs that read it."""
    T, width = net.n_timesteps, (net.n_features + LANES - 1) // LANES * LANES
    for b in range(B):
        for t in range(T):
            for f in range(net.n_features):
                dx[b, t, f] = work[layers[0, DX] + (t * B + b) * width + f]
                for k in range(net.n_layers, len(layers)):
                    if layers[k, SOURCE] < 0:
                        t_reader = T - 1 - t if layers[k, TURNED] > 0 else t
                        dx[b, t, f] += work[layers[layers[k, TARGET], DX] + (t_reader * B + b) * width + f]
