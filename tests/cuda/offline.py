"""Compile CUDA kernels to machine code on a computer without a GPU, and read what they use.

Needs the extra ``cuda`` and no driver. Numba's own kernel class does the compiling, behind a device that only has a
compute capability, so that what is examined is what would be launched. It is not part of numba-cuda's public interface.

``compile_kernel`` compiles one kernel for given argument types. ``recording()`` runs host code of the backend with
arrays of NumPy for device arrays and notes its launches instead of executing them; their argument types and sizes are
then those of a real call.
"""

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import numpy as np

# The architectures of A100, H100 and B200, as numba-cuda names them when it meets the device.
TARGETS = {"sm_80": (8, 0, ""), "sm_90": (9, 0, "a"), "sm_100": (10, 0, "a")}
REGISTERS_PER_BLOCK = 65536
REGISTERS_PER_THREAD = 255
SHARED_BYTES = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}  # most of one block
THREADS_PER_PROCESSOR, RESERVED_BYTES = 2048, 1024  # of shared memory, for each block
FLOAT64 = re.compile(r"[.]f64\b")
PROCESSORS = 132
_OPTIONS = ("fastmath", "max_registers", "launch_bounds", "lineinfo", "lto", "opt", "link")
_FIGURES = {
    "registers": r"used (\d+) registers",
    "stack_bytes": r"(\d+) bytes stack frame",
    "spill_bytes": r"(\d+) bytes spill (?:stores|loads)",
    "shared_bytes": r"(\d+) bytes smem",
}


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel uses: registers a thread, bytes on the stack, spilled, and of static shared memory.

    ``cooperative`` tells whether numba-cuda launches it with all its blocks on the device at once.
    """

    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int
    ptx: str
    cooperative: bool

    def blocks_per_processor(self, n_threads, target):
        """Blocks that a multiprocessor has room for, as the driver works it out."""
        registers = -(-self.registers // 8) * 8 * n_threads
        return min(
            THREADS_PER_PROCESSOR // n_threads,
            REGISTERS_PER_BLOCK // registers,
            (SHARED_BYTES[target] + RESERVED_BYTES) // (self.shared_bytes + RESERVED_BYTES),
        )


@dataclass(frozen=True)
class Launch:
    """A kernel, the types of its arguments, and the sizes of its launch."""

    kernel: object
    argtypes: tuple
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int

    @property
    def name(self):
        return self.kernel.py_func.__name__

    @property
    def n_threads(self):
        return int(np.prod(self.block))


@contextmanager
def device_of(target):
    """Stand in for the current device while a kernel is compiled."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import devices

    device = SimpleNamespace(id=0, name=b"none", compute_capability=TARGETS[target], WARP_SIZE=32)
    with (
        mock.patch.object(dispatcher, "get_current_device", return_value=device),
        mock.patch.object(devices, "get_context", return_value=SimpleNamespace(device=device)),
    ):
        yield


def compile_kernel(kernel, argtypes, target="sm_90"):
    """Compile a ``cuda.jit`` kernel for a key of ``TARGETS``, with the options that it carries."""
    from numba.cuda.dispatcher import _Kernel

    options = {name: value for name, value in kernel.targetoptions.items() if name in _OPTIONS}
    with device_of(target):
        compiled = _Kernel(kernel.py_func, tuple(argtypes), **options)
        ptx = compiled.library.get_asm_str(cc=TARGETS[target])
    return _assemble(ptx, target, options.get("max_registers"), compiled.cooperative)


def _assemble(ptx, target, max_registers, cooperative):
    from cuda.core import Linker, LinkerOptions, ObjectCode

    codes = [ObjectCode.from_ptx(ptx.encode())]
    if cooperative:  # the grid's barrier lies in a library
        from numba.cuda.cudadrv.libs import get_cudalib

        with open(get_cudalib("cudadevrt", static=True), "rb") as file:
            codes.append(ObjectCode.from_library(file.read()))
    arch = target + TARGETS[target][2]
    options = LinkerOptions(arch=arch, ptxas_options=["-v"], verbose=True, max_register_count=max_registers)
    linker = Linker(*codes, options=options)
    linker.link("cubin")
    log = str(linker.get_info_log())
    figures = {name: max(map(int, re.findall(text, log, re.IGNORECASE)), default=0) for name, text in _FIGURES.items()}
    if not figures["registers"]:
        raise AssertionError(f"the assembler told nothing: {log}")
    return Resources(ptx=ptx, cooperative=cooperative, **figures)


class HostArray(np.ndarray):
    """What stands for a device array while launches are recorded."""

    def copy_to_host(self, ary=None, stream=0):
        if ary is None:
            return np.array(self)
        ary[...] = self
        return ary

    def copy_to_device(self, ary, stream=0):
        self[...] = ary


def _to_device(array, stream=0, copy=True, to=None):
    if to is not None:
        to[...] = array
        return to
    return np.array(array).view(HostArray)


def _device_array(shape, dtype=np.float64, strides=None, order="C", stream=0):
    return np.zeros(shape, dtype, order=order).view(HostArray)


@contextmanager
def recording():
    """Yield the list to which every launch is added; device arrays are zeros on the host, and nothing is computed."""
    from numba import cuda
    from numba.cuda.dispatcher import CUDADispatcher
    from numba.cuda.typing.typeof import typeof

    launches = []

    def configured(kernel, configuration):
        grid, block, _, shared_bytes = (*configuration, 0, 0)[:4]

        def note(*args):
            types = tuple(typeof(np.asarray(a) if isinstance(a, np.ndarray) else a) for a in args)
            sizes = [tuple(map(int, np.atleast_1d(size))) for size in (grid, block)]
            launches.append(Launch(kernel, types, *sizes, int(shared_bytes)))

        return note

    stream = SimpleNamespace(synchronize=lambda: None, handle=0)
    replaced = {
        "to_device": _to_device,
        "device_array": _device_array,
        "device_array_like": lambda array, stream=0: _device_array(array.shape, array.dtype),
        "pinned_array": lambda shape, dtype=np.float64, strides=None, order="C": np.zeros(shape, dtype, order),
        "stream": lambda: stream,
        "synchronize": lambda: None,
        "get_current_device": lambda: SimpleNamespace(MULTIPROCESSOR_COUNT=PROCESSORS),
    }
    with ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(mock.patch.object(cuda, name, function))
        stack.enter_context(mock.patch.object(CUDADispatcher, "__getitem__", configured))
        yield launches
