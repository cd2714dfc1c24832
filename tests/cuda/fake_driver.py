"""numba-cuda's own host code, down to a driver of which only the memory is real: host memory, checked at every copy.

``machine()`` lets backends allocate, copy and launch without a GPU. Arrays, types of arguments, the choice of a
compiled version, launch configurations and errors are numba-cuda's. Kernels are neither compiled nor run: each leaves
what ``EFFECTS`` says, so that host code goes on as after a success. Every array of a launch has to lie in memory that
is allocated.
"""

import ctypes
import inspect
from collections import defaultdict
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np

from tsforecast.backends.base import StepRule, TrainState, Windows
from tsforecast.spec import NetworkSpec

PROCESSORS = 132


class Launched(NamedTuple):
    """A kernel's name, cuda.core's ``LaunchConfig``, and copies of the arguments by their names."""

    name: str
    config: object
    arguments: dict


class Machine:
    """Memory of the device in bytes, and what has been asked of it; ``at_launch`` is called with a kernel's name."""

    def __init__(self, capacity):
        self.capacity, self.at_launch = capacity, lambda name: None
        self.allocated = {}
        self.context = self.config = None
        self.launches = []
        self.compiled = defaultdict(list)  # kernel function: the types of its arguments, for each version

    @property
    def used(self):
        return sum(array.nbytes for array in list(self.allocated.values()))

    def cuMemAlloc(self, size):
        from cuda.bindings.driver import CUdeviceptr, CUresult
        from numba.cuda.cudadrv.driver import CudaAPIError

        if self.used + size > self.capacity:
            raise CudaAPIError(CUresult.CUDA_ERROR_OUT_OF_MEMORY, "Call to cuMemAlloc results in OUT_OF_MEMORY")
        array = np.zeros(size + 256, np.uint8)
        address = -(-array.ctypes.data // 256) * 256  # as the driver aligns it
        self.allocated[address] = array[address - array.ctypes.data :][:size]
        return CUdeviceptr(address)

    def cuMemFree(self, pointer):
        del self.allocated[int(pointer)]

    def cuMemGetInfo(self):
        return self.capacity - self.used, self.capacity

    def cuMemcpyHtoD(self, to, source, size):
        ctypes.memmove(self.checked(to, size), source, size)

    def cuMemcpyDtoH(self, to, source, size):
        ctypes.memmove(to, self.checked(source, size), size)

    def cuCtxSynchronize(self):
        pass

    def checked(self, address, size):
        """``address``, from which on ``size`` bytes are allocated."""
        for first, array in list(self.allocated.items()):  # other threads allocate, too
            if first <= address and address + size <= first + array.nbytes:
                return address
        raise AssertionError(f"{size} bytes at {address:x} are not allocated")

    def array(self, on_device):
        """The numbers of a device array."""
        size = on_device.size * on_device.dtype.itemsize
        pointer = self.checked(on_device.device_ctypes_pointer.value, size)
        return np.frombuffer((ctypes.c_char * size).from_address(pointer), on_device.dtype)


def _batches_done(arguments):
    arguments["done"][:] = 0
    n = len(arguments["begins"])
    arguments["done"][:n] = arguments["ends"][:n] - arguments["begins"][:n]


def _fill(name, value):
    def fill(arguments):
        arguments[name][:] = value

    return fill


EFFECTS = {
    "train": _batches_done,
    "train_wide": _batches_done,
    "turn": _fill("weight_sums", 1),
    "find_non_finite": _fill("finite", 1),
}


def _kernel_class(there):
    from numba.cuda import dispatcher, types

    class Kernel(dispatcher._Kernel):
        """Takes its arguments to the driver as every kernel does."""

        def __init__(self, py_func, argtypes, **options):
            there.compiled[py_func].append(argtypes)
            self.py_func, self.signature, self.extensions = py_func, types.void(*argtypes), []
            self.entry_point, self.objectmode, self.debug, self.cooperative = None, False, False, False
            self._codelibrary = SimpleNamespace(get_cufunc=lambda: SimpleNamespace(kernel=py_func.__name__))

        def bind(self):
            pass

        def launch(self, args, *sizes):
            super().launch(args, *sizes)
            there.at_launch(self.py_func.__name__)
            names = inspect.signature(self.py_func).parameters
            arguments = {
                name: there.array(a) if hasattr(a, "device_ctypes_pointer") else a
                for name, a in zip(names, args, strict=True)
            }
            copies = {name: np.copy(a) for name, a in arguments.items()}
            there.launches.append(Launched(self.py_func.__name__, there.config, copies))
            EFFECTS.get(self.py_func.__name__, lambda arguments: None)(arguments)

    return Kernel


@contextmanager
def machine(capacity=80 << 30):
    """Yield the ``Machine`` on which all of numba-cuda works."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import devices, driver

    there = Machine(capacity)

    def launch(stream, config, kernel, *arguments):
        assert stream.handle == 0
        assert all(isinstance(a, (int, ctypes._SimpleCData)) for a in arguments)  # as cuda.core takes them apart
        there.config = config

    def finalizer(manager, pointer, key, size):  # arrays may outlive the machine
        def free():
            manager.allocations.pop(key, None)
            manager.deallocations.add_item(there.cuMemFree, pointer, size)

        return free

    device = SimpleNamespace(id=0, name="none", compute_capability=(9, 0), MULTIPROCESSOR_COUNT=PROCESSORS)
    with ExitStack() as stack:

        def replace(owner, name, by):
            stack.enter_context(mock.patch.object(owner, name, by))

        replace(driver, "driver", there)
        replace(driver, "_alloc_finalizer", finalizer)
        driver._logger = driver.make_logger()
        replace(driver, "_to_core_stream", lambda stream: SimpleNamespace(handle=stream))
        replace(dispatcher, "_Kernel", _kernel_class(there))
        replace(dispatcher, "launch", launch)
        there.context = context = driver.Context(device, handle=1)
        context.prepare_for_use()
        replace(devices._runtime, "get_or_create_context", lambda number: context)
        replace(devices._runtime, "ensure_context", nullcontext)
        kernels, add = [], dispatcher.CUDADispatcher.add_overload

        def add_overload(kernel, *args):
            kernels.append(kernel)
            add(kernel, *args)

        replace(dispatcher.CUDADispatcher, "add_overload", add_overload)
        try:
            yield there
        finally:
            dispatcher.CUDADispatcher.configure.cache_clear()
            for kernel in kernels:
                kernel._reset_overloads()


def windows_of(n, n_timesteps=6):
    series, starts = np.zeros(n + n_timesteps, np.float32), np.arange(n, dtype=np.int64)
    return Windows(series, starts, series, starts + n_timesteps, np.ones(n, np.float32))


def train(units=16, n=100, batch_size=32, n_timesteps=6, backend=None, windows=None):
    """An epoch of a small network."""
    from tsforecast.backends.cuda.backend import CudaBackend

    spec = NetworkSpec(n_timesteps, 1, (units,), 1)
    state, windows = TrainState(np.arange(spec.n_params, dtype=np.float32)), windows or windows_of(n, n_timesteps)
    (backend or CudaBackend()).train_epoch(
        spec, StepRule(), state, windows, np.arange(n), batch_size, np.ones(-(-n // batch_size)), 1
    )
