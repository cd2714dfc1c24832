"""The whole network: runs of cells, a dense head on their last hidden states, an optional linear skip.

Letters: B rows, T steps, F features, K outputs, Q quantiles. Windows are ``[B,T,F]``, what runs read and give
``[T,B,.]``; ``tsforecast.topology`` says which run reads which::

    1a   h^0 = x, time-major
    1b   x^r = sum of the h^s that run r reads, each in its own columns
    1c   h^r = run(x^r)                             for every run r, from the window upwards
    2a   e   = sum of the last states of the runs that the head reads, each in its own columns
    2b   y   = e W_head + b_head
    2c   y   = y + vec(x) W_skip                    with a linear skip; vec(x) is time-major
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.reference import dense, run
from tsforecast.backends.reference.cell import Params
from tsforecast.spec import NetworkSpec
from tsforecast.topology import WINDOW

Array = NDArray[np.float64]


def forward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F] as the network sees it, after normalisation
) -> tuple[Array, list[run.Tape]]:
    """Return the outputs ``[B,K*Q]`` and the tapes of all runs."""
    p = spec.views(params)
    tapes: list[run.Tape] = []
    window = x.transpose(1, 0, 2)  # 1a
    for r in spec.topology.runs:
        read = np.zeros((*window.shape[:2], r.inputs))
        for link in r.links:
            h = window if link.source == WINDOW else tapes[link.source].h
            read[:, :, link.column : link.column + h.shape[2]] += h  # 1b
        tapes.append(run.forward(spec.cell, r, read, run_params(p, r.name)))  # 1c
    y = dense.forward(head_input(spec, tapes), p["head.w"], p["head.b"])  # 2b
    if spec.linear_skip:
        y = y + dense.forward(x.reshape(len(x), -1), p["skip.w"], 0.0)  # 2c
    return y, tapes


def head_input(spec: NetworkSpec, tapes: list[run.Tape]) -> Array:
    """``[B,head_units]`` what the head reads of the runs."""
    read = np.zeros((tapes[0].h.shape[1], spec.topology.head_units))
    for link in spec.topology.head_links:
        h = tapes[link.source].last(spec.topology.runs[link.source])
        read[:, link.column : link.column + h.shape[1]] += h  # 2a
    return read


def backward(
    spec: NetworkSpec,
    params: Array,  # [P]
    x: Array,  # [B,T,F]
    tapes: list[run.Tape],
    dy: Array,  # [B,K*Q]
) -> tuple[Array, Array]:
    """Undo ``forward``; return ``dparams [P]`` and ``dx [B,T,F]``."""
    p = spec.views(params)
    dparams = np.zeros(spec.n_params)
    dp = spec.views(dparams)
    dx = np.zeros_like(x)
    if spec.linear_skip:
        flat = x.reshape(len(x), -1)
        dx += dense.backward(dy, flat, p["skip.w"], dp["skip.w"], None).reshape(x.shape)  # 2c
    de = dense.backward(dy, head_input(spec, tapes), p["head.w"], dp["head.w"], dp["head.b"])  # 2b
    runs = spec.topology.runs
    dh = [np.zeros_like(tape.h) for tape in tapes]
    for link in spec.topology.head_links:
        source = runs[link.source]
        step = 0 if source.reverse else -1
        dh[link.source][step] += de[:, link.column : link.column + source.units]  # 2a
    for i in reversed(range(len(runs))):
        r = runs[i]
        dread = run.backward(spec.cell, r, dh[i], tapes[i], run_params(p, r.name), run_params(dp, r.name))  # 1c
        for link in r.links:
            if link.source == WINDOW:
                dx += dread.transpose(1, 0, 2)  # 1b 1a
            else:
                dh[link.source] += dread[:, :, link.column : link.column + runs[link.source].units]  # 1b
    return dparams, dx


def run_params(views: Params, name: str) -> Params:
    """Blocks of the run whose blocks' names begin with ``name``, by their short names, as views."""
    n = len(name)
    return {full[n:]: view for full, view in views.items() if full.startswith(name) and "." not in full[n:]}
