r"""The decoder: a cell that goes on where the encoder has stopped, one step of the forecast after the other.

Letters: B rows, K steps of the forecast, T steps of the window, H units of the decoder's cell, W units of the encoder's
outputs, E known-future inputs a step, Q quantiles. Forward, for k = 1..K::

    0    s_0 = the state of the forward run of the last layer after the newest step, all its parts
    1    r_k = y_{k-1}, of the middle quantile; the true target where it is forced; r_1 = 0
    2    context_k = attention of h_{k-1} over the encoder's outputs          decoder="recurrent_attention"
    3    s_k = layer((r_k | future_k | context_k), s_{k-1})                   one step of the cell
    4    y_k = h_k W_head + b_head                                            the same for all k

r_k, y_k and the targets are in the units of the loss. An output that is fed back passes its gradient on; a target that
is forced has none. Each backward line names the one that it undoes.

References
----------
I. Sutskever, O. Vinyals, Q. Le: Sequence to Sequence Learning with Neural Networks. NIPS 2014.
D. Bahdanau, K. Cho, Y. Bengio: Neural Machine Translation by Jointly Learning to Align and Translate. ICLR 2015 (2).
S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer: Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks.
NIPS 2015 (forced targets).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.reference import attention, dense, head, layer, run
from tsforecast.backends.reference.cell import Params, State
from tsforecast.backends.reference.cells import CELLS
from tsforecast.cells import CELLS as CELL_SPECS
from tsforecast.spec import NetworkSpec

Array = NDArray[np.float64]


class Teacher(NamedTuple):
    """What training tells the decoder."""

    target: Array  # [B,K] in the units of the loss
    forced: NDArray[np.bool_]  # [B,K] whether step k+1 reads the target of step k, not the output


class Tape(NamedTuple):
    """What the backward pass needs; the attention's parts are None, and its list empty, where there is none."""

    steps: list[layer.Tape]  # [K] of one step each
    asked: list[attention.Tape]  # [K]
    states: Array | None  # [T,B,W]
    keys: Array | None  # [T,B,W]
    forced: NDArray[np.bool_]  # [B,K]


def forward(
    spec: NetworkSpec,
    p: Params,  # all blocks by their names
    tapes: list[run.Tape],
    future: Array,  # [B,K,E]
    teacher: Teacher | None,  # None: every step reads the output before it
) -> tuple[Array, Tape]:
    """Return the outputs ``[B,K*Q]`` and the tape."""
    n_rows = len(future)
    own, own_attention = run.params_of(p, "decoder."), run.params_of(p, "decoder.attention.")
    states = keys = None
    if own_attention:
        states = head.all_states(spec, tapes)
        keys = attention.keys(states, own_attention)
    state = tapes[spec.topology.decoder_source].last_state()  # 0
    forced = np.zeros((n_rows, spec.n_outputs), dtype=bool) if teacher is None else teacher.forced
    y = np.empty((n_rows, spec.n_outputs, spec.n_quantiles))
    r, steps, asked = np.zeros(n_rows), [], []
    for k in range(spec.n_outputs):
        read = [r[:, None], future[:, k]]
        if states is not None and keys is not None:
            context, tape = attention.attend(state[0], keys, states, own_attention)  # 2
            asked.append(tape)
            read.append(context)
        steps.append(layer.forward(CELLS[spec.cell], np.concatenate(read, axis=1)[None], own, state))  # 3
        state = steps[-1].last
        y[:, k] = dense.forward(state[0], p["head.w"], p["head.b"])  # 4
        r = y[:, k, spec.middle_quantile]  # 1
        if teacher is not None:
            r = np.where(forced[:, k], teacher.target[:, k], r)  # 1
    return y.reshape(n_rows, -1), Tape(steps, asked, states, keys, forced)


def backward(
    spec: NetworkSpec,
    p: Params,
    dp: Params,  # accumulated into
    tape: Tape,
    dy: Array,  # [B,K*Q]
    dh: list[Array],  # [T,B,H] a run: the derivatives by its states, accumulated into
) -> tuple[State, Array]:
    """Undo ``forward``; return the derivatives by ``s_0``, ``[B,H]`` each, and by ``future [B,K,E]``."""
    n_states = len(CELL_SPECS[spec.cell].states)
    own, own_attention = run.params_of(p, "decoder."), run.params_of(p, "decoder.attention.")
    d_own, d_attention = run.params_of(dp, "decoder."), run.params_of(dp, "decoder.attention.")
    dy = dy.reshape(-1, spec.n_outputs, spec.n_quantiles).copy()
    dfuture = np.empty((len(dy), spec.n_outputs, spec.n_future))
    dstate: State = tuple(np.zeros_like(tape.steps[0].h[0]) for _ in range(n_states))
    if tape.states is not None and tape.keys is not None:
        dkeys, dstates = np.zeros_like(tape.keys), np.zeros_like(tape.states)
    for k in reversed(range(spec.n_outputs)):
        dh_k = dense.backward(dy[:, k], tape.steps[k].last[0], p["head.w"], dp["head.w"], dp["head.b"])  # 4
        dread, dstate = layer.backward(CELLS[spec.cell], dh_k[None], tape.steps[k], own, d_own, n_states, dlast=dstate)
        dr, dfuture[:, k], dcontext = np.split(dread[0], [1, 1 + spec.n_future], axis=1)  # 3
        if tape.states is not None and tape.keys is not None:
            dquery = attention.attend_backward(
                dcontext, tape.asked[k], tape.keys, tape.states, own_attention, d_attention, dkeys, dstates
            )  # 2
            dstate = (dstate[0] + dquery, *dstate[1:])
        if k > 0:
            dy[:, k - 1, spec.middle_quantile] += np.where(tape.forced[:, k - 1], 0.0, dr[:, 0])  # 1
    if tape.states is not None:
        attention.keys_backward(dkeys, tape.states, own_attention, d_attention, dstates)  # 2
        head.spread(spec, dstates, dh)  # 2
    return dstate, dfuture
