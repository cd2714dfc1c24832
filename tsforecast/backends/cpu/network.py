"""One shard of a batch through the network and back: gather, layers, head, loss.

``net`` and ``layers`` are those of ``plan``; ``weights`` the packed weights; ``work`` one thread's buffer; ``frame
[B,2]`` and ``base [B,K]`` float64. The head reads rows (window | 1 | last states | context | future), the window only
with a linear skip, the context with an attention, the future with known-future inputs; a ``decoder`` takes its place.
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.cpu import decoder, links, noisy, pooling, run
from tsforecast.backends.cpu.future import read_future
from tsforecast.backends.cpu.jit import inlined
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.layer import to_panels
from tsforecast.backends.cpu.optional import decodes
from tsforecast.backends.cpu.rows import copy_row, tail
from tsforecast.backends.cpu.tables import (
    DILATION,
    DOUT,
    DX,
    EXTRA,
    GATES,
    IN,
    KEPT,
    ROW,
    START,
    STATES,
    STEPS,
    TAPE,
    UNITS,
    WH_T,
    WX_T,
    XH,
    C,
    W,
)  # fmt: skip
from tsforecast.backends.cpu.tile import multiply
from tsforecast.backends.cpu.windows import gather


@inlined
def read_windows(net, layers, B, values, x_starts, rows, work, frame, base):
    """Gather a shard's windows into the first layer's input and the head's."""
    gather(
        net.n_timesteps, B, net.n_features, net.n_outputs, net.season, net.norm, net.skip, layers[0, ROW],
        net.head_in, values, x_starts, rows, tail(work, layers[0, XH]), tail(work, net.head), frame, base,
    )  # fmt: skip
    read_future((net, B, values, x_starts, rows, work))


@inlined
def forward(
    net, layers, B, weights, work, noise,
    carried,  # [rows,.] states of a stateful network: in from the windows before, out for those after; else [0,0]
    first,  # place of the first row in it
):  # fmt: skip
    """Run all layers and the head, keeping what ``backward`` needs; the outputs stand at ``work[net.out]``."""
    for i in range(net.n_layers):
        layer = layers[i]
        links.enter(net, layers, i, B, weights, work)
        if len(carried) > 0:
            links.take_states(layer, B, work, carried, first)
        rows, n_steps, t = B * layer[DILATION], (layer[STEPS] - 1) % layer[TAPE] + 1, 0
        while t < layer[STEPS]:  # as many steps at a time as are kept; a shorter turn comes first
            if t > 0:
                copy_row(work, layer[C] + n_steps * rows * layer[STATES], work, layer[C], rows * layer[STATES])
                n_steps = layer[TAPE]
            run.forward(
                net, noise, layers, i, t, work, 0, n_steps, n_steps, rows, layer[IN], layer[UNITS],
                tail(weights, layer[W]), tail(weights, layer[EXTRA]), tail(work, layer[XH] + t * rows * layer[ROW]),
                tail(work, layer[C]), tail(work, layer[GATES]), tail(work, layer[KEPT]),
            )  # fmt: skip
            t += n_steps
        if len(carried) > 0:
            links.leave_states(layer, B, work, carried, first, n_steps)
    if not decodes(net):
        _head(net, layers, B, weights, work)
    decoder.decode((net, layers, B, weights, work))


@inlined
def infer(net, layers, B, weights, work, carried, first):
    """The outputs of ``forward`` alone, in a buffer laid out for inference."""
    for i in range(net.n_layers):
        links.enter(net, layers, i, B, weights, work)
        if len(carried) > 0:
            links.take_states(layers[i], B, work, carried, first)
        _infer_layer(net, layers, i, B, weights, work)
        if len(carried) > 0:
            links.leave_states(layers[i], B, work, carried, first, np.int64(0))
    if not decodes(net):
        _head(net, layers, B, weights, work)
    decoder.decode_only((net, layers, B, weights, work))


@inlined
def step(net, layers, B, weights, work):
    """``infer`` for windows of one step, from the states in the buffer, which become those after the step."""
    for i in range(net.n_layers):
        layer = layers[i]
        for b in range(B):
            work[layer[XH] + b * layer[ROW] + layer[IN]] = 1
        links.read_links(net, layers, i, 1, B, work, layer[XH], layer[ROW])
        _infer_layer(net, layers, i, B, weights, work)
    _head(net, layers, B, weights, work)
    for i in range(net.n_layers):
        layer = layers[i]
        S, D = layer[ROW], layer[IN]
        for b in range(B):
            at = layer[XH] + b * S + D + 1
            copy_row(work, at + B * S, work, at, S - D - 1)


@inlined
def _infer_layer(net, layers, i, B, weights, work):
    layer = layers[i]
    run.infer(
        net, layers, i, work, layer[STEPS], B * layer[DILATION], layer[IN], layer[UNITS], tail(weights, layer[W]),
        tail(weights, layer[EXTRA]), tail(work, layer[XH]), tail(work, layer[C]), tail(work, layer[GATES]),
    )  # fmt: skip


@inlined
def _head(net, layers, B, weights, work):
    """Dense map of the last hidden states (and the window) to ``[B, out_width]`` at ``work[net.out]``."""
    for b in range(B):
        work[net.head + b * net.head_in + net.head_skip] = 1
    links.read_last_states(net, layers, B, work)
    pooling.pool((net, layers, B, weights, work))
    multiply(
        B, net.out_width // LANES, net.head_in, work, net.head, net.head_in, 1, weights, net.head_w, 0,
        work, net.out, net.out_width, LANES, False,
    )  # fmt: skip


@inlined
def backward(
    net, layers, B, weights, work, noise,
    dw,  # [n_gradient] packed gradient of this shard, accumulates
):  # fmt: skip
    """Undo ``forward``, from the output gradient ``[B, out_width]`` at ``work[net.dout]``.

    In a buffer laid out for it, the gradients by what runs read stand at ``work[layer[DX]]`` afterwards.
    """
    if not decodes(net):
        _head_backward(net, B, weights, work, dw)
    decoder.decode_backward((net, layers, B, weights, work, dw))
    for i in range(net.n_layers - 1, -1, -1):
        layer = layers[i]
        links.gradient_from_above(net, layers, i, B, net.de_width, work)
        pooling.send_states((net, layers, i, B, work))
        decoder.hand_back((net, layers, i, B, work))
        xh = layer[XH] + (layer[STEPS] - layer[TAPE]) * B * layer[DILATION] * layer[ROW]
        noisy.drop_gradient((net, noise, layers, i, B, work))
        run.backward(
            net, noise, layers, i, work, 0, layer[TAPE], layer[TAPE], B * layer[DILATION], layer[IN], layer[UNITS],
            tail(weights, layer[WH_T]), tail(weights, max(0, layer[WX_T])), tail(weights, layer[EXTRA]),
            tail(work, xh), tail(work, layer[C]), tail(work, layer[KEPT]), tail(work, layer[GATES]),
            tail(work, max(0, layer[DOUT])), layer[DOUT] >= 0, layer[DX] >= 0, layer[START] >= 0,
            tail(work, net.dh), tail(work, net.dc), tail(work, net.dz), tail(work, max(0, layer[DX])),
            tail(dw, layer[W]), tail(dw, layer[EXTRA]),
        )  # fmt: skip
        links.start_gradient(net, layers, i, B, work, dw)


@inlined
def _head_backward(net, B, weights, work, dw):
    """Undo ``_head``: the gradient by what it read stands at ``net.de``."""
    V = net.out_width // LANES
    to_panels(B, V, tail(work, net.dout), tail(work, net.dout_panels))
    multiply(
        net.head_in, V, B, work, net.head, 1, net.head_in, work, net.dout_panels, 0,
        dw, net.head_w, 0, net.head_in * LANES, True,
    )  # fmt: skip
    multiply(
        B, net.de_width // LANES, net.out_width, work, net.dout, net.out_width, 1, weights, net.head_wt, 0, work,
        net.de, net.de_width, LANES, False,
    )  # fmt: skip
    pooling.pool_backward((net, B, weights, work, dw, net.de_width))
