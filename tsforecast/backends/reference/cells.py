"""The cells by name: for every key of ``tsforecast.cells.CELLS`` the functions that compute it."""

from __future__ import annotations

from functools import partial

from tsforecast.backends.reference import gru, layer_norm_gru, layer_norm_lstm, lstm, minimal, rnn, slstm
from tsforecast.backends.reference.cell import Cell
from tsforecast.backends.reference.lstm import Variant


def _lstm(variant: Variant) -> Cell:
    return Cell(partial(lstm.step, variant), partial(lstm.step_backward, variant))


CELLS = {
    "rnn_tanh": Cell(partial(rnn.step, False), partial(rnn.step_backward, False)),
    "rnn_relu": Cell(partial(rnn.step, True), partial(rnn.step_backward, True)),
    "lstm": _lstm(Variant()),
    "lstm_peephole": _lstm(Variant(peepholes=True)),
    "lstm_coupled": _lstm(Variant("igo", coupled=True)),
    "lstm_no_input_gate": _lstm(Variant("fgo")),
    "lstm_no_forget_gate": _lstm(Variant("igo")),
    "lstm_no_output_gate": _lstm(Variant("ifg")),
    "lstm_no_input_activation": _lstm(Variant(input_activation=False)),
    "lstm_no_output_activation": _lstm(Variant(output_activation=False)),
    "lstm_full_gate_recurrence": _lstm(Variant(gate_recurrence=True)),
    "slstm": Cell(slstm.step, slstm.step_backward),
    "gru": Cell(gru.step, gru.step_backward),
    "mingru": Cell(minimal.gru_step, minimal.gru_step_backward),
    "minlstm": Cell(minimal.lstm_step, minimal.lstm_step_backward),
    "lstm_layer_norm": Cell(layer_norm_lstm.step, layer_norm_lstm.step_backward),
    "gru_layer_norm": Cell(layer_norm_gru.step, layer_norm_gru.step_backward),
}
