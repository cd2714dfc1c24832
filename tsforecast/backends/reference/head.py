"""From the hidden states of the runs to the outputs: what the head reads of them, its dense map, and the linear skip.

Letters: B rows, T steps, F features, W units that the head reads, K outputs, E known-future inputs a step, Q
quantiles::

    1a   e   = sum of the last states of the runs that the head reads, each in its own columns
    1b   s_t = sum of their states at step t, in the same columns               with attention
    1c   e   = (e | attention of e over s_1..s_T)                               with attention
    1d   e   = (e | vec(future))                    with known-future inputs
    2a   y   = e W_head + b_head
    2b   y   = y + vec(x) W_skip                    with a linear skip; vec(x) is time-major

The last state of a run that goes backwards is the one at the oldest step. Each backward line names the one it undoes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.reference import attention, dense, run
from tsforecast.backends.reference.cell import Params
from tsforecast.spec import NetworkSpec

Array = NDArray[np.float64]


class Tape(NamedTuple):
    """What the backward pass needs; the last three are None without attention."""

    read: Array  # [B,W + K*E] or, with attention, [B,2W + K*E]: what the dense map reads
    states: Array | None  # [T,B,W]
    keys: Array | None  # [T,B,W]
    pooled: attention.Tape | None


def forward(
    spec: NetworkSpec,
    p: Params,  # all blocks by their names
    x: Array,  # [B,T,F]
    future: Array,  # [B,K,E]
    tapes: list[run.Tape],
) -> tuple[Array, Tape]:
    """Return the outputs ``[B,K*Q]`` and the tape."""
    read, states, keys, pooled = last_states(spec, tapes), None, None, None
    if spec.attention != "none":
        own = run.params_of(p, "attention.")
        states = all_states(spec, tapes)
        keys = attention.keys(states, own)
        context, pooled = attention.attend(read, keys, states, own)  # 1c
        read = np.concatenate([read, context], axis=1)  # 1c
    read = np.concatenate([read, future.reshape(len(x), -1)], axis=1)  # 1d
    y = dense.forward(read, p["head.w"], p["head.b"])  # 2a
    if spec.linear_skip:
        y = y + dense.forward(x.reshape(len(x), -1), p["skip.w"], 0.0)  # 2b
    return y, Tape(read, states, keys, pooled)


def backward(
    spec: NetworkSpec,
    p: Params,
    dp: Params,  # accumulated into
    x: Array,  # [B,T,F]
    tape: Tape,
    dy: Array,  # [B,K*Q]
    dh: list[Array],  # [T,B,H] a run: the derivatives by its states, accumulated into
) -> tuple[Array, Array]:
    """Undo ``forward``; return what of ``dx [B,T,F]`` passes through the skip, and ``dfuture [B,K,E]``."""
    dx = np.zeros_like(x)
    if spec.linear_skip:
        dx += dense.backward(dy, x.reshape(len(x), -1), p["skip.w"], dp["skip.w"], None).reshape(x.shape)  # 2b
    dread = dense.backward(dy, tape.read, p["head.w"], dp["head.w"], dp["head.b"])  # 2a
    n_read = spec.topology.head_units
    n_future = spec.n_outputs * spec.n_future
    dread, dcontext, dfuture = np.split(dread, [n_read, dread.shape[1] - n_future], axis=1)  # 1c 1d
    if tape.states is not None and tape.keys is not None and tape.pooled is not None:
        own, d_own = run.params_of(p, "attention."), run.params_of(dp, "attention.")
        dkeys, dstates = np.zeros_like(tape.keys), np.zeros_like(tape.states)
        dread = dread + attention.attend_backward(
            dcontext, tape.pooled, tape.keys, tape.states, own, d_own, dkeys, dstates
        )  # 1c
        attention.keys_backward(dkeys, tape.states, own, d_own, dstates)  # 1c
        spread(spec, dstates, dh)  # 1b
    for link in spec.topology.head_links:
        source = spec.topology.runs[link.source]
        dh[link.source][0 if source.reverse else -1] += dread[:, link.column : link.column + source.units]  # 1a
    return dx, dfuture.reshape(len(x), spec.n_outputs, spec.n_future)


def last_states(spec: NetworkSpec, tapes: list[run.Tape]) -> Array:
    """``[B,W]`` line 1a."""
    read = np.zeros((tapes[0].h.shape[1], spec.topology.head_units))
    for link in spec.topology.head_links:
        source = spec.topology.runs[link.source]
        read[:, link.column : link.column + source.units] += tapes[link.source].last(source)  # 1a
    return read


def all_states(spec: NetworkSpec, tapes: list[run.Tape]) -> Array:
    """``[T,B,W]`` line 1b."""
    states = np.zeros((*tapes[0].h.shape[:2], spec.topology.head_units))
    for link in spec.topology.head_links:
        h = tapes[link.source].h
        states[:, :, link.column : link.column + h.shape[2]] += h  # 1b
    return states


def spread(spec: NetworkSpec, dstates: Array, dh: list[Array]) -> None:
    """Undo ``all_states``: add to the derivatives ``[T,B,H]`` by the states of every run."""
    for link in spec.topology.head_links:
        units = spec.topology.runs[link.source].units
        dh[link.source] += dstates[:, :, link.column : link.column + units]  # 1b
