"""What the layout of a network must know of a cell: how many vectors it keeps, feeds back, and where its weights stand.

Letters: L lanes, P blocks of L units. Weights of one layer are a matrix of rows (x | 1 | fed back) and columns unit
block by unit block, the cell's gate columns of L units side by side; some cells order the columns of the fed-back rows
in another way, or have extra vectors a unit beside the matrix.
"""

from __future__ import annotations

from typing import NamedTuple

from tsforecast.spec import NetworkSpec


class CellShape(NamedTuple):
    """Counts are vectors a block of units (and row and step, where they are kept)."""

    n_feedback: int = 1  # R: h, and what else the step after multiplies by
    n_states: int = 1  # carried on without a multiply; at least 1, for cells that have none
    n_gates_kept: int = 4  # sums, then activations, then their gradients
    n_kept: int = 1  # what else the backward pass reads
    blocks_a_panel: int = 1  # unit blocks that one panel of a multiply covers
    x_order: tuple[int, ...] | None = None  # where the public gate columns of rows x and 1 stand; None: in order
    whole_steps: bool = False  # inference keeps all blocks of a step at once, not one panel
    extras: tuple[str, ...] = ()  # blocks of the layer that stand beside the matrix
    carries_h: bool = (
        False  # under noise it finds in c, for it has no other state, the h that the multiply does not read
    )
    reads_h: bool = False  # elsewhere than in the multiply, and only from where the multiply reads it


_LSTM3 = CellShape(n_gates_kept=3)
CELL_SHAPES = {
    "lstm": CellShape(),
    "lstm_peephole": CellShape(extras=("w_c",)),
    "lstm_coupled": _LSTM3,
    "lstm_no_input_gate": _LSTM3,
    "lstm_no_forget_gate": _LSTM3,
    "lstm_no_output_gate": _LSTM3,
    "lstm_no_input_activation": CellShape(),
    "lstm_no_output_activation": CellShape(),
    "lstm_full_gate_recurrence": CellShape(n_feedback=4),
    "slstm": CellShape(n_states=3, n_kept=0),
    "gru": CellShape(x_order=(1, 2, 0), extras=("b_h",), carries_h=True),
    "mingru": CellShape(n_gates_kept=2, n_kept=0, reads_h=True),
    "minlstm": CellShape(n_gates_kept=3, reads_h=True),
    "lstm_layer_norm": CellShape(n_gates_kept=12, n_kept=3, whole_steps=True, extras=("g_x", "g_h", "g_c", "b_c")),
    "gru_layer_norm": CellShape(n_gates_kept=10, whole_steps=True, extras=("g_x", "g_h", "b_h"), reads_h=True),
    "rnn_tanh": CellShape(n_gates_kept=1, blocks_a_panel=4),
    "rnn_relu": CellShape(n_gates_kept=1, blocks_a_panel=4),
}

SUPPORTED_CELLS = tuple(CELL_SHAPES)  # of the keys of cells.CELLS


def check_supported(spec: NetworkSpec) -> None:
    """Raise ``ValueError`` for a network that has no kernels here."""
    if spec.cell not in SUPPORTED_CELLS:
        raise ValueError(
            f"the cpu backend has no kernels for the cell {spec.cell!r}, only for {', '.join(SUPPORTED_CELLS)}; "
            "device='reference' runs every cell"
        )
    if spec.recurrent_dropout and CELL_SHAPES[spec.cell].reads_h:
        raise ValueError(
            f"the cpu backend has no recurrent_dropout= for the cell {spec.cell!r}; take dropout= or zoneout=, or "
            "device='reference'"
        )
