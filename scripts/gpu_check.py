"""Check and time the CUDA backend on the GPU of this machine; needs no network.

    python scripts/gpu_check.py [--minutes 8] [--out benchmarks] [--only SECTION ...]
    python scripts/gpu_check.py --smoke    # no GPU: the same program on tiny sizes in the simulator; times mean nothing

The Python that runs it has the extra ``cuda``, pytest and PyTorch with CUDA. Sections that something is missing for are
skipped and say so. Results go to ``<out>/gpu-<device>.json`` and, as Markdown tables, to standard output.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
SANITIZER_TOOLS = ("memcheck", "racecheck")


class Skipped(Exception):
    """A section cannot run here; the message says why."""


class Check:
    """The sections, in the order in which they run; each returns what goes into the report."""

    def __init__(self, minutes: float, smoke: bool):
        self.deadline = time.monotonic() + 60 * minutes
        self.smoke, self.device = smoke, "cpu" if smoke else "cuda"
        self.run_of_batches = 2 if smoke else 100

    def each(self, measure, cases: list[tuple]) -> list[dict]:
        """Measure case by case; what fails or comes too late is told in its place."""
        rows = []
        for case in cases:
            if time.monotonic() > self.deadline:
                rows.append({"case": case, "skipped": "no time left"})
                continue
            try:
                rows.append(measure(*case))
            except Exception as error:
                traceback.print_exc()
                rows.append({"case": case, "skipped": f"{type(error).__name__}: {str(error)[:200]}"})
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)
        return rows

    def versions(self) -> dict:
        import torch

        from tsforecast.backends.cuda import availability

        names = ("tsforecast", "numpy", "numba", "numba-cuda", "cuda-core", "nvidia-cuda-runtime", "torch")
        found = {"python": platform.python_version()}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        found |= {"torch_cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        return found | availability.facts()

    def tests(self) -> dict:
        """The tests that need a GPU."""
        if self.smoke:
            raise Skipped("no GPU")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cuda/test_on_gpu.py"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
        print(done.stdout[-4000:], file=sys.stderr)
        return {"exit_code": done.returncode, "summary": done.stdout.strip().rpartition("\n")[2]}

    def sanitizer(self) -> list[dict]:
        """Each kernel once, under compute-sanitizer."""
        program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if self.smoke or not Path(program).exists():
            raise Skipped("compute-sanitizer is not installed")
        return self.each(lambda tool: self._sanitize(program, tool), [(tool,) for tool in SANITIZER_TOOLS])

    def _sanitize(self, program: str, tool: str) -> dict:
        calls = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), "--one-of-each"]
        done = subprocess.run(
            [program, "--tool", tool, "--error-exitcode", "9", *calls], capture_output=True, text=True, timeout=90
        )
        lines = [line for line in done.stdout.splitlines() if "=====" in line]
        return {"tool": tool, "exit_code": done.returncode, "summary": " ".join(lines[-1:])}

    def values(self) -> list[dict]:
        from gpu_values import values

        sizes = [(u, n, "none") for u in (16, 32, 50, 64, 96, 128, 256) for n in (1, 2)]
        sizes += [(u, n, "concat") for u in (16, 50, 128, 256) for n in (1, 2)]
        sizes = [(4, 1, "none"), (4, 2, "concat")] if self.smoke else sizes
        data = (3, 5) if self.smoke else (24, 64)
        return self.each(lambda *case: values(self.device, *case, *data), sizes)

    def curves(self) -> list[dict]:
        from gpu_values import curves

        cases = [(u, 24, 64, 50, rate) for u in (16, 64, 128, 256) for rate in (0.0, 0.2)]
        return self.each(curves, [(4, 3, 5, 2, 0.2)] if self.smoke else cases)

    def launches(self) -> dict:
        from gpu_timing import launch_cost

        return launch_cost(2 if self.smoke else 1000)

    def steps(self) -> list[dict]:
        from gpu_timing import training_step

        cases = [(16, 1), (32, 1), (50, 1), (50, 2), (64, 1), (64, 2)]
        cases = [(4, 1, 5, 3)] if self.smoke else [(u, n, 32, 24) for u, n in cases]
        return self.each(lambda *case: training_step(self.device, *case, self.run_of_batches), cases)

    def fleet(self) -> list[dict]:
        from gpu_timing import fleet

        case = (3, 4, 4, 3, 1) if self.smoke else (4096, 32, 32, 24, 8)
        return self.each(lambda *case: fleet(self.device, *case), [case])

    def kernels(self) -> list[dict]:
        from gpu_timing import kernels

        judged = [(u, b, t) for u in (80, 96, 128, 160, 192, 256, 512) for b in (64, 256) for t in (24, 168)]
        others = [(u, b, t) for u in (32, 50, 64) for b in (1, 8, 32, 64, 256) for t in (24, 168)]
        others += [(u, b, t) for u in (96, 128) for b in (1, 8, 32) for t in (24, 168)]
        cases = [(4, 5, 3)] if self.smoke else judged + others
        return self.each(lambda u, b, t: kernels(self.device, u, b, t, 2 if self.smoke else 20), cases)


SECTIONS = ("versions", "tests", "values", "curves", "launches", "steps", "fleet", "sanitizer", "kernels")


def one_of_each() -> None:
    """Launch every kernel on little data."""
    import numpy as np
    from gpu_peers import Job
    from gpu_timing import RULE, Ours

    for units, network in itertools.product((16, 64, 200), ({}, {"bidirectional": "concat", "dropout": 0.2})):
        job = Job.make(units, 2, 9, 5, 2, **network)
        ours = Ours(job, np.arange(len(job.x)))
        ours.epoch()
        ours.backend.evaluate(job.spec, RULE, job.params, ours.windows, 1)
        ours.backend.predict(job.spec, job.params, ours.windows.values, ours.windows.x_starts, 1)
        ours.backend.gradient(job.spec, job.params, job.x, job.y)


def bars(report: dict) -> list[dict]:
    """What the backend was built to reach, and the worst that was measured of it."""

    def column(section, key, wanted=bool):
        rows = report.get(section, [])
        return [row[key] for row in rows if key in row and wanted(row)] if isinstance(rows, list) else []

    bars = [
        ("one step, difference to the CPU", "<=", 1e-5, column("curves", "one_step")),
        ("loss in 50 steps, difference to the CPU", "<=", 1e-3, column("curves", "loss_after_50")),
        ("bits of two runs are the same", ">=", 1, [float(same) for same in column("curves", "same_bits")]),
        ("training step, PyTorch eager / ours", ">=", 5, column("steps", "ratio_eager")),
        ("training step, PyTorch in a CUDA graph / ours", ">=", 2, column("steps", "ratio_graph")),
        ("fleet, batched products / ours", ">=", 3, column("fleet", "ratio")),
        ("kernels, 80 to 192 units, batch from 64, cuDNN fp32 / ours", ">=", 1.5,
         column("kernels", "ratio_fp32", lambda row: 80 <= row["units"] <= 192 and row["batch"] >= 64)),
        ("kernels, 256 to 512 units, cuDNN fp32 / ours", ">=", 0.7,
         column("kernels", "ratio_fp32", lambda row: row["units"] >= 256)),
    ]  # fmt: skip
    rows = []
    for what, relation, bar, found in bars:
        worst = (max(found) if relation == "<=" else min(found)) if found else None
        held = "not measured" if worst is None else worst <= bar if relation == "<=" else worst >= bar
        rows.append({"what": what, "bar": f"{relation} {bar:g}", "worst": worst, "cases": len(found), "held": held})
    return rows


def table(rows: list[dict]) -> str:
    """Markdown of rows with the same keys; others follow as lines."""
    good = [row for row in rows if "skipped" not in row]
    lines = []
    if good:
        keys = list(good[0])
        lines += [" | ".join(keys), " | ".join("---" for _ in keys)]
        lines += [" | ".join(_cell(row[key]) for key in keys) for row in good]
    lines = [f"| {line} |" for line in lines]
    return "\n".join([*lines, *(f"\nskipped {row['case']}: {row['skipped']}" for row in rows if "skipped" in row)])


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def use_simulator() -> None:
    """Stand in for the GPU; before Numba is imported."""
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    sys.path.insert(0, str(ROOT / "tests" / "cuda"))
    import simulator

    simulator.install()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--one-of-each", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.smoke:
        use_simulator()
    if args.one_of_each:
        one_of_each()
        return 0
    if not args.smoke:
        from tsforecast import BackendUnavailableError
        from tsforecast.backends.cuda import availability

        try:
            availability.require()
        except BackendUnavailableError as error:
            sys.exit(f"gpu_check: {error}")
    check, report = Check(args.minutes, args.smoke), {}
    for name in args.only:
        print(f"== {name}", file=sys.stderr, flush=True)
        begin = time.monotonic()
        try:
            report[name] = getattr(check, name)()
        except Exception as error:
            if not isinstance(error, Skipped):
                traceback.print_exc()
            report[name] = {"skipped": str(error)[:300]}
        print(f"   {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    report["bars"] = bars(report)
    for name, result in report.items():
        rows = result if isinstance(result, list) else [{"case": name, **result}]
        print(f"\n### {name}\n\n{table(rows)}")
    if not args.smoke:
        device = availability.find_gpu().name
        path = args.out / f"gpu-{re.sub('[^A-Za-z0-9]+', '-', device).strip('-').lower()}.json"
        report = {"device": device, "measured": time.strftime("%Y-%m-%d"), **report}
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(f"\nwrote {path}")
    return int(any("exit_code" in r and r["exit_code"] for r in report.values() if isinstance(r, dict)))


if __name__ == "__main__":
    sys.exit(main())
