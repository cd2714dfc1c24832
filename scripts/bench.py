"""Compare our training step and inference with torch.nn.LSTM, JAX and Keras, whichever of them are installed.

    python scripts/bench.py [--cases 32x24x1x64x1 saturated program] [--threads 1 2] [--seconds 2] [--peers torch jax]
                            [--parts peers scaling] [--json FILE] [--chart PNG]

A case is batch x steps x inputs x units x layers. Each number of threads has a process of its own, tied to as many
processors. All start from the same weights; before anything is timed, their forecasts, their loss and their weights
after one training step are compared with ours in float64. Then ours and theirs run in turns, pair by pair: a ratio is
the median over the pairs, so that a noisy machine slows both. Short calls are repeated, after one that is not timed.
The peak is that of fused multiply-adds on the same number of processors, measured between the pairs. Operations counted
are those of the layers' multiplies.

The part ``scaling`` compares our training on the most threads with that on one, in one process (``bench_scaling``).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SHAPES = (
    "32x5x1x50x2", "32x24x1x64x1", "256x48x8x32x1", "64x168x8x128x1", "128x96x7x256x2", "32x96x7x512x1",
    "1024x24x1x64x1", "1x24x1x32x1", "16x336x1x16x1", "512x24x4x24x1",
)  # fmt: skip
# The input weights of the last two differ by a factor that drives gates so far that their slopes are denormal.
SATURATED, UNSATURATED, PROGRAM = "saturated", "unsaturated", "program"
SPECIAL_SHAPE, SATURATION = "64x48x8x64x1", 150.0
CASES = (*SHAPES, UNSATURATED, SATURATED, PROGRAM)
PEERS = ("torch", "jax", "keras")
AGAINST_PEERS, SCALING = PARTS = ("peers", "scaling")
ALONE = ""  # in the place of a peer's name
FEWEST_PAIRS = 5
WORK = ("train", "predict")


@dataclass(frozen=True)
class Case:
    """One network and batch, by name."""

    name: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch B, steps T, inputs D, units H, layers L."""
        shape = SPECIAL_SHAPE if self.name in (SATURATED, UNSATURATED) else self.name
        return tuple(int(size) for size in shape.split("x"))

    @property
    def gain(self) -> float:
        """Factor on the input weights."""
        return SATURATION if self.name == SATURATED else 1.0

    def operations(self, work: str) -> float:
        """Floating-point operations of one batch: no gradient is needed for the inputs of the first layer."""
        B, T, D, H, L = self.sizes
        inputs, rest = D * H, (2 * L - 1) * H * H
        return 2.0 * B * T * 4 * ((inputs + rest) if work == "predict" else (2 * inputs + 3 * rest))


def make_job(case: Case, n_batches: int, n_threads: int):
    """Data and first weights of a case."""
    import numpy as np
    from bench_peers import Job

    from tsforecast.nn.initializers import init_params
    from tsforecast.spec import NetworkSpec

    B, T, D, H, L = case.sizes
    spec = NetworkSpec(T, D, (H,) * L, 1)
    flat = init_params(spec, 1, np.float32)
    spec.views(flat)["layers.0.w_x"][:] *= case.gain
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((B * n_batches, T, D), np.float32), rng.standard_normal((B * n_batches, 1), np.float32)
    return Job(spec, flat, x, y, B, n_threads)


class Oracle:
    """Forecasts and first training step of a job in float64, and how far float32 may be from them."""

    def __init__(self, case: Case, job):
        import numpy as np
        from bench_peers import BETA_2, EPSILON, Ours

        exact = Ours(job, np.float64)
        self._job, first = job, job.batches[:1]
        self._predicted, self._loss = exact.predict(), exact.train(first)
        self._weights = exact.weights()
        descent = Ours(job, np.float64, solver="sgd")
        descent.train(first)
        gradient = (job.flat - descent.weights()) / job.rate
        # A number has passed up to T steps, each with a sum of D + H products: as many roundings, of random signs.
        _, T, D, H, L = case.sizes
        eps = np.finfo(np.float32).eps
        self._slack = 4 * eps * (L * T * (D + H)) ** 0.5 * case.gain
        largest = np.concatenate([np.full(g.size, abs(g).max()) for g in job.spec.views(gradient).values()])
        error, size = self._slack * largest, abs(gradient)
        # Adam's first step is rate * g / (|g| + epsilon): it turns on the sign of g where that is in doubt.
        doubt = np.minimum(2.0, error * EPSILON / (np.maximum(size - error, 0) + EPSILON) ** 2)
        # Some compute 1 - beta_2 in float32, where it has lost three digits.
        self._tolerance = job.rate * (doubt + eps / (1 - BETA_2)) + 4 * eps * abs(self._weights)

    def check(self, name: str, contender) -> None:
        """Compare a contender that has done nothing yet; it is one step further afterwards."""
        import numpy as np

        def within(what, found, wanted, tolerance):
            error = abs(found - wanted)
            if not np.all(error <= tolerance):
                worst = np.max(error / tolerance)
                raise AssertionError(f"{name}: {what} differ by up to {np.max(error):.2e}, {worst:.1f} times too much")

        within("forecasts", contender.predict(), self._predicted, self._slack * max(1.0, abs(self._predicted).max()))
        within("losses", contender.train(self._job.batches[:1]), self._loss, self._slack * max(1.0, self._loss))
        within("weights after a step", contender.weights(), self._weights, self._tolerance)


def seconds_of(call, repeats: int) -> float:
    """Seconds a call, over ``repeats`` of them.

    Short calls follow one that is not timed: caches hold what the other side has left, and to fetch its own again
    takes either a good part of such a call.
    """
    if repeats > 1:
        call()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def pairs_of(ours, theirs, peak, seconds: float) -> list[tuple[float, float, float]]:
    """Seconds of ours and theirs (0 where there is no peer) and the peak, measured in turns for ``seconds``."""
    repeats = max(1, int(0.003 / seconds_of(ours, 2)))
    if theirs is not None:
        theirs()
    found, end = [], time.perf_counter() + seconds
    while len(found) < FEWEST_PAIRS or time.perf_counter() < end:
        first = 0.0
        if theirs is not None and len(found) % 2:
            first = seconds_of(theirs, repeats)
        time.sleep(0.001)  # threads of one that wait for work in a busy loop must not slow the other
        gflops = peak.gflops()
        own = seconds_of(ours, repeats)
        time.sleep(0.001)
        if theirs is not None and not len(found) % 2:
            first = seconds_of(theirs, repeats)
        found.append((own, first, gflops))
    return found


def measure_case(case: Case, n_threads: int, peers: list[str], seconds: float, peak) -> dict:
    """Results of one case: for training and inference, milliseconds a batch, GFLOP/s and the ratios."""
    import bench_peers

    probe = bench_peers.Ours(make_job(case, 2, n_threads))
    all_of = probe._job.batches
    probe.train(all_of)
    n_batches = max(2, min(32, int(0.02 / seconds_of(lambda: probe.train(all_of), 2))))
    job = make_job(case, n_batches, n_threads)
    oracle = Oracle(case, job)
    ours = bench_peers.Ours(job)
    oracle.check("ours", ours)
    samples: dict[str, dict[str, list]] = {work: {} for work in WORK}
    for name in [*peers, UNSATURATED] if case.name == SATURATED else peers or [ALONE]:
        theirs = None
        if name == UNSATURATED:
            theirs = bench_peers.Ours(make_job(Case(UNSATURATED), n_batches, n_threads))
        elif name != ALONE:
            theirs = bench_peers.PEERS[name](job)
            oracle.check(name, theirs)
        calls = {"train": lambda c: lambda: c.train(job.batches), "predict": lambda c: c.predict}
        for work in WORK:
            other = calls[work](theirs) if theirs else None
            samples[work][name] = pairs_of(calls[work](ours), other, peak, seconds)
    result = {"case": case.name, "threads": n_threads}
    for work in WORK:
        result[work] = summary_of(samples[work], case.operations(work), n_batches if work == "train" else 1)
    return result


def summary_of(samples: dict[str, list], operations: float, n_batches: int) -> dict:
    """Medians over all pairs for ours, and over its own pairs for each peer."""
    every = [pair for pairs in samples.values() for pair in pairs]
    own = statistics.median(pair[0] for pair in every) / n_batches
    gflops, peak = operations / own / 1e9, statistics.median(pair[2] for pair in every)
    fraction = statistics.median(operations * n_batches / pair[0] / 1e9 / pair[2] for pair in every)
    peers = {
        name: {
            "ms": statistics.median(pair[1] for pair in pairs) / n_batches * 1e3,
            "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
        }
        for name, pairs in samples.items()
        if name != ALONE
    }
    return {"ms": own * 1e3, "gflops": gflops, "peak": peak, "fraction": fraction, "peers": peers}


def worker(options: argparse.Namespace) -> None:
    """Measure with one number of threads, in this process, and write what was found."""
    n_threads = options.worker
    if hasattr(os, "sched_setaffinity"):  # JAX takes its number of threads from here, once
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])
    if options.parts == [SCALING]:
        scaling_worker(options)
        return
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    if "KERAS_BACKEND" not in os.environ:
        os.environ["KERAS_BACKEND"] = "jax" if importlib.util.find_spec("jax") else "torch"
    from bench_peak import Peak
    from bench_program import measure_program

    peak, results = Peak(n_threads), []
    for name in options.cases:
        if name == PROGRAM:
            result = {"case": name, "threads": n_threads, **measure_program(options.peers, n_threads, pairs_of, peak)}
        else:
            result = measure_case(Case(name), n_threads, options.peers, options.seconds, peak)
        results.append(result)
        print_result(result, options.peers)
        options.json.write_text(json.dumps(results))


def scaling_worker(options: argparse.Namespace) -> None:
    """Compare numbers of threads for every shape, in this process, and write what was found."""
    from bench_scaling import measure_scaling, print_scaling

    results = []
    for name in [name for name in options.cases if name != PROGRAM]:
        case = Case(name)

        def job(n_batches: int, n_jobs: int, case: Case = case):
            return make_job(case, n_batches, n_jobs)

        results.append(measure_scaling(name, job, options.worker, options.seconds))
    print_scaling(results)
    options.json.write_text(json.dumps(results))


def print_header(peers: list[str], n_threads: int) -> None:
    print(f"\n{n_threads} thread{'s' * (n_threads > 1)}; peers: how many times as long as ours they take")
    print(f"{'case':<16} {'':<8}{'ms':>9}{'GFLOP/s':>9}{'of peak':>9}" + "".join(f"{peer:>8}" for peer in peers))


def print_result(result: dict, peers: list[str]) -> None:
    for work in WORK:
        if work in result:
            row = result[work]
            rate = f"{row['gflops']:>9.1f}{row['fraction']:>9.1%}" if "gflops" in row else " " * 18
            ratios = "".join(f"{row['peers'][peer]['ratio']:>8.2f}" for peer in peers)
            print(f"{result['case']:<16} {work:<8}{row['ms']:>9.3f}{rate}{ratios}", flush=True)


# what, the bar of the project
BARS = {
    "train torch geometric mean": 3.0, "train torch worst": 1.1, "train jax geometric mean": 3.0,
    "predict torch geometric mean": 3.0, "predict torch worst": 1.2,
    "program keras": 60.0, "program torch": 8.0, "program jax": 3.0,
    "train least fraction of peak, H 64..256, B >= 32": 0.6, "predict least fraction of peak, H 64..256, B >= 32": 0.6,
    "train saturated / unsaturated": -1.3, "predict saturated / unsaturated": -1.3,
}  # fmt: skip


def summarise(results: list[dict], peers: list[str]) -> dict[str, float]:
    """Figures over the cases of one number of threads."""
    by_name = {result["case"]: result for result in results}
    shapes = [by_name[name] for name in by_name if name not in (UNSATURATED, SATURATED, PROGRAM)]
    found: dict[str, float] = {}
    for work in WORK:
        for peer in peers if shapes else []:
            ratios = [result[work]["peers"][peer]["ratio"] for result in shapes]
            found[f"{work} {peer} geometric mean"] = statistics.geometric_mean(ratios)
            found[f"{work} {peer} worst"] = min(ratios)
        middle = [r for r in shapes if Case(r["case"]).sizes[0] >= 32 and 64 <= Case(r["case"]).sizes[3] <= 256]
        if middle:
            found[f"{work} least fraction of peak, H 64..256, B >= 32"] = min(r[work]["fraction"] for r in middle)
        if SATURATED in by_name:
            found[f"{work} saturated / unsaturated"] = 1 / by_name[SATURATED][work]["peers"][UNSATURATED]["ratio"]
    if PROGRAM in by_name:
        found |= {f"program {peer}": by_name[PROGRAM]["train"]["peers"][peer]["ratio"] for peer in peers}
    return found


def print_summary(summary: dict[str, float]) -> None:
    for what, value in summary.items():
        bar = BARS.get(what)
        note = "" if bar is None else f"   (bar: {'at most' if bar < 0 else 'at least'} {abs(bar):g})"
        print(f"{what:<52}{value:>8.2f}{note}")


def draw(results: list[dict], peers: list[str], path: Path) -> None:
    """Dots for the ratios: a colour a peer, filled for one thread, hollow for more."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    names = list(dict.fromkeys(result["case"] for result in results))
    size = 9, 0.36 * len(names) + 1.6
    figure, panels = plt.subplots(1, 2, sharex=True, sharey=True, figsize=size, layout="constrained")
    for panel, work, title in zip(panels, WORK, ("training step", "inference"), strict=True):
        panel.axvline(1, color="0.3", linewidth=1)
        for result in results:
            for k, peer in enumerate(peers if work in result else []):
                few = result["threads"] == 1
                height = names.index(result["case"]) + 0.22 * (k - (len(peers) - 1) / 2)
                ratio = result[work]["peers"][peer]["ratio"]
                panel.plot(ratio, height, "o", ms=6, color=f"C{k}", mfc=f"C{k}" if few else "white")
        panel.set(xscale="log", title=title, xlabel="times as long as tsforecast")
        panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(ticker.NullLocator())
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(left=False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    for k, peer in enumerate(peers):
        panels[1].plot([], [], "o", color=f"C{k}", label=peer)
    for n_threads in sorted({result["threads"] for result in results}):
        fill = "0.4" if n_threads == 1 else "white"
        panels[1].plot([], [], "o", color="0.4", mfc=fill, label=f"{n_threads} thread{'s' * (n_threads > 1)}")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=150)


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    installed = [peer for peer in PEERS if importlib.util.find_spec(peer)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), metavar="CASE", help=f"default: {' '.join(CASES)}")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case, peer, and kind of work (default 2)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=installed, help="default: all that are installed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: both")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--chart", type=Path, help="draw the ratios here")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    missing = [peer for peer in options.peers if peer not in installed]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    return options


def run_worker(options: argparse.Namespace, n_threads: int, part: str) -> list[dict]:
    """Results of one part from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, __file__, "--worker", str(n_threads), "--json", str(found), "--parts", part]
        command += ["--seconds", str(options.seconds), "--cases", *options.cases, "--peers", *options.peers]
        subprocess.run(command, check=True)
        return json.loads(found.read_text())


def main(arguments: list[str] | None = None) -> None:
    options = options_of(arguments)
    if options.worker:
        worker(options)
        return
    missing = [peer for peer in PEERS if peer not in options.peers]
    print(f"{processor()}, {os.cpu_count()} processors" + (f"; left out: {', '.join(missing)}" if missing else ""))
    results, summaries, scaling = [], {}, []
    for n_threads in options.threads if AGAINST_PEERS in options.parts else []:
        print_header(options.peers, n_threads)
        here = run_worker(options, n_threads, AGAINST_PEERS)
        results += here
        summaries[str(n_threads)] = summarise(here, options.peers)
        print_summary(summaries[str(n_threads)])
    if SCALING in options.parts and max(options.threads) > 1:
        scaling = run_worker(options, max(options.threads), SCALING)
    if options.json:
        versions = {name: importlib.metadata.version(name) for name in ("numba", "numpy", *options.peers)}
        machine = {"processor": processor(), "processors": os.cpu_count(), "python": platform.python_version()}
        document = {"machine": machine, "versions": versions, "summary": summaries}
        document |= {"results": results, "scaling": scaling}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.chart:
        draw(results, options.peers, options.chart)


if __name__ == "__main__":
    main()
