"""The recurrent cells by name: what a network needs to know of each, but for its equations."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CellSpec:
    """What a recurrent cell needs; its equations stand in ``tsforecast.backends.reference``.

    Parameters
    ----------
    columns : str
        One letter for each gate column of ``w_x``, ``w_h`` and ``b``, in their order.
    states : tuple of str
        State vectors ``[H]`` that go from step to step; the first is the hidden state ``h``, which is also the output.
    extras : dict of str to tuple of int
        Further parameter blocks of a layer and their shapes in multiples of H: ``(3,)`` is ``[3H]``. Names of weights
        begin with ``w``; those of gains, which start at 1 and not at 0, with ``g``.
    recurrent : bool
        Whether the gates read ``h`` of the step before (there is a ``w_h``).
    keeps : tuple of (str, float) or None
        The column that decides how much of the past is kept, and the sign with which it does.
    """

    columns: str
    states: tuple[str, ...] = ("h",)
    extras: dict[str, tuple[int, ...]] = field(default_factory=dict)
    recurrent: bool = True
    keeps: tuple[str, float] | None = None

    @property
    def n_gates(self) -> int:
        """Number of gate columns G."""
        return len(self.columns)


_HC = ("h", "c")
_FORGETS = ("f", 1.0)
CELLS = {
    "rnn_tanh": CellSpec("a"),
    "rnn_relu": CellSpec("a"),
    "lstm": CellSpec("ifgo", _HC, keeps=_FORGETS),
    "lstm_peephole": CellSpec("ifgo", _HC, {"w_c": (3,)}, keeps=_FORGETS),
    "lstm_coupled": CellSpec("igo", _HC, keeps=("i", -1.0)),
    "lstm_no_input_gate": CellSpec("fgo", _HC, keeps=_FORGETS),
    "lstm_no_forget_gate": CellSpec("igo", _HC),
    "lstm_no_output_gate": CellSpec("ifg", _HC, keeps=_FORGETS),
    "lstm_no_input_activation": CellSpec("ifgo", _HC, keeps=_FORGETS),
    "lstm_no_output_activation": CellSpec("ifgo", _HC, keeps=_FORGETS),
    "lstm_full_gate_recurrence": CellSpec("ifgo", (*_HC, "i", "f", "o"), {"w_g": (3, 3)}, keeps=_FORGETS),
    "slstm": CellSpec("ifzo", (*_HC, "n", "m"), keeps=_FORGETS),
    "gru": CellSpec("rzn", extras={"b_h": (1,)}, keeps=("z", 1.0)),
    "mingru": CellSpec("zg", recurrent=False, keeps=("z", -1.0)),
    "minlstm": CellSpec("ifg", recurrent=False, keeps=_FORGETS),
    "lstm_layer_norm": CellSpec("ifgo", _HC, {"g_x": (4,), "g_h": (4,), "g_c": (1,), "b_c": (1,)}, keeps=_FORGETS),
    "gru_layer_norm": CellSpec("rzn", extras={"g_x": (3,), "g_h": (3,), "b_h": (1,)}, keeps=("z", 1.0)),
}

ZONED_STATES = ("h", "c")  # what ``NetworkSpec.zoneout`` lets keep their old value, where a cell has them
SCALED_BY = ("n", "m")  # states that only scale another one
LEARNED_STATES = ("h", "c")  # what ``NetworkSpec.learned_state`` makes parameters, where a cell has them
