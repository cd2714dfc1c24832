"""CUDA kernels of this package as cooperating greenlets: exact about barriers, warps and memory, and quick.

Numba's simulator gives every CUDA thread a thread of the operating system and accepts divergent barriers, missing ones
(mostly) and unwritten shared memory. ``install()`` keeps what it offers to the host (arrays, streams) and replaces
what a kernel sees: ``cuda.jit`` and the names that a kernel uses of ``cuda``. Each CUDA thread becomes a greenlet, so

- all blocks of a grid run side by side, and ``cg.this_grid().sync()`` works for any number of blocks;
- warp shuffles and votes work, with the lanes that their mask names;
- a barrier that part of a block does not reach, or reaches elsewhere, raises, and so does a deadlock;
- shared, local and device arrays start as NaN;
- ``options(order=...)`` runs threads forward, backward, or in an order drawn from a seed, anew after every barrier;
- ``options(watch=True)`` finds races, reads of unwritten shared memory and negative indices (see ``races``).

``NUMBA_ENABLE_CUDASIM=1`` has to be set before Numba is imported, so simulated tests run in a process of their own.
"""

import math
import sys
from contextlib import contextmanager
from operator import attrgetter
from types import ModuleType, SimpleNamespace

import numpy as np
from races import SimulationError, Watched
from threads import WARP, Grid, current, np_dtype, options, poisoned

__all__ = ["install", "options"]

FULL_MASK = 0xFFFFFFFF
DEVICE = SimpleNamespace(id=0, name=b"simulated", compute_capability=(9, 0), MULTIPROCESSOR_COUNT=2, WARP_SIZE=WARP)


def _fma(a, b, c):
    return a * b + c  # rounded twice, since rounding once takes a microsecond


def _atomic(update):
    """Atomic operation ``update(old, *arguments) -> new`` that returns the old value."""

    def operate(array, index, *arguments):
        ledger = array.ledger if isinstance(array, Watched) else None
        if ledger is not None:
            ledger.in_atomic = True
        try:
            old = array[index]
            array[index] = update(old, *arguments)
        finally:
            if ledger is not None:
                ledger.in_atomic = False
        return old

    return operate


def _of_thread(attribute):
    """Property of the running thread."""
    get = attrgetter(attribute)
    return property(lambda _: get(current()))


class KernelNames(ModuleType):
    """Class of the module ``numba.cuda``: properties win over what Numba put there under these names."""

    threadIdx = _of_thread("threadIdx")
    blockIdx = _of_thread("block.index")
    blockDim = _of_thread("block.grid.block_dim")
    gridDim = _of_thread("block.grid.grid_dim")
    laneid = _of_thread("lane")
    warpsize = property(lambda _: WARP)


def _shared_array(shape, dtype, alignment=None):
    return current().block.shared_array(shape, np_dtype(dtype), sys._getframe(1))


def _grid(n_dims):
    t = current()
    places = [b * n + i for b, n, i in zip(t.block.index, t.block.grid.block_dim, t.threadIdx, strict=True)]
    return places[0] if n_dims == 1 else tuple(places[:n_dims])


def _gridsize(n_dims):
    grid = current().block.grid
    sizes = [n * m for n, m in zip(grid.grid_dim, grid.block_dim, strict=True)]
    return sizes[0] if n_dims == 1 else tuple(sizes[:n_dims])


def _wait(what):
    return lambda: current().wait(what)


def _meeting(what, operation):
    """Function that waits with (operation, its arguments) as its message."""
    return lambda *arguments: current().wait(what, (operation, *arguments))


FUNCTIONS = {
    "syncthreads": _wait("block"),
    "syncthreads_count": _meeting("block", "count"),
    "syncthreads_and": _meeting("block", "and"),
    "syncthreads_or": _meeting("block", "or"),
    "syncwarp": lambda mask=FULL_MASK: current().wait("warp", ("sync", mask, None)),
    "shfl_sync": _meeting("warp", "idx"),
    "shfl_xor_sync": _meeting("warp", "xor"),
    "shfl_up_sync": _meeting("warp", "up"),
    "shfl_down_sync": _meeting("warp", "down"),
    "all_sync": _meeting("warp", "all"),
    "any_sync": _meeting("warp", "any"),
    "ballot_sync": _meeting("warp", "ballot"),
    "threadfence": lambda: None,
    "threadfence_block": lambda: None,
    "grid": _grid,
    "gridsize": _gridsize,
    "fma": _fma,
    "selp": lambda condition, a, b: a if condition else b,
    "popc": lambda value: int(value).bit_count(),
    "shared": SimpleNamespace(array=_shared_array),
    "local": SimpleNamespace(array=lambda shape, dtype, alignment=None: poisoned(shape, dtype)),
    "atomic": SimpleNamespace(
        add=_atomic(lambda old, value: old + value),
        sub=_atomic(lambda old, value: old - value),
        exch=_atomic(lambda old, value: value),
        max=_atomic(max),
        min=_atomic(min),
        cas=_atomic(lambda old, expected, value: value if old == expected else old),
    ),
    "cg": SimpleNamespace(this_grid=lambda: SimpleNamespace(sync=_wait("grid"))),
}


# ----------------------------------------------------------------- launches


class Kernel:
    """What ``cuda.jit`` makes of a kernel: ``kernel[grid, block, stream, shared_bytes](*arguments)``."""

    def __init__(self, function):
        self.py_func = function

    def __getitem__(self, configuration):
        grid, block, _, shared_bytes = (*configuration, 0, 0)[:4]
        return lambda *args: launch(self.py_func, _dim(grid), _dim(block), shared_bytes, args)


def _dim(sizes):
    sizes = tuple(map(int, np.atleast_1d(sizes)))
    return sizes + (1,) * (3 - len(sizes))


def launch(function, grid_dim, block_dim, shared_bytes, args):
    """Run one grid to its end; errors of the floating point unit pass silently, as on a GPU."""
    if math.prod(block_dim) > 1024:
        raise SimulationError(f"a block of {math.prod(block_dim)} threads")
    if current() is not None:
        raise SimulationError("a kernel launches a kernel")
    with np.errstate(all="ignore"), _math_of_a_gpu():
        Grid(function, grid_dim, block_dim, shared_bytes, args).run()


def jit(function=None, device=False, **_options):
    """``cuda.jit``; a device function is itself, and whatever concerns compiled code is left out."""
    if function is not None and callable(function) and not hasattr(function, "return_type"):
        return function if device else Kernel(function)
    return lambda function: jit(function, device=device)


@contextmanager
def _math_of_a_gpu():
    """Functions of ``math`` keep float32, and overflow to infinity instead of raising."""
    names = {"exp": np.exp, "exp2": np.exp2, "log": np.log, "tanh": np.tanh, "sqrt": np.sqrt}
    before = {name: getattr(math, name) for name in names}

    def on_numpy(original, function):
        return lambda x: function(x) if isinstance(x, np.generic) else original(x)

    for name, function in names.items():
        setattr(math, name, on_numpy(before[name], function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(math, name, function)


def install():
    """Replace what kernels see of ``numba.cuda``. Call it before the kernels are imported."""
    from numba import config, cuda

    if not config.ENABLE_CUDASIM:
        raise RuntimeError("set NUMBA_ENABLE_CUDASIM=1 before Numba is imported")
    if isinstance(cuda, KernelNames):
        return
    device_array = cuda.device_array

    def poisoned_device_array(*args, **kwargs):
        array = device_array(*args, **kwargs)
        array._ary.reshape(-1).view(np.uint8).fill(0xFF)
        return array

    cuda.__class__ = KernelNames
    cuda.jit, cuda.device_array = jit, poisoned_device_array
    cuda.get_current_device = lambda: DEVICE
    for name, function in FUNCTIONS.items():
        setattr(cuda, name, function)
