"""Runs under noise: step by step where something happens between the steps, and what they pass upwards.

Recurrent dropout and zoneout need nothing of a cell but kernels that can go step by step: between two steps stands,
with k and mask as in ``backends.reference.noise``::

    1a   h'_t     = k h'_{t-1} + (1 - k) h_t        h_t, c_t: what the cell has made of h'_{t-1} mask and c'_{t-1}
    1b   c'_t     = k c'_{t-1} + (1 - k) c_t
    2    h_{in}   = h'_t mask                       what the next multiply reads, in ``xh``
    3    up_t     = h'_t dropout                    what other runs and the head read

A cell that reads h_{t-1} elsewhere than in the multiply, too, finds h'_{t-1} in c (``CellShape.carries_h``).

Letters: T steps of a turn, n rows at a step (of all streams of a dilated run), S width of a row of ``xh``, Hp units in
whole vectors. Beside the buffers of ``lstm``: ``out [T+1,n,Hp]`` = h', from the run's first step on; ``up [T,n,Hp]``;
``own_c [T,n,Hp]`` c_t, which zoneout hides from the backward pass; ``mask [B,Hp]``; ``net.rest [2,n,Hp]`` the gradient
by the state before that does not pass through the cell, and room for c'_{t-1} in inference. No cell's ``backward``
looks for its h_t in ``xh``: there stands what the multiplies read, for the weight gradient of many steps at once.
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.cpu import cells
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.noise import (
    EXPECTED,
    add_row,
    drop_rows,
    mask_row,
    mix_row,
    multiply_row,
    run_key,
    unmix_row,
    write_mask,
)
from tsforecast.backends.cpu.optional import optional
from tsforecast.backends.cpu.rows import clear, copy_row, tail
from tsforecast.backends.cpu.shuffle import hash64
from tsforecast.backends.cpu.tables import (
    DILATION,
    DOUT,
    IN,
    MASK,
    OUT,
    OWN_C,
    PADDED,
    ROW,
    STATES,
    STEPS,
    TAPE,
    UP,
    XH,
    C,
)
from tsforecast.backends.reference.noise import DROPOUT, RECURRENT, ZONEOUT

ZONEOUT_H, ZONEOUT_C = ZONEOUT["h"], ZONEOUT["c"]


@inlined
def _goes_by_steps(net):
    return net.recurrent_dropout > 0.0 or net.zoneout > 0.0


@inlined
def _word(noise, net, key, layer, t, b, n):
    """Line 3 of the noise for row ``b`` of step ``t`` of a run."""
    B = n // layer[DILATION]
    return hash64(key, (noise.first + b % B) * net.n_timesteps + t * layer[DILATION] + b // B)


@kernel
def _begin(net, noise, layer, i, n, work):
    """Keep the first state, and mask h where the first multiply reads it."""
    Hp, S, xh = layer[PADDED], layer[ROW], layer[XH] + layer[IN] + 1
    B = n // layer[DILATION]
    if net.recurrent_dropout > 0.0:
        write_mask(noise, run_key(noise, i, RECURRENT), B, Hp, net.recurrent_dropout, work, layer[MASK])
    for b in range(n):
        if _goes_by_steps(net):
            copy_row(work, xh + b * S, work, layer[OUT] + b * Hp, Hp)
        if net.carries_h > 0:
            copy_row(work, xh + b * S, work, layer[C] + b * Hp, Hp)
        if net.recurrent_dropout > 0.0:
            multiply_row(Hp, work, xh + b * S, layer[MASK] + b % B * Hp, xh + b * S)


@kernel
def _after_step(
    net, noise, layer, i,
    before,  # steps of the run before the turn
    t,  # step of the turn
    n, work,
):  # fmt: skip
    """Lines 1a to 2."""
    Hp, S, n_state, B, mask = layer[PADDED], layer[ROW], layer[STATES], n // layer[DILATION], layer[MASK]
    key_h, key_c = run_key(noise, i, ZONEOUT_H), run_key(noise, i, ZONEOUT_C)
    is_drawn, step, zones_out = noise.key != EXPECTED, before + t, net.zoneout > 0.0
    for stream in range(0, n, B):
        for row in range(B):
            b = stream + row
            h, out = layer[XH] + ((step + 1) * n + b) * S + layer[IN] + 1, layer[OUT] + ((step + 1) * n + b) * Hp
            c = layer[C] + ((t + 1) * n + b) * n_state
            if zones_out:
                word = _word(noise, net, key_h, layer, step, b, n)
                mix_row(is_drawn, word, net.zoneout, Hp, work, out - n * Hp, h, h)  # 1a
            if zones_out and net.zones_c > 0:
                copy_row(work, c, work, layer[OWN_C] + (t * n + b) * Hp, Hp)
                word = _word(noise, net, key_c, layer, step, b, n)
                mix_row(is_drawn, word, net.zoneout, Hp, work, c - n * n_state, c, c)  # 1b
            if net.carries_h > 0:
                copy_row(work, h, work, c, Hp)
            if net.recurrent_dropout > 0.0:
                mask_row(Hp, work, h, mask + row * Hp, out)  # 2
            else:
                copy_row(work, h, work, out, Hp)


@kernel
def forward(net, noise, layers, i, before, work, first, last, T, n, D, H, w, extra, xh, c, gates, kept):
    """All steps of a turn; ``before`` it come as many steps of the run. Buffers as in ``lstm.forward``."""
    layer = layers[i]
    if before == 0:
        _begin(net, noise, layer, i, n, work)
    if _goes_by_steps(net):
        for t in range(first, last):
            cells.forward(net, t, t + 1, T, n, D, H, w, extra, xh, c, gates, kept)
            _after_step(net, noise, layer, i, before, t, n, work)
    else:
        cells.forward(net, first, last, T, n, D, H, w, extra, xh, c, gates, kept)
    if net.dropout > 0.0:
        B, end = n // layer[DILATION], min((before + T) * n, net.n_timesteps * (n // layer[DILATION]))
        row = before * n if layer[DOUT] >= 0 else max(before * n, (net.n_timesteps - 1) * B)  # who else reads the head
        source, width = layer[XH] + n * layer[ROW] + layer[IN] + 1, layer[ROW]
        if layer[OUT] >= 0:
            source, width = layer[OUT] + n * layer[PADDED], layer[PADDED]
        drop_rows(
            run_key(noise, i, DROPOUT), noise.first, net.n_timesteps, B, row, end, layer[PADDED], net.dropout, work,
            source + row * width, width, layer[UP] + row * layer[PADDED], layer[PADDED],
        )  # fmt: skip


@kernel
def _drop_gradient(net, noise, layers, i, B, work):
    """Line 3 backwards, on what ``links.gradient_from_above`` left."""
    if net.dropout > 0.0:
        layer, T = layers[i], net.n_timesteps
        Hp, n_fed, key = layer[PADDED], layer[ROW] - layer[IN] - 1, run_key(noise, i, DROPOUT)
        at = net.dh + (T - 1) % layer[DILATION] * B * n_fed
        drop_rows(key, noise.first, T, B, (T - 1) * B, T * B, Hp, net.dropout, work, at, n_fed, at, n_fed)
        if layer[DOUT] >= 0:
            row = (layer[STEPS] - layer[TAPE]) * B * layer[DILATION]
            drop_rows(key, noise.first, T, B, row, T * B, Hp, net.dropout, work, layer[DOUT], Hp, layer[DOUT], Hp)


@kernel
def _before_step_back(net, noise, layer, i, t, n, work, every_step):
    """Lines 1b and 1a of step ``t`` of the tape backwards, with what others send; c as the cell left it."""
    Hp, n_fed, n_state, before = layer[PADDED], layer[ROW] - layer[IN] - 1, layer[STATES], layer[STEPS] - layer[TAPE]
    key_h, key_c = run_key(noise, i, ZONEOUT_H), run_key(noise, i, ZONEOUT_C)
    is_drawn = noise.key != EXPECTED
    for b in range(n):
        dh, dc, here = net.dh + b * n_fed, net.dc + b * n_state, (t * n + b) * Hp
        if every_step:
            add_row(Hp, work, layer[DOUT] + here, dh)
        word = _word(noise, net, key_h, layer, before + t, b, n)
        unmix_row(is_drawn, word, net.zoneout, Hp, work, dh, net.rest + b * Hp)  # 1a
        if net.zones_c > 0:
            copy_row(work, layer[OWN_C] + here, work, layer[C] + ((t + 1) * n + b) * n_state, Hp)
            word = _word(noise, net, key_c, layer, before + t, b, n)
            unmix_row(is_drawn, word, net.zoneout, Hp, work, dc, net.rest + (n + b) * Hp)  # 1b


@kernel
def _after_step_back(net, layer, t, n, work):
    """Line 2 backwards, and what of the gradient by the state before did not pass through the cell."""
    Hp, n_fed, n_state, B = layer[PADDED], layer[ROW] - layer[IN] - 1, layer[STATES], n // layer[DILATION]
    mask, zones_out = layer[MASK], net.zoneout > 0.0
    sums_up = net.carries_h > 0 and (t == 0 or zones_out)  # else the cell finds in dc what did not pass through it
    for stream in range(0, n, B):
        for row in range(B):
            b = stream + row
            dh, dc = net.dh + b * n_fed, net.dc + b * n_state
            if net.recurrent_dropout > 0.0:
                multiply_row(Hp, work, dh, mask + row * Hp, dh)  # 2
            if sums_up:
                add_row(Hp, work, dc, dh)
                clear(work, dc, Hp)
            if zones_out:
                add_row(Hp, work, net.rest + b * Hp, dh)  # 1a
            if zones_out and net.zones_c > 0:
                add_row(Hp, work, net.rest + (n + b) * Hp, dc)  # 1b


@kernel
def backward(
    net, noise, layers, i, work, first, last, T, n, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step,
    want_dx, want_state, dh, dc, dz, dx, dw, dextra,
):  # fmt: skip
    """Undo ``forward`` for all steps of the tape; buffers as in ``lstm.backward``."""
    layer = layers[i]
    if _goes_by_steps(net):
        for t in range(last - 1, first - 1, -1):
            if net.zoneout > 0.0:
                _before_step_back(net, noise, layer, i, t, n, work, every_step)
            cells.backward(
                net, t, t + 1, T, n, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout,
                every_step and net.zoneout == 0.0, want_dx, want_state, dh, dc, dz, dx, dw, dextra,
            )  # fmt: skip
            _after_step_back(net, layer, t, n, work)
    else:
        cells.backward(
            net, first, last, T, n, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state,
            dh, dc, dz, dx, dw, dextra,
        )  # fmt: skip
        if net.carries_h > 0:
            _after_step_back(net, layer, first, n, work)


@kernel
def infer(net, layers, i, work, T, n, D, H, w, extra, xh, c, z):
    """Lines 1a and 1b as they are expected; buffers as in ``lstm.infer``."""
    layer, one = layers[i], np.int64(1)
    Hp, S = layer[PADDED], layer[ROW]
    for t in range(T):
        for b in range(n):
            h, c_row, before = layer[XH] + (t * n + b) * S + D + 1, layer[C] + b * layer[STATES], net.rest + b * Hp
            if net.carries_h > 0:
                copy_row(work, h, work, c_row, Hp)
            copy_row(work, c_row, work, before, Hp)
        cells.infer(net, one, n, D, H, w, extra, tail(xh, t * n * S), c, z)
        for b in range(n):
            h, c_row, before = layer[XH] + (t * n + b) * S + D + 1, layer[C] + b * layer[STATES], net.rest + b * Hp
            mix_row(False, 0, net.zoneout, Hp, work, h, h + n * S, h + n * S)  # 1a
            if net.zones_c > 0:
                mix_row(False, 0, net.zoneout, Hp, work, before, c_row, c_row)  # 1b


drop_gradient = optional(lambda net: _drop_gradient if net.noisy else None)
