"""Launching kernels, and cutting work into launches that end within a fraction of a second."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.cuda.plan import ROWS
from tsforecast.cells import CELLS
from tsforecast.exceptions import BackendUnavailableError
from tsforecast.spec import NetworkSpec

LAUNCH_SECONDS = 0.25
# A low guess of what a block computes in a second, and of the least time that a step of a run takes.
BLOCK_OPERATIONS, STEP_SECONDS = 3e10, 2e-6
_OUT_OF_MEMORY = 2, "CUDA_ERROR_OUT_OF_MEMORY"  # numba-cuda's errors have a code, those of cuda.core only a text


def is_out_of_memory(error: Exception) -> bool:
    """Whether a driver's error says that the device's memory is full."""
    code, name = _OUT_OF_MEMORY
    return isinstance(error, MemoryError) or getattr(error, "code", None) == code or str(error).startswith(name)


def launch(kernel, grid, threads: int, *arguments) -> None:
    """Launch a kernel on the default stream; a small grid is no mistake here.

    Raises
    ------
    BackendUnavailableError
        The device has no memory left to load the kernel, or for what its threads keep there.
    """
    with warnings.catch_warnings():
        # By its text: numba-cuda has a class of its own for it, which Numba alone lacks.
        warnings.filterwarnings("ignore", "Grid size .* under-utilization")
        configured = kernel[grid, threads]
    try:
        configured(*arguments)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise BackendUnavailableError(
            f"the GPU has no memory left for the kernel {kernel.py_func.__name__}; free memory of the GPU, or use "
            "device='cpu'. The model is as it was"
        ) from error


def row_tiles(
    rows: NDArray[np.int64],  # [models+1] first row of each model
    size: int = ROWS,
) -> NDArray[np.int32]:
    """Rows in tiles that are of one model each, ``[tiles,3]``: model, first row, number of rows."""
    n_tiles = -(-np.diff(rows) // size)
    model = np.repeat(np.arange(len(n_tiles)), n_tiles)
    first = rows[model] + size * (np.arange(len(model)) - np.repeat(np.cumsum(n_tiles) - n_tiles, n_tiles))
    return np.stack([model, first, np.minimum(size, rows[model + 1] - first)], axis=1).astype(np.int32)


def batches_at_once(spec: NetworkSpec, batch_size: int, n_blocks: int) -> int:
    """Batches that take about ``LAUNCH_SECONDS``, by a low guess of the device's speed."""
    n_gates, runs = CELLS[spec.cell].n_gates, spec.topology.runs
    operations = sum(2 * n_gates * run.units * (run.inputs + 1 + run.units) for run in runs)
    n_rounds = -(-batch_size // (ROWS * n_blocks))
    of_a_round = 3 * spec.n_timesteps * max(ROWS * operations / BLOCK_OPERATIONS, STEP_SECONDS * len(runs))
    return max(1, int(LAUNCH_SECONDS / (n_rounds * of_a_round)))
