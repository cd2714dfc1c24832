"""The compiled entry points: a training epoch, the loss, forecasts and gradients. Each runs without the GIL.

Threads. A batch is cut into shards, a number that depends on the batch alone (``shard_count``); thread j takes shards
j, j + n, ...; then every thread adds up the shards' gradients, in their order, for its own panels, and after the global
norm is known steps its own panels (``steps``). So the bits do not depend on the number of threads.
What ``rule``, ``data``, ``state`` and ``memory`` hold stands in ``arguments``.
"""

from __future__ import annotations

import math

import numpy as np

from tsforecast.backends.cpu import decoder, links, network
from tsforecast.backends.cpu.future import future_gradient
from tsforecast.backends.cpu.jit import entry, inlined
from tsforecast.backends.cpu.lanes import LANES, load, store
from tsforecast.backends.cpu.losses import batch_loss
from tsforecast.backends.cpu.noise import EXPECTED, Noise, step_key
from tsforecast.backends.cpu.optimizers import set_scalars
from tsforecast.backends.cpu.rows import clear, tail
from tsforecast.backends.cpu.steps import (
    clip_factor,
    penalty_rate,
    step_panel,
    sum_columns,
    sum_panel,
    transpose_panel,
)
from tsforecast.backends.cpu.sync import HALT, STOP, atomic_load, atomic_store, wait_for_all
from tsforecast.backends.cpu.windows import NORM_NONE

DONE, STOPPED, DIVERGED = 0, 1, 2
ROWS_A_SHARD, MOST_SHARDS = 16, 16


def shard_count(n_rows):
    """Shards of a batch of ``n_rows``."""
    return max(1, min(MOST_SHARDS, n_rows // ROWS_A_SHARD))


_shard_count = inlined(shard_count)


def most_shard_rows(batch_size):
    """Rows of the largest shard of a batch of so many rows, or of fewer (the last one of an epoch)."""
    return max(-(-batch_size // shard_count(batch_size)), min(batch_size, 2 * ROWS_A_SHARD - 1))


@entry
def pack(
    flat,  # [P]
    runs,  # [n_runs, 3]
    packed,  # out: the places of parameters
):  # fmt: skip
    """Copy parameters, or what is laid out as they are, to their places."""
    for r in range(len(runs)):
        source, target, n = runs[r, 0], runs[r, 1], runs[r, 2]
        if n == LANES:  # most are
            store(packed, target, load(flat, source))
        else:
            for i in range(n):
                packed[target + i] = flat[source + i]


@entry
def unpack(packed, runs, flat):
    """Undo ``pack``."""
    for r in range(len(runs)):
        target, source, n = runs[r, 0], runs[r, 1], runs[r, 2]
        if n == LANES:
            store(flat, target, load(packed, source))
        else:
            for i in range(n):
                flat[target + i] = packed[source + i]


@inlined
def shard_step(net, layers, rule, data, rows, first, share, packed, memory, noise, thread, shard):
    """Loss and gradient of one shard, whose rows stand from ``first`` on in the batch, into ``memory``."""
    work, frame, base = memory.work[thread], memory.frame[thread], memory.base[thread]
    dw, B, N = memory.shard_gradients[shard], len(rows), net.out_width
    clear(dw, 0, net.n_gradient)
    network.read_windows(net, layers, B, data.values, data.x_starts, rows, work, frame, base)
    decoder.read_teacher((net, B, data, rows, frame, base, work))
    network.forward(net, layers, B, packed, work, noise, memory.carried, first)
    memory.shard_losses[shard] = batch_loss(
        B, net.n_outputs, net.n_quantiles, N, rule, data.targets, data.y_starts, data.y_stride, data.weights,
        rows, share, frame, base, tail(work, net.out), tail(work, net.dout),
    )  # fmt: skip
    network.backward(net, layers, B, packed, work, noise, dw)


@entry
def train_epoch(
    thread, n_threads, sync, net, layers, panels, columns, rule, data, order, batch_size,
    rates,  # [batches] float64
    state, memory,
    step,  # steps taken before
    seed,  # of the noise
):  # fmt: skip
    """One thread's part of an epoch; returns a status."""
    weights = state.weights
    for panel in range(thread, len(panels), n_threads):
        transpose_panel(panels[panel], weights)
    if not wait_for_all(sync, n_threads):
        return STOPPED
    for batch in range(len(rates)):
        rows = order[batch * batch_size : (batch + 1) * batch_size]
        weight = 0.0
        for i in rows:
            weight += np.float64(data.weights[i])
        if weight == 0.0:
            continue
        n_shards, key = _shard_count(len(rows)), step_key(seed, step)
        for s in range(thread, n_shards, n_threads):
            first = s * len(rows) // n_shards
            mine, noise = rows[first : (s + 1) * len(rows) // n_shards], Noise(key, first)
            if atomic_load(sync, STOP) == 0:  # else thread 0 sees the flag, too, and this step is not taken
                shard_step(net, layers, rule, data, mine, first, 1.0 / weight, weights, memory, noise, thread, s)
        if not wait_for_all(sync, n_threads):
            return STOPPED
        decay = penalty_rate(rule, 1.0 / weight)
        for panel in range(thread, len(panels), n_threads):
            sum_panel(
                panels[panel], n_shards, decay, rule.max_value, weights, memory.shard_gradients, memory.norms,
                memory.penalties,
            )  # fmt: skip
        if thread == 0:
            atomic_store(sync, HALT, atomic_load(sync, STOP))
        if not wait_for_all(sync, n_threads):
            return STOPPED
        norm = math.sqrt(sum_columns(columns, memory.norms))
        loss = sum_columns(columns, memory.penalties) if decay > 0.0 else 0.0
        for s in range(n_shards):
            loss += memory.shard_losses[s]
        if atomic_load(sync, HALT) != 0:
            return STOPPED
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return DIVERGED
        step += 1
        scalars = memory.scalars[thread]
        set_scalars(rule, rates[batch], step, clip_factor(rule, norm), scalars)
        gradient = memory.shard_gradients[0]
        for panel in range(thread, len(panels), n_threads):
            step_panel(panels[panel], rule, scalars, weights, gradient, state.m, state.v)
        if thread == 0:
            memory.totals[0] += loss * weight
            memory.totals[1] += weight
            memory.totals[2] += 1
        if not wait_for_all(sync, n_threads):
            return STOPPED
    return DONE


@entry
def evaluate(
    net, layers, rule, data, first, last, packed, work, frame, base, carried,
    total,  # [1] float64 out: sum of weight * loss
    sync,
):  # fmt: skip
    """Loss of the rows ``first..last-1``, without learning; returns a status."""
    capacity = len(frame)
    rows = np.empty(capacity, np.int64)
    total[0] = 0.0
    for start in range(first, last, capacity):
        if atomic_load(sync, STOP) != 0:
            return STOPPED
        B = min(capacity, last - start)
        for b in range(B):
            rows[b] = start + b
        network.read_windows(net, layers, B, data.values, data.x_starts, rows, work, frame, base)
        network.infer(net, layers, B, packed, work, carried, 0)
        total[0] += batch_loss(
            B, net.n_outputs, net.n_quantiles, net.out_width, rule, data.targets, data.y_starts, data.y_stride,
            data.weights, rows, 1.0, frame, base, tail(work, net.out), tail(work, net.dout),
        )  # fmt: skip
    return DONE


@entry
def predict(
    net, layers, values, x_starts, first, last, packed, work, frame, base, carried, sync,
    result,  # [N,K*Q] out
):  # fmt: skip
    """Forecast the windows ``first..last-1``; returns a status."""
    n, Q = last - first, net.n_quantiles
    rows = np.empty(len(frame), np.int64)
    n_chunks = (n + len(rows) - 1) // len(rows)
    for chunk in range(n_chunks):  # of about the same size
        start = first + n * chunk // n_chunks
        B = first + n * (chunk + 1) // n_chunks - start
        for b in range(B):
            rows[b] = start + b
        network.read_windows(net, layers, B, values, x_starts, rows, work, frame, base)
        network.infer(net, layers, B, packed, work, carried, 0)
        for b in range(B):
            for j in range(net.n_outputs * Q):
                y = work[net.out + b * net.out_width + j]
                if net.norm != NORM_NONE or net.season > 0:
                    result[start + b, j] = (np.float64(y) + base[b, j // Q]) * frame[b, 1] + frame[b, 0]
                else:
                    result[start + b, j] = y
        if atomic_load(sync, STOP) != 0:
            return STOPPED
    return DONE


@entry
def gradient(
    net, layers, panels, values, x_starts, packed, work, frame, base, carried,
    cotangent,  # [B,K*Q]
    out,  # [B,K*Q] out
    dw,  # [n_gradient] zeros; packed gradient
    dx,  # [B,T,F] out, without what passes through the linear skip
    d_future,  # [B,K*E] out
):  # fmt: skip
    """Outputs and gradients of ``sum(outputs * cotangent)`` for one batch."""
    B, N, noise = len(x_starts), net.out_width, Noise(np.int64(EXPECTED), np.int64(0))
    for panel in panels:
        transpose_panel(panel, packed)
    rows = np.arange(B)
    network.read_windows(net, layers, B, values, x_starts, rows, work, frame, base)
    decoder.forget_teacher((net, B, work))
    network.forward(net, layers, B, packed, work, noise, carried, 0)
    n = cotangent.shape[1]
    for b in range(B):
        for j in range(N):
            work[net.dout + b * N + j] = cotangent[b, j] if j < n else 0
        for j in range(n):
            out[b, j] = work[net.out + b * N + j]
    network.backward(net, layers, B, packed, work, noise, dw)
    links.window_gradient(net, layers, B, work, dx)
    future_gradient((net, B, work, d_future))
