"""What passes between runs: hidden states upwards in the forward pass, sums of gradients on the way back.

Layouts are those of ``plan``, links those of ``tables``. Letters: T steps of a window, B rows, D inputs and H units of
a run, S width of a row of its ``xh``. Row t B + b is step t of row b, where a run begins with its own first step.
"""

from __future__ import annotations

from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.tables import (
    ADDS,
    COLUMN,
    DILATION,
    DOUT,
    DX,
    IN,
    PADDED,
    ROW,
    SOURCE,
    START,
    START_C,
    STATES,
    STEPS,
    SUMMED,
    TARGET,
    TURNED,
    UNITS,
    XH,
    C,
)


@kernel
def start(net, layers, i, B, weights, work):
    """Put run ``i`` into its first state, learned or zero; what fills up its last step reads zeros."""
    D, S, n_state = layers[i, IN], layers[i, ROW], layers[i, STATES]
    xh, c, n_rows = layers[i, XH], layers[i, C], B * layers[i, DILATION]
    for row in range((layers[i, STEPS] + 1) * n_rows):
        work[xh + row * S + D] = 1
    for b in range(n_rows):
        for u in range(D + 1, S):
            work[xh + b * S + u] = 0
    for q in range(n_rows * n_state):
        work[c + q] = 0
    if layers[i, START] >= 0:
        for b in range(n_rows):
            for u in range(layers[i, UNITS]):
                work[xh + b * S + D + 1 + u] = weights[layers[i, START] + u]
    if layers[i, START_C] >= 0:
        for b in range(n_rows):
            for u in range(layers[i, UNITS]):
                work[c + b * n_state + u] = weights[layers[i, START_C] + u]
    for row in range(net.n_timesteps * B, layers[i, STEPS] * n_rows):
        for d in range(D):
            work[xh + row * S + d] = 0


@kernel
def start_gradient(layers, i, B, dh, dc, dw):
    """Add to the gradient of a learned first state."""
    n_rows, n_fed, n_state = B * layers[i, DILATION], layers[i, ROW] - layers[i, IN] - 1, layers[i, STATES]
    for b in range(n_rows):
        if layers[i, START] >= 0:
            for u in range(layers[i, UNITS]):
                dw[layers[i, START] + u] += dh[b * n_fed + u]
        if layers[i, START_C] >= 0:
            for u in range(layers[i, UNITS]):
                dw[layers[i, START_C] + u] += dc[b * n_state + u]


@kernel
def read_links(net, layers, i, B, work):
    """Write what run ``i`` reads of other runs into the input columns of its rows."""
    for k in range(net.n_layers, len(layers)):
        if layers[k, TARGET] == i:
            s = layers[k, SOURCE]
            if s < 0:  # the window, where the first run has it
                first, width, n = layers[0, XH], layers[0, ROW], layers[0, IN]
            else:
                width, n = layers[s, ROW], layers[s, UNITS]
                first = layers[s, XH] + layers[s, DILATION] * B * width + layers[s, IN] + 1
            for t in range(net.n_timesteps):
                t_source = net.n_timesteps - 1 - t if layers[k, TURNED] else t
                for b in range(B):
                    _copy(
                        n, work, first + (t_source * B + b) * width, work,
                        layers[i, XH] + (t * B + b) * layers[i, ROW] + layers[k, COLUMN], layers[k, ADDS],
                    )  # fmt: skip


@inlined
def _copy(n, a, source, b, target, adds):
    """Copy, or add, ``n`` numbers."""
    if adds:
        for u in range(n):
            b[target + u] += a[source + u]
    else:
        for u in range(n):
            b[target + u] = a[source + u]


@kernel
def read_last_states(net, layers, B, work):
    """Write what the head reads of the runs."""
    for k in range(net.n_layers, len(layers)):
        if layers[k, TARGET] == net.n_layers:
            s = layers[k, SOURCE]
            S = layers[s, ROW]
            row = (net.n_timesteps - 1 + layers[s, DILATION]) * B
            for b in range(B):
                _copy(
                    layers[s, UNITS], work, layers[s, XH] + (row + b) * S + layers[s, IN] + 1, work,
                    net.head + b * net.head_in + net.head_skip + 1 + layers[k, COLUMN], layers[k, ADDS],
                )  # fmt: skip


@kernel
def last_gradient(net, layers, i, B, n_de, work):
    """Gradient by the last state of run ``i``: dh is what the head sends (``[B, n_de]`` at ``net.de``), dc zero."""
    n_rows, n_fed = B * layers[i, DILATION], layers[i, ROW] - layers[i, IN] - 1
    for q in range(n_rows * n_fed):
        work[net.dh + q] = 0
    for q in range(n_rows * layers[i, STATES]):
        work[net.dc + q] = 0
    first = (net.n_timesteps - 1) % layers[i, DILATION] * B
    for k in range(net.n_layers, len(layers)):
        if layers[k, TARGET] == net.n_layers and layers[k, SOURCE] == i:
            for b in range(B):
                _copy(
                    layers[i, UNITS], work, net.de + b * n_de + layers[k, COLUMN], work,
                    net.dh + (first + b) * n_fed, True,
                )  # fmt: skip


@kernel
def sum_gradients(net, layers, i, B, work):
    """Gradient by every output of run ``i``, from all runs that read it, where it must be added up."""
    if layers[i, SUMMED] > 0:
        Hp = layers[i, PADDED]
        for q in range(layers[i, STEPS] * layers[i, DILATION] * B * Hp):
            work[layers[i, DOUT] + q] = 0
        for k in range(net.n_layers, len(layers)):
            r = layers[k, TARGET]
            if layers[k, SOURCE] == i and r < net.n_layers:
                width = (layers[r, IN] + LANES - 1) // LANES * LANES
                for t in range(net.n_timesteps):
                    t_reader = net.n_timesteps - 1 - t if layers[k, TURNED] else t
                    for b in range(B):
                        _copy(
                            layers[i, UNITS], work, layers[r, DX] + (t_reader * B + b) * width + layers[k, COLUMN],
                            work, layers[i, DOUT] + (t * B + b) * Hp, True,
                        )  # fmt: skip


@kernel
def window_gradient(net, layers, B, work, dx):
    """Gradient ``dx [B,T,F]`` by the window, from all runs that read it."""
    T, width = net.n_timesteps, (net.n_features + LANES - 1) // LANES * LANES
    for b in range(B):
        for t in range(T):
            for f in range(net.n_features):
                dx[b, t, f] = work[layers[0, DX] + (t * B + b) * width + f]
                for k in range(net.n_layers, len(layers)):
                    if layers[k, SOURCE] < 0:
                        t_reader = T - 1 - t if layers[k, TURNED] else t
                        dx[b, t, f] += work[layers[layers[k, TARGET], DX] + (t_reader * B + b) * width + f]
