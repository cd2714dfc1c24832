"""Attention in the head: from the last states and those of all steps to the context, and back.

Layouts are those of ``plan``, places those of ``attention_places``. Last states and context, in a row of the head's
input behind the 1, are padded to whole vectors each.
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.cpu import links
from tsforecast.backends.cpu.attention import KERNELS, Kernels
from tsforecast.backends.cpu.jit import kernel
from tsforecast.backends.cpu.optional import optional
from tsforecast.backends.cpu.rows import clear, tail
from tsforecast.backends.cpu.tables import COLUMN, DILATION, DOUT, PADDED, SOURCE, TAPE, TARGET, UNITS


def _make_passes(kernels: Kernels):
    """Both passes with one kind of attention."""
    make_keys, attend, attend_backward, keys_backward = kernels

    @kernel
    def pool(net, layers, B, weights, work):
        """Write the context behind the last states, from where these stand in the head's input."""
        at, head, T = net.pool, net.head + net.head_skip + 1, net.n_timesteps
        n_padding = at.padded - at.n_units
        for b in range(B):
            clear(work, head + b * net.head_in + at.n_units, n_padding)
        for row in range(T * B):
            clear(work, at.states + row * at.padded + at.n_units, n_padding)
        links.read_links(net, layers, net.n_layers, T, B, work, at.states, at.padded)
        states, keys_t, states_t = tail(work, at.states), tail(work, at.keys_t), tail(work, at.states_t)
        make_keys(
            T, B, at.n_units, tail(weights, max(0, at.w_k)), states, tail(work, at.keys), keys_t, states_t,
            at.dstates >= 0,
        )  # fmt: skip
        attend(
            T, B, at.n_units, at.w_rows, tail(weights, at.w_q), tail(weights, max(0, at.w_v)),
            tail(work, head - (at.w_rows - at.n_query)), net.head_in, states, keys_t, states_t,
            tail(work, at.q), tail(work, at.weights), tail(work, head + at.padded), net.head_in, tail(work, at.z),
        )  # fmt: skip

    @kernel
    def pool_backward(
        net, B, weights, work, dw,
        n_de,  # width of a row at ``net.de``
    ):  # fmt: skip
        """Undo ``pool``, from ``net.de``: its first part grows by what the query owes, the states' share is made."""
        at, head, T = net.pool, net.head + net.head_skip + 1, net.n_timesteps
        clear(work, at.dstates, T * B * at.padded)
        if at.w_k >= 0:
            clear(work, at.dkeys, T * B * at.padded)
        states, dkeys, dstates = tail(work, at.states), tail(work, at.dkeys), tail(work, at.dstates)
        attend_backward(
            T, B, at.n_units, at.w_rows, at.n_query, tail(weights, at.w_q_t), tail(weights, max(0, at.w_v)),
            tail(work, head - (at.w_rows - at.n_query)), net.head_in, states, tail(work, at.keys),
            tail(work, at.states_t), tail(work, at.q), tail(work, at.weights), tail(work, net.de + at.padded), n_de,
            tail(work, at.dscores), tail(work, at.dq), tail(work, net.de), n_de, dkeys, dstates, tail(dw, at.w_q),
            tail(dw, max(0, at.w_v)), tail(work, at.z),
        )  # fmt: skip
        keys_backward(
            T, B, at.n_units, tail(weights, max(0, at.w_k_t)), states, dkeys, dstates, tail(dw, max(0, at.w_k)),
            tail(work, at.z),
        )  # fmt: skip

    return {"pool": pool, "pool_backward": pool_backward}


@kernel
def _send_states(net, layers, i, B, work):
    """Add what the attention sends to the outputs of run ``i`` to their gradient."""
    layer, at, one = layers[i], net.pool, np.int64(1)
    T = min(net.n_timesteps, layer[TAPE] * layer[DILATION])
    for k in range(net.n_layers, len(layers)):
        link = layers[k]
        if link[SOURCE] == i and link[TARGET] == net.n_layers:
            links.move(
                link, T, B, layer[UNITS], work, at.dstates + link[COLUMN], at.padded, layer[DOUT], layer[PADDED], one
            )


_PASSES = {kind: _make_passes(kernels) for kind, kernels in KERNELS.items()}

pool = optional(lambda net: _PASSES.get(net.attention, {}).get("pool"))
send_states = optional(
    lambda net: _send_states if net.attention != "none" or net.decodes == "recurrent_attention" else None
)
pool_backward = optional(lambda net: _PASSES.get(net.attention, {}).get("pool_backward"))
