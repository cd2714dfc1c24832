"""One shard of a batch through the network and back: gather, layers, head, loss.

``net`` and ``layers`` are those of ``plan``; ``weights`` the packed weights; ``work`` one thread's buffer; ``frame
[B,2]`` and ``base [B,K]`` float64. The head reads rows (window | 1 | h_T), the window only with a linear skip.
"""

from __future__ import annotations

from tsforecast.backends.cpu import cells
from tsforecast.backends.cpu.jit import inlined
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.layer import clear_state, to_panels
from tsforecast.backends.cpu.plan import DX, EXTRA, GATES, IN, KEPT, PADDED, ROW, STATE, UNITS, WH_T, WX_T, XH, C, W
from tsforecast.backends.cpu.tile import multiply
from tsforecast.backends.cpu.windows import gather


@inlined
def read_windows(net, layers, B, values, x_starts, rows, work, frame, base):
    """Gather a shard's windows into the first layer's input and the head's."""
    gather(
        net.n_timesteps, B, net.n_features, net.n_outputs, net.season, net.norm, net.skip, layers[0, ROW],
        net.head_in, values, x_starts, rows, work[layers[0, XH] :], work[net.head :], frame, base,
    )  # fmt: skip


@inlined
def forward(net, layers, B, weights, work):
    """Run all layers and the head, keeping what ``backward`` needs; the outputs stand at ``work[net.out]``."""
    for i in range(net.n_layers):
        _enter(net, layers, i, B, work)
        cells.forward(
            net, net.n_timesteps, B, layers[i, IN], layers[i, UNITS], weights[layers[i, W] :],
            weights[layers[i, EXTRA] :], work[layers[i, XH] :], work[layers[i, C] :], work[layers[i, GATES] :],
            work[layers[i, KEPT] :],
        )  # fmt: skip
    _head(net, layers, B, weights, work)


@inlined
def infer(net, layers, B, weights, work):
    """The outputs of ``forward`` alone, in a buffer laid out for inference."""
    for i in range(net.n_layers):
        _enter(net, layers, i, B, work)
        _infer_layer(net, layers, i, net.n_timesteps, B, weights, work)
    _head(net, layers, B, weights, work)


@inlined
def step(net, layers, B, weights, work):
    """``infer`` for windows of one step, from the states in the buffer, which become those after the step."""
    for i in range(net.n_layers):
        for b in range(B):
            work[layers[i, XH] + b * layers[i, ROW] + layers[i, IN]] = 1
        if i > 0:
            _pass_up(1, B, layers, i, work)
        _infer_layer(net, layers, i, 1, B, weights, work)
    _head(net, layers, B, weights, work)
    for i in range(net.n_layers):
        S = layers[i, ROW]
        for b in range(B):
            for u in range(layers[i, IN] + 1, S):
                work[layers[i, XH] + b * S + u] = work[layers[i, XH] + (B + b) * S + u]


@inlined
def _infer_layer(net, layers, i, T, B, weights, work):
    cells.infer(
        net, T, B, layers[i, IN], layers[i, UNITS], weights[layers[i, W] :], weights[layers[i, EXTRA] :],
        work[layers[i, XH] :], work[layers[i, C] :], work[layers[i, GATES] :],
    )  # fmt: skip


@inlined
def _enter(net, layers, i, B, work):
    """Prepare the input rows and the state of layer ``i``."""
    clear_state(
        net.n_timesteps, B, layers[i, IN], layers[i, ROW], layers[i, STATE], work[layers[i, XH] :],
        work[layers[i, C] :],
    )  # fmt: skip
    if i > 0:
        _pass_up(net.n_timesteps, B, layers, i, work)


@inlined
def _pass_up(T, B, layers, i, work):
    """Copy the hidden states of the layer below into the input columns of layer ``i``."""
    S_below, S, D = layers[i - 1, ROW], layers[i, ROW], layers[i, IN]
    for row in range(T * B):
        source = layers[i - 1, XH] + (row + B) * S_below + layers[i - 1, IN] + 1
        for u in range(D):
            work[layers[i, XH] + row * S + u] = work[source + u]


@inlined
def _head(net, layers, B, weights, work):
    """Dense map of the last hidden state (and the window) to ``[B, out_width]`` at ``work[net.out]``."""
    top = net.n_layers - 1
    S = layers[top, ROW]
    states = layers[top, XH] + net.n_timesteps * B * S + layers[top, IN] + 1
    for b in range(B):
        row = net.head + b * net.head_in + net.head_skip
        work[row] = 1
        for u in range(layers[top, UNITS]):
            work[row + 1 + u] = work[states + b * S + u]
    multiply(
        B, net.out_width // LANES, net.head_in, work, net.head, net.head_in, 1, weights, net.head_w, 0,
        work, net.out, net.out_width, LANES, False,
    )  # fmt: skip


@inlined
def backward(
    net, layers, B, weights, work,
    dw,  # [n_gradient] packed gradient of this shard, accumulates
    input_gradient,  # bool: leave dx of the first layer at work[layers[0, DX]]
):  # fmt: skip
    """Undo ``forward``, from the output gradient ``[B, out_width]`` at ``work[net.dout]``."""
    V = net.out_width // LANES
    to_panels(B, V, work[net.dout :], work[net.dout_panels :])
    multiply(
        net.head_in, V, B, work, net.head, 1, net.head_in, work, net.dout_panels, 0,
        dw, net.head_w, 0, net.head_in * LANES, True,
    )  # fmt: skip
    for i in range(net.n_layers - 1, -1, -1):
        is_top = i == net.n_layers - 1
        n_fed = layers[i, ROW] - layers[i, IN] - 1  # h, and what else a step feeds back
        for q in range(B * n_fed):
            work[net.dh + q] = 0
        for q in range(net.dz - net.dc):
            work[net.dc + q] = 0
        if is_top:
            multiply(
                B, layers[i, PADDED] // LANES, net.out_width, work, net.dout, net.out_width, 1, weights, net.head_wt,
                0, work, net.dh, n_fed, LANES, False,
            )  # fmt: skip
        dout = net.dh if is_top else layers[i + 1, DX]
        cells.backward(
            net, net.n_timesteps, B, layers[i, IN], layers[i, UNITS], weights[layers[i, WH_T] :],
            weights[max(0, layers[i, WX_T]) :], weights[layers[i, EXTRA] :], work[layers[i, XH] :],
            work[layers[i, C] :], work[layers[i, KEPT] :], work[layers[i, GATES] :], work[dout:], not is_top,
            i > 0 or input_gradient, False, work[net.dh :], work[net.dc :], work[net.dz :],
            work[max(0, layers[i, DX]) :], dw[layers[i, W] :], dw[layers[i, EXTRA] :],
        )  # fmt: skip
