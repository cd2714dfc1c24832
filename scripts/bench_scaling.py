"""Our training step on several threads against one: as many batches a call as an epoch may have, in turns."""

from __future__ import annotations

import statistics
import time

import numpy as np
from bench_peers import Ours

CALL_SECONDS = 0.1  # of one thread, for a call
FEWEST_BATCHES, MOST_BATCHES, FEWEST_PAIRS = 4, 512, 7
LARGE, LARGE_BAR = 4096, 1.7  # rows times units of a batch that two threads must gain from, and how much
TOLERANCE = 0.05  # of a ratio, for noise: elsewhere more threads are to be no slower than one


def measure_scaling(name: str, make_job, n_threads: int, seconds: float) -> dict:
    """Milliseconds a batch of one thread and of ``n_threads``, and the median of the ratios of neighbouring calls.

    ``make_job(n_batches, n_jobs)`` gives the job. First the weights after a call are compared, bit by bit.
    """
    probe = Ours(make_job(FEWEST_BATCHES, 1))
    batches = probe._job.batches
    seconds_of(probe, batches)
    n_batches = int(CALL_SECONDS / seconds_of(probe, batches) * FEWEST_BATCHES)
    n_batches = max(FEWEST_BATCHES, min(MOST_BATCHES, n_batches))
    jobs = [make_job(n_batches, n_jobs) for n_jobs in (1, n_threads)]
    runs, batches = [Ours(job) for job in jobs], jobs[0].batches
    for run in runs:
        run.train(batches)
    if not np.array_equal(*(run.weights().view(np.int32) for run in runs)):
        raise AssertionError(f"{name}: the weights depend on the number of threads")
    pairs, end = [], time.perf_counter() + seconds
    while len(pairs) < FEWEST_PAIRS or time.perf_counter() < end:
        order = (0, 1) if len(pairs) % 2 else (1, 0)
        found = {i: seconds_of(runs[i], batches) for i in order}
        pairs.append((found[0], found[1]))
    rows, units = jobs[0].batch, jobs[0].spec.hidden_sizes[0]
    return {
        "case": name,
        "threads": n_threads,
        "batches": n_batches,
        "rows times units": rows * units,
        "ms": [statistics.median(pair[i] for pair in pairs) / n_batches * 1e3 for i in (0, 1)],
        "ratio": statistics.median(one / more for one, more in pairs),
    }


def seconds_of(run: Ours, batches: list[np.ndarray]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run.train(batches)
    return time.perf_counter() - began


def print_scaling(results: list[dict]) -> None:
    """A line a case, with its bar."""
    n_threads = results[0]["threads"]
    print(f"\n{n_threads} threads against one, training, same bits. Bar: {LARGE_BAR} from {LARGE} rows times units on,")
    print(f"elsewhere no slower, within {TOLERANCE:.0%}")
    print(f"{'case':<16}{'batches a call':>16}{'ms, one':>10}{f'ms, {n_threads}':>10}{'ratio':>8}")
    for r in results:
        bar = LARGE_BAR if r["rows times units"] >= LARGE else 1 - TOLERANCE
        missed = "" if r["ratio"] >= bar else f"   below {bar:g}"
        print(f"{r['case']:<16}{r['batches']:>16}{r['ms'][0]:>10.3f}{r['ms'][1]:>10.3f}{r['ratio']:>8.2f}{missed}")
