"""What a cell is to the layer that runs it: one step forward and its undoing, on arrays of one time step.

Letters: B rows of a batch, H units, G gate columns. The layer multiplies by the matrices that every cell has: it hands
``u = x_t W_x [B,G*H]`` and ``v = h_{t-1} W_h [B,G*H]`` to the cell (None to one that is not recurrent), and turns the
``du`` and ``dv`` that come back into gradients. The cell owns everything else: its bias, its extra parameters, and how
the states of one step make those of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
State = tuple[Array, ...]  # [B,H] each, in the order of CellSpec.states
Params = dict[str, Array]  # the blocks of one layer by their short names


class Cell(NamedTuple):
    """The two functions of a cell.

    ``step(u, v, state, p) -> (state, kept)``; ``kept`` is what the backward step needs.
    ``step_backward(dstate, kept, p, dp) -> (du, dv, dstate_before)`` accumulates the gradients of the cell's own
    parameters into ``dp``; ``dstate_before`` lacks what reaches ``h_{t-1}`` through ``v``, which the layer adds.
    """

    step: Callable[..., tuple[State, Any]]
    step_backward: Callable[..., tuple[Array, Array | None, State]]
