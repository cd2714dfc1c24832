"""The cells by name, and their passes for the network: which one is compiled is told by the type of ``net``.

A cell that is not used costs nothing: its kernels are compiled when an entry point is, for a net of its type.
"""

from __future__ import annotations

from numba.extending import overload

from tsforecast.backends.cpu import gru, lstm, rnn
from tsforecast.backends.cpu.jit import JIT_DISABLED

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
    "gru": gru.KERNELS,
    "rnn_tanh": rnn.make_kernels(rectified=False),
    "rnn_relu": rnn.make_kernels(rectified=True),
}


def infer(net, T, B, D, H, w, extra, xh, c, z):
    """The cell's ``infer``."""
    CELLS[type(net).cell].infer(T, B, D, H, w, extra, xh, c, z)


def forward(net, T, B, D, H, w, extra, xh, c, gates, kept):
    """The cell's ``forward``."""
    CELLS[type(net).cell].forward(T, B, D, H, w, extra, xh, c, gates, kept)


def backward(
    net, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, dh, dc, dz, dx, dw, dextra
):
    """The cell's ``backward``."""
    CELLS[type(net).cell].backward(
        T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, dh, dc, dz, dx, dw, dextra
    )


if not JIT_DISABLED:

    @overload(infer, inline="always")
    def _choose_infer(net, T, B, D, H, w, extra, xh, c, z):
        chosen = CELLS[net.instance_class.cell].infer

        def call(net, T, B, D, H, w, extra, xh, c, z):
            chosen(T, B, D, H, w, extra, xh, c, z)

        return call

    @overload(forward, inline="always")
    def _choose_forward(net, T, B, D, H, w, extra, xh, c, gates, kept):
        chosen = CELLS[net.instance_class.cell].forward

        def call(net, T, B, D, H, w, extra, xh, c, gates, kept):
            chosen(T, B, D, H, w, extra, xh, c, gates, kept)

        return call

    @overload(backward, inline="always")
    def _choose_backward(
        net, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, dh, dc, dz, dx, dw, dextra
    ):
        chosen = CELLS[net.instance_class.cell].backward

        def call(
            net, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx,
            dh, dc, dz, dx, dw, dextra,
        ):  # fmt: skip
            chosen(
                T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, dh, dc, dz, dx, dw, dextra
            )

        return call
