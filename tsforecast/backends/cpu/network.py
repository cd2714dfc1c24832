"""One shard of a batch through the network and back: gather, layers, head, loss.

``net`` and ``layers`` are those of ``plan``; ``weights`` the packed weights; ``work`` one thread's buffer; ``frame
[B,2]`` and ``base [B,K]`` float64. The head reads rows (window | 1 | h_T), the window only with a linear skip.
"""

from __future__ import annotations

from tsforecast.backends.cpu import lstm
from tsforecast.backends.cpu.jit import inlined
from tsforecast.backends.cpu.lanes import LANES, load, store
from tsforecast.backends.cpu.plan import DX, GATES, IN, TANH_C, UNITS, WH_T, WX_T, XH, C, W
from tsforecast.backends.cpu.tile import multiply
from tsforecast.backends.cpu.windows import gather


@inlined
def read_windows(net, layers, B, values, x_starts, rows, work, frame, base):
    """Gather a shard's windows into the first layer's input and the head's."""
    hp = (layers[0, UNITS] + LANES - 1) // LANES * LANES
    stride = net.n_features + 1 + hp
    gather(
        net.n_timesteps, B, net.n_features, net.n_outputs, net.season, net.norm, net.skip, stride,
        net.head_in, values, x_starts, rows, work[layers[0, XH] :], work[net.head :], frame, base,
    )  # fmt: skip


@inlined
def forward(net, layers, B, weights, work):
    """Run all layers and the head, keeping what ``backward`` needs; the outputs stand at ``work[net.out]``."""
    for i in range(net.n_layers):
        xh, c = work[layers[i, XH] :], work[layers[i, C] :]
        _enter(net, layers, i, B, work)
        lstm.forward(
            net.n_timesteps, B, layers[i, IN], layers[i, UNITS], weights[layers[i, W] :],
            xh, c, work[layers[i, GATES] :], work[layers[i, TANH_C] :],
        )  # fmt: skip
    _head(net, layers, B, weights, work)


@inlined
def infer(net, layers, B, weights, work):
    """The outputs of ``forward`` alone, in a buffer laid out for inference."""
    for i in range(net.n_layers):
        xh, c = work[layers[i, XH] :], work[layers[i, C] :]
        _enter(net, layers, i, B, work)
        lstm.infer(
            net.n_timesteps, B, layers[i, IN], layers[i, UNITS], weights[layers[i, W] :], xh, c,
            work[layers[i, GATES] :],
        )  # fmt: skip
    _head(net, layers, B, weights, work)


@inlined
def step(net, layers, B, weights, work):
    """``infer`` for windows of one step, from the states in the buffer, which become those after the step."""
    for i in range(net.n_layers):
        D, H = layers[i, IN], layers[i, UNITS]
        xh, hp = work[layers[i, XH] :], (H + LANES - 1) // LANES * LANES
        S = D + 1 + hp
        for b in range(B):
            xh[b * S + D] = 1
        if i > 0:
            _pass_up(1, B, layers[i - 1, IN], D, H, work[layers[i - 1, XH] :], xh)
        lstm.infer(1, B, D, H, weights[layers[i, W] :], xh, work[layers[i, C] :], work[layers[i, GATES] :])
    _head(net, layers, B, weights, work)
    for i in range(net.n_layers):
        S = layers[i, IN] + 1 + (layers[i, UNITS] + LANES - 1) // LANES * LANES
        for b in range(B):
            for u in range(layers[i, IN] + 1, S):
                work[layers[i, XH] + b * S + u] = work[layers[i, XH] + (B + b) * S + u]


@inlined
def _enter(net, layers, i, B, work):
    """Prepare the input rows and the state of layer ``i``."""
    T, D, H = net.n_timesteps, layers[i, IN], layers[i, UNITS]
    lstm.clear_state(T, B, D, H, work[layers[i, XH] :], work[layers[i, C] :])
    if i > 0:
        _pass_up(T, B, layers[i - 1, IN], D, H, work[layers[i - 1, XH] :], work[layers[i, XH] :])


@inlined
def _head(net, layers, B, weights, work):
    """Dense map of the last hidden state (and the window) to ``[B, out_width]`` at ``work[net.out]``."""
    T, last = net.n_timesteps, net.n_layers - 1
    D, H = layers[last, IN], layers[last, UNITS]
    S = D + 1 + (H + LANES - 1) // LANES * LANES
    states = layers[last, XH] + T * B * S + D + 1
    for b in range(B):
        row = net.head + b * net.head_in + net.head_skip
        work[row] = 1
        for u in range(H):
            work[row + 1 + u] = work[states + b * S + u]
    V = net.out_width // LANES
    multiply(
        B, V, net.head_in, work, net.head, net.head_in, 1, weights, net.head_w,
        work, net.out, net.out_width, LANES, False,
    )  # fmt: skip


@inlined
def _pass_up(T, B, D_below, D, H, below, above):
    """Copy the hidden states of the layer below (D units) into the input columns of the layer above."""
    stride_below = D_below + 1 + (D + LANES - 1) // LANES * LANES
    stride = D + 1 + (H + LANES - 1) // LANES * LANES
    for row in range(T * B):
        source = (row + B) * stride_below + D_below + 1
        for u in range(D):
            above[row * stride + u] = below[source + u]


@inlined
def backward(
    net, layers, B, weights, work,
    dw,  # [n_gradient] packed gradient of this shard, accumulates
    input_gradient,  # bool: leave dx of the first layer at work[layers[0, DX]]
):  # fmt: skip
    """Undo ``forward``, from the output gradient ``[B, out_width]`` at ``work[net.dout]``."""
    T, V = net.n_timesteps, net.out_width // LANES
    _to_panels(B, V, work[net.dout :], work[net.dout_panels :])
    multiply(
        net.head_in, V, B, work, net.head, 1, net.head_in, work, net.dout_panels,
        dw, net.head_w, 0, net.head_in * LANES, True,
    )  # fmt: skip
    top = net.n_layers - 1
    hp = (layers[top, UNITS] + LANES - 1) // LANES * LANES
    multiply(
        B, hp // LANES, net.out_width, work, net.dout, net.out_width, 1, weights, net.head_wt,
        work, net.dh, hp, LANES, False,
    )  # fmt: skip
    for i in range(top, -1, -1):
        below = i < top
        if below:
            hp = (layers[i, UNITS] + LANES - 1) // LANES * LANES
            for q in range(B * hp):
                work[net.dh + q] = 0
        want_dx = i > 0 or input_gradient
        dout = layers[i + 1, DX] if below else net.dh
        lstm.backward(
            T, B, layers[i, IN], layers[i, UNITS],
            weights[layers[i, WH_T] :], weights[max(0, layers[i, WX_T]) :],
            work[layers[i, XH] :], work[layers[i, C] :], work[layers[i, TANH_C] :], work[layers[i, GATES] :],
            work[dout:], below, want_dx,
            work[net.dh :], work[net.dc :], work[net.dz :], work[max(0, layers[i, DX]) :], dw[layers[i, W] :],
        )  # fmt: skip


@inlined
def _to_panels(B, V, rows, panels):
    """Copy a row-major ``[B, V vectors]`` matrix into panels."""
    for v in range(0, V, 4):
        width = min(4, V - v)
        for b in range(B):
            for j in range(width):
                store(panels, (v * B + b * width + j) * LANES, load(rows, (b * V + v + j) * LANES))
