"""The cells by name, and their passes for the network: which one is compiled is told by the type of ``net``.

A cell that is not used costs nothing: its kernels are compiled when an entry point is, for a net of its type.
"""

from __future__ import annotations

from numba import types

from tsforecast.backends.cpu import gru, layer_norm_gru, layer_norm_lstm, lstm, minimal, rnn, slstm
from tsforecast.backends.cpu.jit import twin_of

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
    "gru": gru.KERNELS,
    "mingru": minimal.make_kernels(is_lstm=False),
    "minlstm": minimal.make_kernels(is_lstm=True),
    "lstm_layer_norm": layer_norm_lstm.KERNELS,
    "gru_layer_norm": layer_norm_gru.KERNELS,
    "rnn_tanh": rnn.make_kernels(rectified=False),
    "rnn_relu": rnn.make_kernels(rectified=True),
}


def _call(name: str, net, arguments):
    """Signature and code of a call of the pass ``name`` of the net's cell."""
    chosen = getattr(CELLS[net.instance_class.cell], name)
    kinds = tuple(types.unliteral(a) for a in arguments)
    chosen.compile(kinds)

    def codegen(context, builder, sig, args):
        result = chosen.overloads[kinds]
        context.add_linking_libs([result.library])
        values = [context.cast(builder, *value) for value in zip(args[1:], sig.args[1:], kinds, strict=True)]
        context.call_internal(builder, result.fndesc, result.signature, values)
        return context.get_dummy_value()

    return types.void(net, *arguments), codegen


@twin_of(lambda net, *arguments: CELLS[type(net).cell].infer(*arguments))
def infer(typingctx, net, T, B, D, H, w, extra, xh, c, z):
    """The ``infer`` of the net's cell."""
    return _call("infer", net, (T, B, D, H, w, extra, xh, c, z))


@twin_of(lambda net, *arguments: CELLS[type(net).cell].forward(*arguments))
def forward(typingctx, net, T, B, D, H, w, extra, xh, c, gates, kept):
    """The ``forward`` of the net's cell."""
    return _call("forward", net, (T, B, D, H, w, extra, xh, c, gates, kept))


@twin_of(lambda net, *arguments: CELLS[type(net).cell].backward(*arguments))
def backward(
    typingctx, net, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx,
    want_state, dh, dc, dz, dx, dw, dextra,
):  # fmt: skip
    """The ``backward`` of the net's cell."""
    return _call(
        "backward", net,
        (T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state,
         dh, dc, dz, dx, dw, dextra),
    )  # fmt: skip
