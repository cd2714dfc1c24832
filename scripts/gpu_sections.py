"""What ``gpu_check.py`` does: sections, each a function that measures one case, and its cases.

A case returns a row of plain numbers and words. Everything that a case needs is imported by it, so that what is missing
costs only its own figures.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("memcheck", "racecheck", "synccheck")


class Skipped(Exception):
    """A case cannot run here; the message says why."""


def versions() -> dict:
    """Of everything that figures depend on, and what the package says of the GPU."""
    from tsforecast.backends.cuda import availability

    names = (
        "tsforecast", "numpy", "numba", "numba-cuda", "cuda-core", "cuda-bindings", "nvidia-cuda-runtime",
        "nvidia-nvvm", "nvidia-nvjitlink", "torch",
    )  # fmt: skip
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found["CUDA_HOME"] = os.environ.get("CUDA_HOME")
    if find_spec("torch") is not None:
        import torch

        found |= {"torch_cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found | availability.facts()


def tests(which: str, smoke: bool) -> dict:
    """The tests that need a GPU; the one that fills its memory by itself, the others side by side where they can."""
    if smoke:
        raise Skipped("no GPU")
    if find_spec("pytest") is None:
        raise Skipped("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which, "tests/cuda/test_on_gpu.py"]
    if "not" in which and find_spec("xdist") is not None:
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-4000:], done.stderr[-1000:], file=sys.stderr)
    return {"tests": which, "exit_code": done.returncode, "summary": done.stdout.strip().rpartition("\n")[2]}


def sanitizer(tool: str, units: int, smoke: bool) -> dict:
    """Each kernel for layers of one size once, under a tool of compute-sanitizer."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if smoke or not Path(program).exists():
        raise Skipped("compute-sanitizer is not installed")
    script = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), "--one-of-each", str(units)]
    done = subprocess.run(
        [program, "--tool", tool, "--error-exitcode", "9", *script], capture_output=True, text=True, cwd=ROOT
    )
    lines = [line for line in done.stdout.splitlines() if "=====" in line]
    if done.returncode:
        print(*lines[:40], done.stderr[-2000:], sep="\n", file=sys.stderr)
    return {"tool": tool, "units": units, "exit_code": done.returncode, "summary": " ".join(lines[-1:])}


def _values(*case) -> dict:
    from gpu_values import values

    return values(*case)


def _curves(*case) -> dict:
    from gpu_values import curves

    return curves(*case)


def _first_calls(*case) -> dict:
    from gpu_jobs import first_calls

    return first_calls(*case)


def _launches(*case) -> dict:
    from gpu_jobs import launch_cost

    return launch_cost(*case)


def _timing(name: str) -> Callable[..., dict]:
    def measure(*case) -> dict:
        import gpu_timing

        return getattr(gpu_timing, name)(*case)

    return measure


def tasks(smoke: bool) -> Iterator[tuple[str, Callable[..., dict], tuple]]:
    """``(section, function, case)``, in the order in which they run: what says most of what is right comes first."""
    device = "cpu" if smoke else "cuda"
    sizes = [(u, n, "none") for u in (16, 32, 50, 64, 96, 128, 256) for n in (1, 2)]
    sizes += [(u, n, "concat") for u in (16, 50, 128, 256) for n in (1, 2)]
    steps = [(16, 1), (32, 1), (50, 1), (50, 2), (64, 1), (64, 2)]
    judged = [(u, b, t) for u in (80, 96, 128, 160, 192, 256, 512) for b in (64, 256) for t in (24, 168)]
    others = [(u, b, t) for u in (32, 50, 64) for b in (1, 8, 32, 64, 256) for t in (24, 168)]
    others += [(u, b, t) for u in (96, 128) for b in (1, 8, 32) for t in (24, 168)]
    sections = {
        "versions": (versions, [()]),
        "first_calls": (_first_calls, [(u, 100) for u in (16, 32, 64, 128, 256)]),
        "launches": (_launches, [(1000,)]),
        "curves": (_curves, [(u, 24, 64, 50, rate) for u in (16, 64, 128, 256) for rate in (0.0, 0.2)]),
        "values": (_values, [(device, *case, 24, 64) for case in sizes]),
        "steps": (_timing("training_step"), [(device, u, n, 32, 24, 100) for u, n in steps]),
        "fleet": (_timing("fleet"), [(device, 4096, 32, 32, 24, 8)]),
        "kernels": (_timing("kernels"), [(device, *case, 20) for case in judged]),
        "tests": (tests, [(which, smoke) for which in ("not memory", "memory")]),
        "sanitizer": (sanitizer, [(tool, u, smoke) for u in (16, 64, 200) for tool in TOOLS]),
        "other_kernels": (_timing("kernels"), [(device, *case, 20) for case in others]),
    }
    if smoke:
        tiny = {
            "first_calls": [(4, 2)], "launches": [(2, False)], "curves": [(4, 3, 5, 2, 0.2)],
            "values": [(device, 4, 1, "none", 3, 5), (device, 4, 2, "concat", 3, 5)],
            "steps": [(device, 4, 1, 5, 3, 2)], "fleet": [(device, 3, 4, 4, 3, 1)], "kernels": [(device, 4, 5, 3, 2)],
            "other_kernels": [],
        }  # fmt: skip
        sections = {name: (measure, tiny.get(name, cases)) for name, (measure, cases) in sections.items()}
    for name, (measure, cases) in sections.items():
        for case in cases:
            yield name, measure, case
