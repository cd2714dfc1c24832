"""Timings of ``gpu_check.py``: our training steps and kernels against PyTorch's on the same device, in turns.

Each function measures one case and returns plain numbers. A ratio is theirs to ours, the median over pairs that ran one
after the other. Kernels are timed by events of the device, steps by the clock from call to result.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest import mock

import torch
from gpu_jobs import RULE, Job, Ours
from gpu_peers import Eager, Graph, Many, layers_alone, set_tf32, synchronize

from tsforecast.backends.base import TrainState, get_backend
from tsforecast.nn.fleet import TrainJob, train_many
from tsforecast.nn.trainer import TrainConfig

PAIRS = 7


def in_turns(ours, *theirs, pairs: int = PAIRS) -> list[tuple[float, float]]:
    """Seconds of each contender and its ratio to ours, medians over the pairs; each is called once before."""
    for run in (ours, *theirs):
        run()
    times = [[run() for run in (ours, *theirs)] for _ in range(pairs)]
    columns = list(zip(*times, strict=True))
    return [
        (statistics.median(column), statistics.median(b / a for a, b in zip(columns[0], column, strict=True)))
        for column in columns
    ]


def clocked(work):
    """Function that returns the seconds that ``work`` takes by the clock."""

    def run():
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return run


@contextmanager
def timed_launches(device: str):
    """Yield a function that returns the seconds that our kernels have taken since it was last called."""
    events: list = []

    def around(launch):
        def timed(*args, **kwargs):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            launch(*args, **kwargs)
            end.record()
            events.append((begin, end))

        return timed

    def total() -> float:
        synchronize(device)
        seconds = sum(begin.elapsed_time(end) for begin, end in events) / 1000
        events.clear()
        return seconds

    if device != "cuda":
        yield lambda: 1.0
        return
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("tsforecast.backends.cuda.") and hasattr(module, "launch"):
                stack.enter_context(mock.patch.object(module, "launch", around(module.launch)))
        yield total


def training_step(device: str, units: int, layers: int, batch: int, n_timesteps: int, n_batches: int) -> dict:
    """A step of a fit, end to end, against PyTorch eager and in a CUDA graph; microseconds."""
    set_tf32(False)
    job = Job.make(units, layers, batch, n_timesteps, n_batches)
    eager, graph = Eager(job, device), Graph(job, device)
    ours = Ours(job, eager.order)
    (mine, _), (eager_s, to_eager), (graph_s, to_graph) = in_turns(
        clocked(ours.epoch), clocked(eager.epoch), clocked(graph.epoch)
    )
    us = 1e6 / n_batches
    return {
        "units": units, "layers": layers, "batch": batch, "steps": n_timesteps, "ours_us": mine * us,
        "eager_us": eager_s * us, "graph_us": graph_s * us, "ratio_eager": to_eager, "ratio_graph": to_graph,
    }  # fmt: skip


def kernels(device: str, units: int, batch: int, n_timesteps: int, n_batches: int) -> dict:
    """Forward and backward by events: ours (with gather, head, loss, clip and Adam) and cuDNN's layers alone."""
    if device == "cuda" and not torch.backends.cudnn.is_available():
        raise RuntimeError("this PyTorch has no cuDNN to compare with")
    job = Job.make(units, 1, batch, n_timesteps, n_batches)
    ours = Ours(job)
    ours.epoch()  # refuses what there are no kernels for, and loads the modules whose launches are timed
    replays = {}
    for name, allowed in (("fp32", False), ("tf32", True)):
        set_tf32(allowed)
        replays[name] = layers_alone(job, device)

    def theirs(name):
        def run():
            set_tf32(name == "tf32")
            if device != "cuda":
                return clocked(replays[name])()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(n_batches):
                replays[name]()
            end.record()
            torch.cuda.synchronize()
            return begin.elapsed_time(end) / 1000

        return run

    with timed_launches(device) as elapsed:

        def mine():
            ours.epoch()
            return elapsed()

        (my_s, _), (fp32_s, to_fp32), (tf32_s, to_tf32) = in_turns(mine, theirs("fp32"), theirs("tf32"), pairs=5)
    set_tf32(False)
    us = 1e6 / n_batches
    return {
        "units": units, "batch": batch, "steps": n_timesteps, "ours_us": my_s * us, "cudnn_fp32_us": fp32_s * us,
        "cudnn_tf32_us": tf32_s * us, "ratio_fp32": to_fp32, "ratio_tf32": to_tf32,
    }  # fmt: skip


def fleet(device: str, n_models: int, units: int, batch: int, n_timesteps: int, n_batches: int) -> dict:
    """A training step of many networks at once, end to end, against batched products in a CUDA graph; microseconds."""
    set_tf32(False)
    job = Job.make(units, 1, batch, n_timesteps, n_batches)
    many, backend, n_epochs = Many(n_models, job, device), get_backend("cuda"), 4
    windows = job.windows()  # of which all members share the arrays
    config = TrainConfig(RULE, learning_rate_init=job.rate, batch_size=batch, max_iter=n_epochs, tol=0.0)

    def train():
        jobs = [
            TrainJob(job.spec, config, TrainState(job.params.copy()), replace(windows), seed=i) for i in range(n_models)
        ]
        begin = time.perf_counter()
        train_many(backend, jobs, 1)
        return (time.perf_counter() - begin) / n_epochs

    (mine, _), (theirs, ratio) = in_turns(train, clocked(many.epoch), pairs=3)
    us = 1e6 / n_batches
    return {
        "models": n_models, "units": units, "batch": batch, "steps": n_timesteps, "ours_us": mine * us,
        "bmm_graph_us": theirs * us, "ratio": ratio,
    }  # fmt: skip
