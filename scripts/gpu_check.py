"""Check and time the CUDA backend on the GPU of this machine; needs no network.

    python scripts/gpu_check.py [--minutes 8] [--out benchmarks] [--only SECTION ...]
    python scripts/gpu_check.py --show benchmarks/gpu-<device>.json    # the tables of an earlier run
    python scripts/gpu_check.py --smoke    # no GPU: the same program on tiny sizes in the simulator; times mean nothing

The Python that runs it has the extra ``cuda`` and, for all of it, pytest and PyTorch with CUDA. Where wheels lack the
compiler's library, a toolkit that ``CUDA_HOME`` names, or else /usr/local/cuda, stands in. Cases run in a process of
their own, one after the other. What a case lacks, breaks or takes too long for costs its own figures alone: after an
error that leaves the GPU unusable, a crash or a standstill, a new process goes on with the next one. Results go to
``<out>/gpu-<device>.json`` after every case, beside the other sections of an earlier run, and, as Markdown tables, to
standard output at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gpu_report import bars, markdown
from gpu_sections import ROOT, Skipped, tasks

TOOLKIT = Path("/usr/local/cuda")
UNUSABLE = 75  # exit code of a process whose GPU answers no more
LONGEST = {"tests": 420.0, "sanitizer": 150.0}  # seconds of a case, where it is not OTHERS
OTHERS = 120.0


def work(progress: Path, first: int, only: list[str], smoke: bool) -> int:
    """Measure from the task of that number on, with a line to ``progress`` when one begins and when it has ended."""
    if smoke:
        use_simulator()
    with progress.open("a", buffering=1) as out:
        for i, (section, measure, case) in enumerate(tasks(smoke)):
            if i < first or section not in only:
                continue
            print(f"== {section} {case}", file=sys.stderr, flush=True)
            out.write(json.dumps({"begun": i}) + "\n")
            is_usable = True
            try:
                row = measure(*case)
            except Skipped as reason:
                row = {"case": case, "skipped": str(reason)}
            except Exception as error:
                traceback.print_exc()
                is_usable = smoke or still_usable()
                row = {"case": case, "skipped": f"{type(error).__name__}: {str(error)[:300]}"}
            print(f"   {row}", file=sys.stderr, flush=True)
            out.write(json.dumps({"ended": i, "row": row}) + "\n")
            if not is_usable:
                return UNUSABLE
    return 0


def still_usable() -> bool:
    """Whether the GPU still answers: some errors stay until the process ends."""
    try:
        from numba import cuda

        cuda.synchronize()
    except Exception:
        return False
    return True


def has_compiler() -> bool:
    """Whether the wheel with the compiler's library is installed."""
    try:
        return bool(version("nvidia-nvvm"))
    except PackageNotFoundError:
        return False


def use_simulator() -> None:
    """Stand in for the GPU; before Numba is imported."""
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    sys.path.insert(0, str(ROOT / "tests" / "cuda"))
    import simulator

    simulator.install()


class Run:
    """Processes that measure, one after the other, and the rows that have come of them."""

    def __init__(self, folder: Path, only: list[str], minutes: float, smoke: bool, save):
        self.progress, self.only, self.smoke, self.save = folder / "progress", only, smoke, save
        self.deadline = time.monotonic() + 60 * minutes
        self.tasks = [(section, case) for section, _, case in tasks(smoke)]
        self.rows: dict[int, dict] = {}

    def sections(self) -> dict[str, list[dict]]:
        """Rows by section, in the order of their cases."""
        sections: dict[str, list[dict]] = {}
        for i, row in sorted(self.rows.items()):
            sections.setdefault(self.tasks[i][0], []).append(row)
        return sections

    def all(self) -> None:
        wanted = [i for i, (section, _) in enumerate(self.tasks) if section in self.only]
        while left := [i for i in wanted if i not in self.rows]:
            if time.monotonic() >= self.deadline:
                for i in left:
                    self.skip(i, "no time left")
                return
            self.some(left[0])

    def some(self, first: int) -> None:
        """One process, from that task on; what it was at when it ended too early is left out."""
        self.progress.write_text("")
        command = [sys.executable, __file__, "--work", str(self.progress), "--first", str(first), "--only", *self.only]
        process = subprocess.Popen([*command, *(["--smoke"] if self.smoke else [])], start_new_session=True)
        begun, since, why = first, time.monotonic(), ""
        try:
            while process.poll() is None and not why:
                time.sleep(0.2)
                now = self.read(begun)
                if now != begun:
                    begun, since = now, time.monotonic()
                limit = LONGEST.get(self.tasks[begun][0], OTHERS)
                if time.monotonic() >= self.deadline:
                    why = "no time left"
                elif time.monotonic() - since > limit:
                    why = f"took more than {limit:.0f} s"
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):  # with what it has started itself
                    os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        begun = self.read(begun)
        if begun not in self.rows:
            self.skip(begun, why or f"the process ended with code {code}")
        self.save(self.sections())

    def read(self, begun: int) -> int:
        """Take over the rows that have come; return the task that was begun last."""
        lines = self.progress.read_text().splitlines(keepends=True)
        for line in lines:
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            begun = entry.get("begun", begun)
            if "row" in entry and entry["ended"] not in self.rows:
                self.rows[entry["ended"]] = entry["row"]
                self.save(self.sections())
        return begun

    def skip(self, i: int, why: str) -> None:
        self.rows[i] = {"case": list(self.tasks[i][1]), "skipped": why}


def check(args) -> int:
    """Measure all that is asked for, save and print it; 1 where a test or a tool found something."""
    device, path = "simulator", None
    if not args.smoke:
        from tsforecast import BackendUnavailableError
        from tsforecast.backends.cuda import availability

        try:
            availability.require()
        except BackendUnavailableError as error:
            sys.exit(f"gpu_check: {error}")
        device = availability.find_gpu().name
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"gpu-{re.sub('[^A-Za-z0-9]+', '-', device).strip('-').lower()}.json"

    kept = {}  # of an earlier run: sections that this one leaves out
    if path is not None and path.exists():
        kept = {name: rows for name, rows in json.loads(path.read_text()).items() if name not in args.only}

    def save(sections: dict) -> dict:
        whole = {**kept, "device": device, "measured": time.strftime("%Y-%m-%d"), **sections}
        whole["bars"] = bars({name: rows for name, rows in whole.items() if isinstance(rows, list)})
        if path is not None:
            path.write_text(json.dumps(whole, indent=1) + "\n")
        return whole

    with tempfile.TemporaryDirectory() as folder:
        for name in ("TSFORECAST_CACHE_DIR", "TSFORECAST_TEST_CACHE_DIR"):  # what the CPU backend compiles, once
            os.environ.setdefault(name, str(Path(folder) / "cache"))
        run = Run(Path(folder), args.only, args.minutes, args.smoke, save)
        with suppress(KeyboardInterrupt):
            run.all()
    print(markdown(save(run.sections())))
    if path is not None:
        print(f"wrote {path}")
    return int(any(row.get("exit_code") for row in run.rows.values()))


def main() -> int:
    sections = list(dict.fromkeys(section for section, *_ in tasks(smoke=False)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--only", nargs="+", choices=sections, default=sections, metavar="SECTION")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--show", type=Path, metavar="FILE")
    parser.add_argument("--one-of-each", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if not os.environ.keys() & {"CUDA_HOME", "CUDA_PATH"} and not has_compiler() and (TOOLKIT / "nvvm").exists():
        os.environ["CUDA_HOME"] = str(TOOLKIT)
    if args.show:
        print(markdown(json.loads(args.show.read_text())))
        return 0
    if args.one_of_each:
        from gpu_jobs import one_of_each

        one_of_each(args.one_of_each)
        return 0
    if args.work:
        return work(args.work, args.first, args.only, args.smoke)
    return check(args)


if __name__ == "__main__":
    sys.exit(main())
