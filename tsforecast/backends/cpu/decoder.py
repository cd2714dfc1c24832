"""The decoder: outputs step by step by a cell of its own; equations as in ``backends.reference.decoder``.

Its cell is run by the kernels of the encoder's, one step at a time, on buffers of a run of K steps (``at.row``); rows
of ``xh`` are (r | future | context | 1 | h ...). So the map to the outputs, and the query of the attention, read (1 |
h) where it stands. Letters: B rows, K outputs, E known-future inputs a step, Q quantiles, D inputs and H units of the
cell, Hp = H in whole vectors, W units of the encoder's outputs.
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.cpu import cells, links
from tsforecast.backends.cpu.attention import KERNELS
from tsforecast.backends.cpu.jit import kernel
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.layer import to_panels
from tsforecast.backends.cpu.optional import optional
from tsforecast.backends.cpu.rows import clear, copy_row, tail
from tsforecast.backends.cpu.tables import (
    DILATION,
    DX,
    EXTRA,
    GATES,
    IN,
    KEPT,
    PADDED,
    ROW,
    STATES,
    TAPE,
    UNITS,
    WH_T,
    WX_T,
    XH,
    C,
    W,
)
from tsforecast.backends.cpu.tile import multiply

_make_keys, _attend, _attend_backward, _keys_backward = KERNELS["additive"]


@kernel
def _begin(net, layers, B, weights, work):
    """Line 0, and the keys of the attention."""
    at, encoder, T = net.decoder, layers[net.decoder.source], net.n_timesteps
    D, S, d = at.row[IN], at.row[ROW], encoder[DILATION]
    for row in range((net.n_outputs + 1) * B):
        work[at.row[XH] + row * S + D] = 1
    # Where states are kept the last is behind all others, else it has taken the first one's place.
    last = (T - 1) % d + (encoder[TAPE] * d if encoder[KEPT] >= 0 else 0)
    for b in range(B):
        h = encoder[XH] + ((T - 1 + d) * B + b) * encoder[ROW] + encoder[IN] + 1
        copy_row(work, h, work, at.row[XH] + b * S + D + 1, S - D - 1)
        c = encoder[C] + (last * B + b) * encoder[STATES]
        copy_row(work, c, work, at.row[C] + b * at.row[STATES], at.row[STATES])
    if net.pool.n_units >= 0:
        pool = net.pool
        for row in range(T * B):
            clear(work, pool.states + row * pool.padded + pool.n_units, pool.padded - pool.n_units)
        links.read_links(net, layers, net.n_layers, T, B, work, pool.states, pool.padded)
        _make_keys(
            T, B, pool.n_units, tail(weights, pool.w_k), tail(work, pool.states), tail(work, pool.keys),
            tail(work, pool.keys_t), tail(work, pool.states_t), pool.dstates >= 0,
        )  # fmt: skip


@kernel
def _read(net, k, B, weights, work):
    """Lines 1 and 2 of step ``k``: what the cell reads, but for the known-future inputs, which are there."""
    at, pool, T = net.decoder, net.pool, net.n_timesteps
    D, S = at.row[IN], at.row[ROW]
    x = at.row[XH] + k * B * S
    for b in range(B):
        r = work[net.out + b * net.out_width + (k - 1) * net.n_quantiles + at.middle] if k > 0 else work[x + D] * 0
        if k > 0 and at.forced >= 0 and work[at.forced + b * net.n_outputs + k - 1] > 0:
            r = work[at.told + b * net.n_outputs + k - 1]
        work[x + b * S] = r
    if pool.n_units >= 0:
        Wp, Bp = pool.padded, (B + LANES - 1) // LANES * LANES
        _attend(
            T, B, pool.n_units, pool.w_rows, tail(weights, pool.w_q), tail(weights, pool.w_v), tail(work, x + D), S,
            tail(work, pool.states), tail(work, pool.keys_t), tail(work, pool.states_t),
            tail(work, pool.q + k * B * Wp), tail(work, pool.weights + k * T * Bp), tail(work, at.context), Wp,
            tail(work, pool.z),
        )  # fmt: skip
        for b in range(B):
            copy_row(work, at.context + b * Wp, work, x + b * S + 1 + net.n_future, pool.n_units)


@kernel
def _map(net, k, B, weights, work):
    """Line 4 of step ``k``."""
    at, Q = net.decoder, net.n_quantiles
    D, S = at.row[IN], at.row[ROW]
    multiply(
        B, at.y_row // LANES, 1 + at.row[UNITS], work, at.row[XH] + (k + 1) * B * S + D, S, 1, weights, net.head_w, 0,
        work, at.y, at.y_row, LANES, False,
    )  # fmt: skip
    for b in range(B):
        copy_row(work, at.y + b * at.y_row, work, net.out + b * net.out_width + k * Q, Q)


@kernel
def _decode(net, layers, B, weights, work):
    """All outputs, at ``work[net.out]``, keeping what ``decode_backward`` needs."""
    row = net.decoder.row
    _begin(net, layers, B, weights, work)
    for k in range(net.n_outputs):
        _read(net, k, B, weights, work)
        cells.forward(
            net, k, k + 1, net.n_outputs, B, row[IN], row[UNITS], tail(weights, row[W]), tail(weights, row[EXTRA]),
            tail(work, row[XH]), tail(work, row[C]), tail(work, row[GATES]), tail(work, row[KEPT]),
        )  # fmt: skip
        _map(net, k, B, weights, work)


@kernel
def _decode_only(net, layers, B, weights, work):
    """The outputs of ``decode`` alone, in a buffer laid out for inference."""
    row, S = net.decoder.row, net.decoder.row[ROW]
    _begin(net, layers, B, weights, work)
    for k in range(net.n_outputs):
        _read(net, k, B, weights, work)
        cells.infer(
            net, 1, B, row[IN], row[UNITS], tail(weights, row[W]), tail(weights, row[EXTRA]),
            tail(work, row[XH] + k * B * S), tail(work, row[C]), tail(work, row[GATES]),
        )  # fmt: skip
        _map(net, k, B, weights, work)


@kernel
def _map_backward(net, k, B, weights, work, dw):
    """Lines 4 and 1 of step ``k`` backwards: dh grows."""
    at, Q, K, row = net.decoder, net.n_quantiles, net.n_outputs, net.decoder.row
    D, S, V = row[IN], row[ROW], at.y_row // LANES
    Dp = (D + LANES - 1) // LANES * LANES
    clear(work, at.y, B * at.y_row)
    for b in range(B):
        copy_row(work, net.dout + b * net.out_width + k * Q, work, at.y + b * at.y_row, Q)
        if k < K - 1 and work[at.forced + b * K + k] == 0:
            work[at.y + b * at.y_row + at.middle] += work[row[DX] + ((k + 1) * B + b) * Dp]  # 1
    to_panels(B, V, tail(work, at.y), tail(work, at.y_panels))
    h = row[XH] + (k + 1) * B * S + D
    multiply(
        1 + row[UNITS], V, B, work, h, 1, S, work, at.y_panels, 0, dw, net.head_w, 0, (1 + row[UNITS]) * LANES, True
    )
    multiply(
        B, row[PADDED] // LANES, at.y_row, work, at.y, at.y_row, 1, weights, net.head_wt, 0, work, net.dh, S - D - 1,
        LANES, True,
    )  # fmt: skip


@kernel
def _read_backward(net, k, B, weights, work, dw):
    """Line 2 of step ``k`` backwards: dh grows, and the shares of keys and states."""
    at, pool, T, row = net.decoder, net.pool, net.n_timesteps, net.decoder.row
    if pool.n_units >= 0:
        D, S, Wp, Bp = row[IN], row[ROW], pool.padded, (B + LANES - 1) // LANES * LANES
        Dp = (D + LANES - 1) // LANES * LANES
        clear(work, at.context, B * Wp)
        for b in range(B):
            dx = row[DX] + (k * B + b) * Dp
            copy_row(work, dx + 1 + net.n_future, work, at.context + b * Wp, pool.n_units)
        _attend_backward(
            T, B, pool.n_units, pool.w_rows, pool.n_query, tail(weights, pool.w_q_t), tail(weights, pool.w_v),
            tail(work, row[XH] + k * B * S + D), S, tail(work, pool.states), tail(work, pool.keys),
            tail(work, pool.states_t), tail(work, pool.q + k * B * Wp), tail(work, pool.weights + k * T * Bp),
            tail(work, at.context), Wp, tail(work, pool.dscores), tail(work, pool.dq), tail(work, net.dh), S - D - 1,
            tail(work, pool.dkeys), tail(work, pool.dstates), tail(dw, pool.w_q), tail(dw, pool.w_v),
            tail(work, pool.z),
        )  # fmt: skip


@kernel
def _decode_backward(net, layers, B, weights, work, dw):
    """Undo ``decode``, from ``work[net.dout]``: the encoder's outputs and its last state get their share."""
    at, pool, row = net.decoder, net.pool, net.decoder.row
    D, S = row[IN], row[ROW]
    clear(work, net.de, B * net.de_width)
    clear(work, net.dh, B * (S - D - 1))
    clear(work, net.dc, B * row[STATES])
    if pool.n_units >= 0:
        clear(work, pool.dkeys, net.n_timesteps * B * pool.padded)
        clear(work, pool.dstates, net.n_timesteps * B * pool.padded)
    for k in range(net.n_outputs - 1, -1, -1):
        _map_backward(net, k, B, weights, work, dw)
        cells.backward(
            net, k, k + 1, net.n_outputs, B, D, row[UNITS], tail(weights, row[WH_T]), tail(weights, row[WX_T]),
            tail(weights, row[EXTRA]), tail(work, row[XH]), tail(work, row[C]), tail(work, row[KEPT]),
            tail(work, row[GATES]), tail(work, net.dh), False, True, True, tail(work, net.dh), tail(work, net.dc),
            tail(work, net.dz), tail(work, row[DX]), tail(dw, row[W]), tail(dw, row[EXTRA]),
        )  # fmt: skip
        _read_backward(net, k, B, weights, work, dw)
    if pool.n_units >= 0:
        _keys_backward(
            net.n_timesteps, B, pool.n_units, tail(weights, pool.w_k_t), tail(work, pool.states),
            tail(work, pool.dkeys), tail(work, pool.dstates), tail(dw, pool.w_k), tail(work, pool.z),
        )  # fmt: skip
    copy_row(work, net.dh, work, at.dh, B * (S - D - 1))
    copy_row(work, net.dc, work, at.dc, B * row[STATES])


@kernel
def _hand_back(net, layers, i, B, work):
    """Add the gradient by the decoder's first state to that of the run ``i`` that it is the last state of."""
    at, layer = net.decoder, layers[i]
    if i == at.source:
        n_fed, n_state, first = layer[ROW] - layer[IN] - 1, layer[STATES], (net.n_timesteps - 1) % layer[DILATION] * B
        for q in range(B * n_fed):
            work[net.dh + first * n_fed + q] += work[at.dh + q]
        for q in range(B * n_state):
            work[net.dc + first * n_state + q] += work[at.dc + q]


@kernel
def _read_teacher(net, B, data, rows, frame, base, work):
    """Write which targets are told, and these in the units of the loss."""
    at, K = net.decoder, net.n_outputs
    for b in range(B):
        for k in range(K):
            y = data.targets[data.y_starts[rows[b]] + k * data.y_stride]
            work[at.told + b * K + k] = (np.float64(y) - frame[b, 0]) / frame[b, 1] - base[b, k]
            work[at.forced + b * K + k] = data.forced[rows[b], k] if len(data.forced) > 0 else 0


@kernel
def _forget_teacher(net, B, work):
    """No target is told."""
    clear(work, net.decoder.forced, B * net.n_outputs)


def _where_decoded(chosen):
    return optional(lambda net: None if net.decodes == "dense" else chosen)


decode, decode_only, decode_backward = map(_where_decoded, (_decode, _decode_only, _decode_backward))
hand_back, read_teacher, forget_teacher = map(_where_decoded, (_hand_back, _read_teacher, _forget_teacher))
