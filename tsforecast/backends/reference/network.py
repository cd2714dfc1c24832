"""The whole network: runs of cells, and a head on their hidden states.

Letters: B rows, T steps, F features, K outputs, Q quantiles. Windows are ``[B,T,F]``, what runs read and give
``[T,B,.]``; ``tsforecast.topology`` says which run reads which::

    1a   h^0 = x, time-major
    1b   x^r = sum of the h^s that run r reads, each in its own columns
    1c   h^r = run(x^r)                             for every run r, from the window upwards
    2    y   = head(h^1, h^2, ..., x)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.reference import head, run
from tsforecast.spec import NetworkSpec
from tsforecast.topology import WINDOW

Array = NDArray[np.float64]


class Tape(NamedTuple):
    """What the backward pass needs."""

    runs: list[run.Tape]
    head: head.Tape


def forward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F] as the network sees it, after normalisation
) -> tuple[Array, Tape]:
    """Return the outputs ``[B,K*Q]`` and the tapes of all runs and of the head."""
    p = spec.views(params)
    tapes: list[run.Tape] = []
    window = x.transpose(1, 0, 2)  # 1a
    for r in spec.topology.runs:
        read = np.zeros((*window.shape[:2], r.inputs))
        for link in r.links:
            h = window if link.source == WINDOW else tapes[link.source].h
            read[:, :, link.column : link.column + h.shape[2]] += h  # 1b
        tapes.append(run.forward(spec.cell, r, read, run.params_of(p, r.name)))  # 1c
    y, tape = head.forward(spec, p, x, tapes)  # 2
    return y, Tape(tapes, tape)


def backward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F]
    tape: Tape,
    dy: Array,  # [B,K*Q]
) -> tuple[Array, Array, list[Array]]:
    """Undo ``forward``; return ``dparams [P]``, ``dx [B,T,F]`` and the derivatives by the states of every run."""
    p = spec.views(params)
    dparams = np.zeros(spec.n_params)
    dp = spec.views(dparams)
    dh = [np.zeros_like(part.h) for part in tape.runs]
    dx = head.backward(spec, p, dp, x, tape.head, dy, dh)  # 2
    runs = spec.topology.runs
    for i in reversed(range(len(runs))):
        r = runs[i]
        own, d_own = run.params_of(p, r.name), run.params_of(dp, r.name)
        dread = run.backward(spec.cell, r, dh[i], tape.runs[i], own, d_own)  # 1c
        for link in r.links:
            if link.source == WINDOW:
                dx += dread.transpose(1, 0, 2)  # 1b 1a
            else:
                dh[link.source] += dread[:, :, link.column : link.column + runs[link.source].units]  # 1b
    return dparams, dx, dh
