"""Whether CUDA kernels can run here, and if not, what is missing and how to get it.

The driver is asked directly, and the CUDA libraries are looked for one by one, before ``numba.cuda`` is imported:
without its libraries the import itself fails, and not with an ImportError.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from tsforecast.exceptions import BackendUnavailableError

EXTRA = "pip install 'tsforecast[cuda]'"
# The kernels are compiled and checked for this compute capability and later ones (A100 and newer).
LEAST_CAPABILITY = (8, 0)
# The extra brings CUDA 13; drivers for an older CUDA do not run what it compiles.
LEAST_DRIVER = (13, 0)
NEEDS = "an NVIDIA GPU of compute capability 8.0 or later, driver release 580 or later (CUDA 13), the extra cuda"
LIBRARIES = ("cudart", "nvrtc", "nvvm", "nvJitLink")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NOT_INITIALIZED, _NO_DEVICE = 3, 100  # what cuInit returns in a fork of a process that used the GPU, and without one


@dataclass(frozen=True)
class Gpu:
    """The first GPU: its name, compute capability, memory in bytes, and the newest CUDA that its driver knows."""

    name: str
    capability: tuple[int, int]
    memory: int
    driver: tuple[int, int]


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def is_simulated() -> bool:
    """Whether Numba's CUDA simulator stands in for a GPU."""
    return _is_set("NUMBA_ENABLE_CUDASIM")


def is_available() -> bool:
    """Whether ``require`` would pass."""
    return is_simulated() or not (problem_of_gpu() or problem_of_extra())


def require() -> None:
    """Raise ``BackendUnavailableError`` unless kernels can be compiled and run here; name what is missing."""
    problems = [] if is_simulated() else [p for p in (problem_of_gpu(), problem_of_extra()) if p]
    if problems:
        raise BackendUnavailableError(
            f'device="cuda" cannot be used: {"; and ".join(problems)}. '
            'device="cpu" works everywhere, and device="auto" takes a GPU only where there is one'
        )


def problem_of_gpu() -> str | None:
    """What is wrong with driver or device, as a sentence without its full stop; None if nothing is."""
    try:
        gpu = find_gpu()
    except BackendUnavailableError as error:
        return str(error)
    if gpu.driver < LEAST_DRIVER:
        return (
            f"the NVIDIA driver is for CUDA {_dotted(gpu.driver)}, and the kernels need one for CUDA "
            f"{_dotted(LEAST_DRIVER)}; install driver release 580 or later"
        )
    if gpu.capability < LEAST_CAPABILITY:
        return (
            f"{gpu.name} has compute capability {_dotted(gpu.capability)}, and the kernels need "
            f"{_dotted(LEAST_CAPABILITY)}; use an A100 or a newer GPU"
        )
    return None


@cache
def problem_of_extra() -> str | None:
    """What is missing of numba-cuda and the CUDA libraries, likewise."""
    if find_spec("numba_cuda") is None:
        return f"the package numba-cuda is not installed: {EXTRA}"
    try:
        pathfinder = import_module("cuda.pathfinder")
        for name in LIBRARIES:
            pathfinder.load_nvidia_dynamic_lib(name)
        import_module("numba.cuda")
        libs = import_module("numba.cuda.cudadrv.libs")
        for name, path in (("libdevice", libs.get_libdevice()), ("cudadevrt", libs.get_cudalib("cudadevrt", True))):
            if path is None or not Path(path).is_file():  # what kernels are linked with
                raise FileNotFoundError(f"no {name}")
    except Exception as error:  # of classes that each of these libraries defines
        first_line = str(error).strip().partition("\n")[0]
        return (
            f"numba-cuda is installed, but not all that it needs ({first_line}): {EXTRA}, or let CUDA_HOME name a "
            "toolkit of CUDA 13"
        )
    return None


@cache
def find_gpu() -> Gpu:
    """Ask the driver for the first GPU; ``BackendUnavailableError`` says why there is none."""
    if _is_set("NUMBA_DISABLE_CUDA"):
        raise BackendUnavailableError("NUMBA_DISABLE_CUDA is set, which keeps numba-cuda from using a GPU; unset it")
    driver = _open_driver()
    status = driver.cuInit(0)
    if status:
        hint = {
            _NOT_INITIALIZED: "; if this process was forked from one that had used the GPU, start it by spawn instead",
            _NO_DEVICE: "; CUDA_VISIBLE_DEVICES hides it" if "CUDA_VISIBLE_DEVICES" in os.environ else "",
        }.get(status, "")
        raise BackendUnavailableError(f"the NVIDIA driver finds no GPU to use ({_error_name(driver, status)}){hint}")
    number, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    driver.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        raise BackendUnavailableError("the NVIDIA driver finds no GPU to use; CUDA_VISIBLE_DEVICES may hide it")
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=(major.value, minor.value),
        memory=memory.value,
        driver=(number.value // 1000, number.value % 1000 // 10),
    )


if hasattr(os, "register_at_fork"):  # a fork cannot use the GPU that this process uses: it has to ask anew
    os.register_at_fork(after_in_child=find_gpu.cache_clear)


def _open_driver():
    try:
        return CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        raise BackendUnavailableError(
            "there is no NVIDIA driver; install one of release 580 or later from your system's packages "
            "(in a container: run it with access to the GPU)"
        ) from None


def _error_name(driver, status: int) -> str:
    text = ctypes.c_char_p()
    driver.cuGetErrorName(status, ctypes.byref(text))
    return (text.value or b"error").decode() + f", {status}"


def facts() -> dict[str, str | None]:
    """What ``tsforecast info`` tells of CUDA; None for what is not there."""
    device = driver = None
    with suppress(BackendUnavailableError):
        gpu = find_gpu()
        device = f"{gpu.name}, compute capability {_dotted(gpu.capability)}, {gpu.memory / 2**30:.0f} GiB"
        driver = f"{_driver_release() or 'release unknown'}, CUDA {_dotted(gpu.driver)}"
    problem = "; and ".join(p for p in (problem_of_gpu(), problem_of_extra()) if p)
    return {
        "gpu": device,
        "gpu_driver": driver,
        "numba-cuda": _version("numba-cuda"),
        "cuda_toolkit": _version("nvidia-cuda-runtime"),
        "cuda_needs": NEEDS,
        "device_auto": f"cpu, since {problem}" if problem else "cuda",
    }


def _driver_release() -> str | None:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _dotted(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))
