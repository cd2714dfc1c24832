"""Every pair of a backend and a cell that it runs, so that a new cell is tested by being there."""

import pytest

from tsforecast.backends.cpu.backend import SUPPORTED_CELLS
from tsforecast.spec import CELLS

BACKEND_CELLS = [
    *(pytest.param("reference", cell, id=f"reference-{cell}") for cell in CELLS),
    *(pytest.param("cpu", cell, id=f"cpu-{cell}", marks=pytest.mark.needs_jit) for cell in SUPPORTED_CELLS),
]


def layer_blocks(spec, params, i=0):
    """Blocks of layer ``i`` by their short names."""
    prefix = f"layers.{i}."
    return {name.removeprefix(prefix): a for name, a in spec.views(params).items() if name.startswith(prefix)}
