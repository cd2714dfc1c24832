"""Training jobs that ``gpu_check.py`` measures, and what it measures without PyTorch."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.spec import NetworkSpec

RULE = StepRule(max_grad_norm=1.0)


@dataclass(frozen=True)
class Job:
    """One network and its data: ``params [P]``, ``x [N,T,F]``, ``y [N,K]`` in float32, and rows a batch."""

    spec: NetworkSpec
    params: np.ndarray
    x: np.ndarray
    y: np.ndarray
    batch: int
    rate: float = 1e-3

    @staticmethod
    def make(
        units: int, layers: int, batch: int, n_timesteps: int, n_batches: int, n_features: int = 1, **network
    ) -> Job:
        rng = np.random.default_rng(0)
        spec = NetworkSpec(n_timesteps, n_features, (units,) * layers, 1, **network)
        n = batch * n_batches
        x, y = rng.normal(size=(n, n_timesteps, n_features)), rng.normal(size=(n, 1))
        params = rng.uniform(-1, 1, spec.n_params) / np.sqrt(units)
        return Job(spec, *(a.astype(np.float32) for a in (params, x, y)), batch)

    @property
    def n_batches(self) -> int:
        return len(self.x) // self.batch

    def windows(self) -> Windows:
        """The data as the backend takes them, a new object each time."""
        starts = np.arange(len(self.x), dtype=np.int64)
        weights = np.ones(len(self.x), np.float32)
        return Windows(self.x.ravel(), starts * self.x[0].size, self.y.ravel(), starts, weights)


class Ours:
    """The backend's own call for an epoch, as ``fit`` makes it; windows are on the device from the first call on."""

    def __init__(self, job: Job, order: np.ndarray | None = None, backend=None):
        self.job, self.order = job, np.arange(len(job.x)) if order is None else order
        self.backend, self.windows = backend or get_backend("cuda"), job.windows()
        self.state, self.rates = TrainState(job.params.copy()), np.full(job.n_batches, job.rate)

    def epoch(self) -> float:
        job = self.job
        return self.backend.train_epoch(job.spec, RULE, self.state, self.windows, self.order, job.batch, self.rates, 1)


def one_of_each(units: int) -> None:
    """Launch every kernel for layers of this size on little data, on few blocks: for tools that slow them down."""
    from tsforecast.backends.cuda.backend import CudaBackend

    for network in ({}, {"bidirectional": "concat", "dropout": 0.2}):
        job = Job.make(units, 2, 9, 5, 2, **network)
        for batch, n_processors in ((4, 1), (9, 4)):  # narrow ones: in one block, and in several
            part = Job(job.spec, job.params, job.x[: 2 * batch], job.y[: 2 * batch], batch)
            ours = Ours(part, None, CudaBackend(n_processors))
            ours.epoch()
        ours.backend.evaluate(job.spec, RULE, job.params, ours.windows, 1)
        ours.backend.predict(job.spec, job.params, ours.windows.values, ours.windows.x_starts, 1)
        ours.backend.gradient(job.spec, job.params, job.x, job.y)


def first_calls(units: int, n_batches: int) -> dict:
    """Seconds of an epoch when its kernel has to be compiled, and when not; nothing is kept from process to process."""
    ours, times = Ours(Job.make(units, 1, 32, 24, n_batches)), []
    for _ in range(3):
        begin = time.perf_counter()
        ours.epoch()
        times.append(time.perf_counter() - begin)
    return {"units": units, "first_s": times[0], "later_ms": 1e3 * min(times[1:])}


def launch_cost(n: int, can_spin: bool = True) -> dict:
    """Microseconds that Python takes to launch an empty kernel, and that two barriers of the whole grid take.

    One is that of cooperative groups, which the kernels use; the other counts its blocks in a place of memory, at
    which they spin.
    """
    from numba import cuda

    @cuda.jit
    def empty(x):
        x[0] = 0

    @cuda.jit
    def barriers(count, rounds):
        for i in range(rounds):
            count[0] = i
            cuda.cg.this_grid().sync()

    @cuda.jit
    def counted_barriers(count, rounds):
        grid = cuda.cg.this_grid()  # has all blocks on the device at once
        for i in range(rounds):
            cuda.syncthreads()
            if cuda.threadIdx.x == 0:
                cuda.threadfence()
                cuda.atomic.add(count, 0, 1)
                while cuda.atomic.add(count, 0, 0) < (i + 1) * cuda.gridDim.x:
                    pass
                cuda.threadfence()
            cuda.syncthreads()
        grid.sync()

    def seconds(kernel, *arguments) -> float:
        cuda.synchronize()
        begin = time.perf_counter()
        kernel(*arguments)
        cuda.synchronize()
        return time.perf_counter() - begin

    n_blocks, x = cuda.get_current_device().MULTIPROCESSOR_COUNT, cuda.to_device(np.zeros(1, np.int32))
    launch_empty = empty[1, 32]
    launch_empty(x)
    cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(n):
        launch_empty(x)
    issued = time.perf_counter() - begin
    row = {"blocks": n_blocks, "launch_us": issued / n * 1e6}
    kernels = {"grid_barrier_us": barriers} | ({"counted_barrier_us": counted_barriers} if can_spin else {})
    for name, kernel in kernels.items():
        configured = kernel[n_blocks, 256]
        seconds(configured, cuda.to_device(np.zeros(1, np.int32)), 1)
        row[name] = seconds(configured, cuda.to_device(np.zeros(1, np.int32)), n) / n * 1e6
    return row
