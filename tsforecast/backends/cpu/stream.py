"""One time step of inference from a carried state: what a stream does when a value arrives.

The state lives in the work buffer of a plan for windows of one step (``plan_stream``): the hidden state in the first
row of every layer's ``xh``, the cell state in ``c``. Steps have the bits that ``network.infer`` gives them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.cpu import network
from tsforecast.backends.cpu.jit import entry
from tsforecast.backends.cpu.memory import pack_flat
from tsforecast.backends.cpu.plan import INFERENCE, Plan, make_plan
from tsforecast.backends.cpu.tables import IN, PADDED, ROW, START, START_C, STATES, UNITS, XH, C
from tsforecast.spec import NetworkSpec

OK = -1  # else the status of ``step`` is the place in x of the first value that is not finite or too large


def plan_stream(spec: NetworkSpec, params: NDArray, n_streams: int) -> tuple[Plan, NDArray, NDArray]:
    """Layout, packed weights and the work buffer of ``n_streams`` streams in their first state."""
    plan = make_plan(replace(spec.without_dropout, n_timesteps=1, season_length=0), n_streams, INFERENCE)
    packed, work = pack_flat(plan, params, plan.n_packed), np.zeros(plan.n_work, params.dtype)
    for layer in plan.layers[: plan.net.n_layers]:
        units = np.arange(layer[UNITS])
        for stream in range(n_streams):
            if layer[START] >= 0:
                work[layer[XH] + stream * layer[ROW] + layer[IN] + 1 + units] = packed[layer[START] + units]
            if layer[START_C] >= 0:
                work[layer[C] + stream * layer[STATES] + units] = packed[layer[START_C] + units]
    return plan, packed, work


def state_places(plan: Plan) -> NDArray[np.int64]:
    """Where a work buffer holds the states of every layer: ``[n_streams, as many as there are]``."""
    stream, places = np.arange(plan.rows)[:, None], []
    for layer in plan.layers[: plan.net.n_layers]:
        units, hp = np.arange(layer[UNITS]), layer[PADDED]
        for fed_back in range((layer[ROW] - layer[IN] - 1) // hp):
            places.append(layer[XH] + stream * layer[ROW] + layer[IN] + 1 + fed_back * hp + units)
        for state in range(layer[STATES] // hp):
            places.append(layer[C] + stream * layer[STATES] + state * hp + units)
    return np.concatenate(places, axis=1)


@entry
def step(
    net, layers, B, packed, work,
    x,  # [B,F] float64, flat
    x_mean, x_scale,  # [F] float64
    limit,  # largest magnitude taken, before and after standardising
    y_mean, y_scale,  # [K*Q] float64
    y,  # [B,K*Q] float64 out, flat
):  # fmt: skip
    """Take one step of every stream and forecast; returns a status, and changes nothing unless it is ``OK``."""
    F, S = net.n_features, layers[0, ROW]
    for j in range(B * F):
        z = (x[j] - x_mean[j % F]) / x_scale[j % F]
        if not (abs(x[j]) <= limit and abs(z) <= limit):
            return j
    for j in range(B * F):
        work[layers[0, XH] + j // F * S + j % F] = (x[j] - x_mean[j % F]) / x_scale[j % F]
    network.step(net, layers, B, packed, work)
    n = len(y_mean)
    for b in range(B):
        for k in range(n):
            y[b * n + k] = np.float64(work[net.out + b * net.out_width + k]) * y_scale[k] + y_mean[k]
    return OK
