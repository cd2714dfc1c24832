"""The cells that have CUDA kernels. A cell is one file, and one line here.

A kernel has four slots for the gate columns of a unit. A cell says which column of ``w_x``, ``w_h``, of the biases and
of the peepholes ``w_c`` stands in which slot (-1: none, and its weights are zero); where a gate reads ``x`` and ``h``
apart, it takes two slots.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from tsforecast.cells import CELLS as CELL_SPECS

Columns = tuple[int, int, int, int]
_NONE = (-1, -1, -1, -1)


class Cell(NamedTuple):
    """Module and options of the cell's ``step``, and the column of each slot in its blocks of weights."""

    module: str
    options: dict[str, Any]
    x: Columns
    h: Columns
    b: Columns
    c: Columns = _NONE

    @property
    def has_peepholes(self) -> bool:
        """Whether a slot sees what is carried."""
        return max(self.c) >= 0


def _lstm(name: str, c: Columns = _NONE, **options: bool) -> Cell:
    """A variant of the LSTM, whose slots are i, f, g, o."""
    slots = tuple(CELL_SPECS[name].columns.find(gate) for gate in "ifgo")
    gates = {gate: column >= 0 for gate, column in zip("ifgo", slots, strict=True) if gate != "g"}
    return Cell("lstm", gates | options, slots, slots, slots, c)  # type: ignore[arg-type]


_FIRST = (0, -1, -1, -1)
CELLS = {
    "rnn_tanh": Cell("rnn", {}, _FIRST, _FIRST, _FIRST),
    "rnn_relu": Cell("rnn", {"relu": True}, _FIRST, _FIRST, _FIRST),
    "lstm": _lstm("lstm"),
    "lstm_peephole": _lstm("lstm_peephole", (0, 1, -1, 2), peepholes=True),
    "lstm_coupled": _lstm("lstm_coupled", coupled=True),
    "lstm_no_input_gate": _lstm("lstm_no_input_gate"),
    "lstm_no_forget_gate": _lstm("lstm_no_forget_gate"),
    "lstm_no_output_gate": _lstm("lstm_no_output_gate"),
    "lstm_no_input_activation": _lstm("lstm_no_input_activation", input_activation=False),
    "lstm_no_output_activation": _lstm("lstm_no_output_activation", output_activation=False),
    "gru": Cell("gru", {}, (0, 1, 2, -1), (0, 1, -1, 2), (0, 1, 2, 3)),  # b_h stands behind b
}


@lru_cache
def make_cell(name: str):
    """Device functions ``(step, step_backward)`` of a cell; both take its peepholes, used or not."""
    cell = CELLS[name]
    return import_module(f"tsforecast.backends.cuda.{cell.module}").make(**cell.options)
