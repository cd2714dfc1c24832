"""The cells by name, and their passes for the network: which one is compiled is told by the type of ``net``.

A cell that is not used costs nothing: its kernels are compiled when an entry point is, for a net of its type.
"""

from __future__ import annotations

from numba import types

from tsforecast.backends.cpu import gru, layer_norm_gru, layer_norm_lstm, lstm, minimal, rnn, slstm
from tsforecast.backends.cpu.jit import emit_call, twin_of
from tsforecast.backends.cpu.layer import Kernels

CELLS = {
    "lstm": lstm.make_kernels(),
    "lstm_peephole": lstm.make_kernels(peepholes=True),
    "lstm_coupled": lstm.make_kernels("igo", coupled=True),
    "lstm_no_input_gate": lstm.make_kernels("fgo"),
    "lstm_no_forget_gate": lstm.make_kernels("igo"),
    "lstm_no_output_gate": lstm.make_kernels("ifg"),
    "lstm_no_input_activation": lstm.make_kernels(input_activation=False),
    "lstm_no_output_activation": lstm.make_kernels(output_activation=False),
    "lstm_full_gate_recurrence": lstm.make_kernels(gate_recurrence=True),
    "slstm": slstm.KERNELS,
    "gru": gru.make_kernels(),
    "mingru": minimal.make_kernels(is_lstm=False),
    "minlstm": minimal.make_kernels(is_lstm=True),
    "lstm_layer_norm": layer_norm_lstm.KERNELS,
    "gru_layer_norm": layer_norm_gru.KERNELS,
    "rnn_tanh": rnn.make_kernels(rectified=False),
    "rnn_relu": rnn.make_kernels(rectified=True),
}
# Kernels of cells that read h elsewhere than in their multiply: under noise they find it in c, as it was before a mask.
CARRYING = {"gru": gru.make_kernels(carries_h=True)}


def kernels_of(net_type: type) -> Kernels:
    """The passes of the cell of a network of this type."""
    return CARRYING.get(net_type.cell, CELLS[net_type.cell]) if net_type.noisy else CELLS[net_type.cell]


def call(chosen, arguments, n_first):
    """Signature and code of a call of the kernel ``chosen``, which does not take the first ``n_first`` arguments."""
    kinds = tuple(types.unliteral(a) for a in arguments[n_first:])
    chosen.compile(kinds)

    def codegen(context, builder, sig, args):
        emit_call(context, builder, chosen, kinds, args[n_first:], sig.args[n_first:])
        return context.get_dummy_value()

    return types.void(*arguments), codegen


def _call(name: str, net, *arguments):
    return call(getattr(kernels_of(net.instance_class), name), (net, *arguments), 1)


@twin_of(lambda net, *arguments: kernels_of(type(net)).infer(*arguments))
def infer(typingctx, net, T, B, D, H, w, extra, xh, c, z):
    """The ``infer`` of the net's cell."""
    return _call("infer", net, T, B, D, H, w, extra, xh, c, z)


@twin_of(lambda net, *arguments: kernels_of(type(net)).forward(*arguments))
def forward(typingctx, net, first, last, T, B, D, H, w, extra, xh, c, gates, kept):
    """The ``forward`` of the net's cell."""
    return _call("forward", net, first, last, T, B, D, H, w, extra, xh, c, gates, kept)


@twin_of(lambda net, *arguments: kernels_of(type(net)).backward(*arguments))
def backward(
    typingctx, net, first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx,
    want_state, dh, dc, dz, dx, dw, dextra,
):  # fmt: skip
    """The ``backward`` of the net's cell."""
    return _call(
        "backward", net, first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx,
        want_state, dh, dc, dz, dx, dw, dextra,
    )  # fmt: skip
