"""Every pair of a backend and a cell that it runs, so that a new cell is tested by being there."""

import pytest

from tsforecast.backends.cpu.shapes import SUPPORTED_CELLS
from tsforecast.cells import CELLS

BACKEND_CELLS = [
    *(pytest.param("reference", cell, id=f"reference-{cell}") for cell in CELLS),
    *(pytest.param("cpu", cell, id=f"cpu-{cell}", marks=pytest.mark.needs_jit) for cell in SUPPORTED_CELLS),
]


def layer_blocks(spec, params, i=0, prefix=None):
    """Blocks of layer ``i`` (or with another ``prefix``) by their short names, of ``params [P]`` or ``[P,M]``."""
    prefix = prefix or f"layers.{i}."
    own = {b.name.removeprefix(prefix): b for b in spec.blocks if b.name.startswith(prefix)}
    return {name: params[b.offset : b.offset + b.size].reshape(b.shape + params.shape[1:]) for name, b in own.items()}
