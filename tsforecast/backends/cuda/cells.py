"""The cells that have CUDA kernels. A cell is one file, and one line here.

A kernel has four slots for the gate columns of a unit. A cell says which column of ``w_x``, ``w_h`` and of the biases
stands in which slot (-1: none, and its weights are zero); where a gate reads ``x`` and ``h`` apart, it takes two slots.
"""

from __future__ import annotations

from typing import NamedTuple

from tsforecast.spec import CELLS as CELL_SPECS


class Slots(NamedTuple):
    """Column of each slot in ``w_x``, ``w_h`` and the biases; ``n_columns`` are those of ``w_x``, in units of H."""

    n_columns: int
    x: tuple[int, int, int, int]
    h: tuple[int, int, int, int]
    b: tuple[int, int, int, int]


class Cell(NamedTuple):
    """Slots, and the module with ``step`` and ``step_backward``."""

    slots: Slots
    module: str


CELLS = {
    "lstm": Cell(Slots(CELL_SPECS["lstm"].n_gates, (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)), "lstm"),
}
