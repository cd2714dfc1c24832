"""Known-future inputs, which stand behind their window: on their way in, and their gradient on its way out.

Letters: B rows, K output steps, E known-future inputs of each.
"""

from __future__ import annotations

from tsforecast.backends.cpu.jit import kernel
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.optional import optional
from tsforecast.backends.cpu.tables import DX, IN


@kernel
def gather_future(
    B, K, E,
    values, x_starts,
    n_before,  # numbers of a window, behind which they stand
    rows,  # [B]
    to, start, row, step,  # out: from start on, rows and steps so far apart
):  # fmt: skip
    """Write the known-future inputs where the network reads them."""
    for b in range(B):
        first = x_starts[rows[b]] + n_before
        for k in range(K):
            for e in range(E):
                to[start + b * row + k * step + e] = values[first + k * E + e]


@kernel
def _read_future(net, B, values, x_starts, rows, work):
    step = net.future_step if net.future_step > 0 else B * net.future_row
    gather_future(
        B, net.n_outputs, net.n_future, values, x_starts, net.n_timesteps * net.n_features, rows, work, net.future,
        net.future_row, step,
    )  # fmt: skip


@kernel
def _gradient_of_head(
    net, B, work,
    d_future,  # [B,K*E] out
):  # fmt: skip
    n = net.n_outputs * net.n_future
    for b in range(B):
        first = net.de + b * net.de_width + net.head_in - net.head_skip - 1 - n
        for k in range(n):
            d_future[b, k] = work[first + k]


@kernel
def _gradient_of_decoder(net, B, work, d_future):
    E, row = net.n_future, net.decoder.row
    Dp = (row[IN] + LANES - 1) // LANES * LANES
    for b in range(B):
        for k in range(net.n_outputs):
            for e in range(E):
                d_future[b, k * E + e] = work[row[DX] + (k * B + b) * Dp + 1 + e]


read_future = optional(lambda net: _read_future if net.reads_future else None)
future_gradient = optional(
    lambda net: (_gradient_of_head if net.decodes == "dense" else _gradient_of_decoder) if net.reads_future else None
)
