"""The whole network: runs of cells, and a head, or a decoder, on their hidden states.

Letters: B rows, T steps, F features, K outputs, E known-future inputs a step, Q quantiles. Windows are ``[B,T,F]``,
what runs read and give ``[T,B,.]``; ``tsforecast.topology`` says which run reads which::

    1a   h^0 = x, time-major
    1b   x^r = sum of the h^s that run r reads, each in its own columns
    1c   h^r = run(x^r)                             for every run r, from the window upwards
    1d   h^r = mask * h^r                           dropout, in training only (``noise``)
    2    y   = head(h^1, h^2, ..., x, future)        or decoder(states of the last layer, future)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.reference import decoder, head, run
from tsforecast.backends.reference.cell import State
from tsforecast.backends.reference.noise import Noise, expected
from tsforecast.spec import NetworkSpec
from tsforecast.topology import WINDOW, Run

Array = NDArray[np.float64]


class Tape(NamedTuple):
    """What the backward pass needs."""

    runs: list[run.Tape]  # their h as others read it, line 1d included
    head: head.Tape | decoder.Tape
    noise: Noise | None

    def last_states(self) -> list[State]:
        """What every run ends with."""
        return [tape.last_state() for tape in self.runs]


class Gradient(NamedTuple):
    """Derivatives by all that enters the network, and by the states in it."""

    params: Array  # [P]
    x: Array  # [B,T,F]
    future: Array  # [B,K,E]
    states: list[Array]  # [T,B,H] a run


def forward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F] as the network sees it, after normalisation
    future: Array,  # [B,K,E]
    teacher: decoder.Teacher | None = None,  # for training a decoder
    noise: Noise | None = None,  # for training; None: what is expected of it
    given: list[State] | None = None,  # what every run starts from, of a stateful network
) -> tuple[Array, Tape]:
    """Return the outputs ``[B,K*Q]`` and the tapes of all runs and of the head."""
    p = spec.views(params)
    tapes: list[run.Tape] = []
    window = x.transpose(1, 0, 2)  # 1a
    for i, r in enumerate(spec.topology.runs):
        read = np.zeros((*window.shape[:2], r.inputs))
        for link in r.links:
            h = window if link.source == WINDOW else tapes[link.source].h
            read[:, :, link.column : link.column + h.shape[2]] += h  # 1b
        disturbed = expected(spec, i, len(x)) if noise is None else noise.of_run(i)
        start = given[i] if given else None
        tape = run.forward(spec.cell, r, read, run.params_of(p, r.name), disturbed, start)  # 1c
        if noise is not None and spec.dropout:
            tape = tape._replace(h=tape.h * _in_time(r, noise.dropout(i)))  # 1d
        tapes.append(tape)
    if spec.decoder == "dense":
        y, read_by_head = head.forward(spec, p, x, future, tapes)  # 2
        return y, Tape(tapes, read_by_head, noise)
    y, decoded = decoder.forward(spec, p, tapes, future, teacher)  # 2
    return y, Tape(tapes, decoded, noise)


def backward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F]
    tape: Tape,
    dy: Array,  # [B,K*Q]
    n_steps: int | None = None,  # from the end of the window, that the gradient goes back; see ``base.gradient_steps``
) -> Gradient:
    """Undo ``forward``."""
    p = spec.views(params)
    dparams = np.zeros(spec.n_params)
    dp = spec.views(dparams)
    dh = [np.zeros_like(part.h) for part in tape.runs]
    dx, dlast = np.zeros_like(x), None
    if isinstance(tape.head, decoder.Tape):
        dlast, dfuture = decoder.backward(spec, p, dp, tape.head, dy, dh)  # 2
    else:
        dx, dfuture = head.backward(spec, p, dp, x, tape.head, dy, dh)  # 2
    runs, first = spec.topology.runs, 0 if n_steps is None else spec.n_timesteps - n_steps
    for i in reversed(range(len(runs))):
        r = runs[i]
        own, d_own = run.params_of(p, r.name), run.params_of(dp, r.name)
        d_state = dlast if i == spec.topology.decoder_source else None
        if tape.noise is not None and spec.dropout:
            dh[i] *= _in_time(r, tape.noise.dropout(i))  # 1d
        dread = run.backward(spec.cell, r, dh[i], tape.runs[i], own, d_own, d_state, first)  # 1c
        for link in r.links:
            if link.source == WINDOW:
                dx += dread.transpose(1, 0, 2)  # 1b 1a
            else:
                dh[link.source] += dread[:, :, link.column : link.column + runs[link.source].units]  # 1b
    return Gradient(dparams, dx, dfuture, dh)


def _in_time(r: Run, steps: Array) -> Array:
    """Turn ``[T,B,H]`` from the order in which a run takes its steps into that of time."""
    return steps[::-1] if r.reverse else steps
