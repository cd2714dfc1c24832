"""Compare a fleet of small networks with a loop of torch and with JAX's ``vmap`` over all of them.

    python scripts/bench_fleet.py [--models 1000] [--units 16] [--windows 100] [--steps 12] [--epochs 50] [--batch 20]
                                  [--threads 1 2] [--seconds 60] [--peers torch jax] [--json FILE]

Every network has a series, a seed and a learning rate of its own, and an order of rows of its own in each epoch. First,
three of them are trained for three epochs in float64 by everyone, and the weights compared. Then ours and theirs run in
turns: ours trains the whole fleet through ``train_many``; torch some of the networks, JAX all of them for some of the
epochs, as many as fit the time, since neither gets faster by the next one. A ratio is the median over the rounds of
seconds a network and epoch. ``fit_many`` is the same fleet through the public function: estimators, checks, scaling and
first weights included.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

PEERS = ("torch", "jax")
CHECKED_MODELS, CHECKED_EPOCHS = 3, 3
# Roundings of float64 grow through some dozens of steps of Adam; a wrong formula is off by a share of the rate, 1e-3.
TOLERANCE = 1e-9
FEWEST_ROUNDS = 3
BARS = {"torch": 25.0, "jax": 8.0}


@dataclass(frozen=True)
class Fleet:
    """``models`` networks of ``units`` units on ``windows`` windows of ``steps`` steps each."""

    models: int
    units: int
    windows: int
    steps: int
    epochs: int
    batch: int
    dtype: str = "float32"

    @cached_property
    def spec(self):
        from tsforecast.spec import NetworkSpec

        return NetworkSpec(self.steps, 1, (self.units,), 1)

    @cached_property
    def series(self) -> np.ndarray:
        """``[models, windows + steps]``: noisy waves, each of its own length."""
        rng = np.random.default_rng(0)
        t = np.arange(self.windows + self.steps)
        waves = np.sin(t * rng.uniform(0.1, 1.5, (self.models, 1)))
        return (waves + 0.2 * rng.standard_normal(waves.shape)).astype(self.dtype)

    @cached_property
    def weights(self) -> np.ndarray:
        """First weights ``[models, P]``."""
        from tsforecast.nn.initializers import init_params

        return np.array([init_params(self.spec, seed, self.dtype) for seed in range(self.models)])

    @cached_property
    def rates(self) -> np.ndarray:
        """Learning rate of each network."""
        return np.linspace(1e-3, 3e-3, self.models)

    def rows(self, model: int, epoch: int) -> np.ndarray:
        """``[batches, batch]`` rows in the order of that epoch."""
        from tsforecast.backends.reference.shuffle import epoch_order

        return epoch_order(self.windows, model, epoch).reshape(-1, self.batch)

    def data(self, model: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows ``[windows, steps, 1]`` and targets ``[windows, 1]``."""
        windows = np.lib.stride_tricks.sliding_window_view(self.series[model], self.steps + 1)
        return np.ascontiguousarray(windows[:, :-1, None]), np.ascontiguousarray(windows[:, -1:])


class Ours:
    """The fleet by ``train_many``."""

    def __init__(self, fleet: Fleet, n_threads: int):
        self._fleet, self._n_threads = fleet, n_threads

    def train(self, models: int, epochs: int) -> np.ndarray:
        """Train the first ``models`` networks; their weights."""
        from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
        from tsforecast.nn.fleet import TrainJob, train_many
        from tsforecast.nn.trainer import TrainConfig

        fleet, jobs = self._fleet, []
        starts, ones = np.arange(fleet.windows), np.ones(fleet.windows, fleet.dtype)
        for i in range(models):
            series = fleet.series[i]
            windows = Windows(series, starts, series, starts + fleet.steps, ones)
            config = TrainConfig(
                StepRule(max_grad_norm=None), fleet.rates[i], batch_size=fleet.batch, max_iter=epochs,
                tol=0.0, n_iter_no_change=epochs,
            )  # fmt: skip
            jobs.append(TrainJob(fleet.spec, config, TrainState(fleet.weights[i].copy()), windows, seed=i))
        train_many(get_backend("cpu"), jobs, self._n_threads)
        assert all(job.history.n_iter == epochs for job in jobs)
        return np.array([job.state.params for job in jobs])


class FitMany:
    """The fleet by ``fit_many``, from arrays to fitted estimators."""

    def __init__(self, fleet: Fleet, n_threads: int):
        self._fleet, self._n_threads = fleet, n_threads
        self._data = [fleet.data(i) for i in range(fleet.models)]

    def train(self, models: int, epochs: int) -> None:
        from tsforecast import LSTMRegressor, fit_many

        estimators = [
            LSTMRegressor(
                self._fleet.units,
                batch_size=self._fleet.batch,
                max_iter=epochs,
                n_iter_no_change=epochs,
                learning_rate_init=self._fleet.rates[i],
                max_grad_norm=None,
                random_state=i,
            )
            for i in range(models)
        ]
        data = self._data[:models]
        fit_many(estimators, [x for x, _ in data], [y[:, 0] for _, y in data], n_jobs=self._n_threads)


class Torch:
    """One network after the other, as ``bench_peers.Torch`` trains it."""

    def __init__(self, fleet: Fleet, n_threads: int):
        self._fleet, self._n_threads = fleet, n_threads

    @staticmethod
    @contextmanager
    def in_float64():
        import torch

        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)

    def train(self, models: int, epochs: int) -> np.ndarray:
        import bench_peers

        found = []
        for i in range(models):
            fleet = self._fleet
            x, y = fleet.data(i)
            job = bench_peers.Job(fleet.spec, fleet.weights[i], x, y, fleet.batch, self._n_threads, fleet.rates[i])
            network = bench_peers.Torch(job)
            for epoch in range(epochs):
                network.train(list(fleet.rows(i, epoch)))
            found.append(network.weights())
        return np.array(found)


class Jax:
    """All networks at once: ``vmap`` of the step of ``bench_peers.Jax``, an epoch under ``jit``."""

    def __init__(self, fleet: Fleet, n_threads: int):
        import bench_peers
        import jax

        self._jax, self._fleet = jax, fleet
        data = [fleet.data(i) for i in range(fleet.models)]
        self._x, self._y = (jax.numpy.array(np.stack(part)) for part in zip(*data, strict=True))
        job = bench_peers.Job(fleet.spec, fleet.weights[0], *data[0], fleet.batch, n_threads)
        step = jax.vmap(bench_peers.Jax(job)._step, in_axes=(0, 0, 0, 0, 0))

        def epoch(state, x, y, rows, rates):  # rows [batches, models, batch]
            return jax.lax.scan(lambda state, rows: step(state, x, y, rows, rates), state, rows)

        self._epoch = jax.jit(epoch, donate_argnums=0)
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    @staticmethod
    @contextmanager
    def in_float64():
        import jax

        jax.config.update("jax_enable_x64", True)
        yield
        jax.config.update("jax_enable_x64", False)

    def _rows(self, models: int, epoch: int) -> np.ndarray:
        if (models, epoch) not in self._orders:  # drawn before the clock runs
            rows = [self._fleet.rows(i, epoch) for i in range(models)]
            self._orders[models, epoch] = np.stack(rows, axis=1)
        return self._orders[models, epoch]

    def train(self, models: int, epochs: int) -> np.ndarray:
        jax, fleet = self._jax, self._fleet
        rates = jax.numpy.array(fleet.rates[:models], fleet.dtype)
        blocks = {b.name: fleet.weights[:models, b.offset : b.offset + b.size] for b in fleet.spec.blocks}
        shapes = {b.name: (models, *b.shape) for b in fleet.spec.blocks}
        weights = {name: jax.numpy.array(block.reshape(shapes[name])) for name, block in blocks.items()}
        zeros = jax.tree.map(jax.numpy.zeros_like, weights)
        state = weights, zeros, jax.tree.map(jax.numpy.copy, zeros), jax.numpy.zeros(models, "int32")
        for epoch in range(epochs):
            state, losses = self._epoch(state, self._x[:models], self._y[:models], self._rows(models, epoch), rates)
        losses.block_until_ready()
        return np.concatenate([np.asarray(state[0][b.name]).reshape(models, -1) for b in fleet.spec.blocks], axis=1)


CONTENDERS = {"torch": Torch, "jax": Jax}


def check(fleet: Fleet, peers: list[str], n_threads: int) -> None:
    """Let everyone train the first networks in float64 and compare the weights; raise where they differ."""
    exact = Fleet(CHECKED_MODELS, fleet.units, fleet.windows, fleet.steps, CHECKED_EPOCHS, fleet.batch, "float64")
    wanted = Ours(exact, n_threads).train(CHECKED_MODELS, CHECKED_EPOCHS)
    for peer in peers:
        with CONTENDERS[peer].in_float64():
            found = CONTENDERS[peer](exact, n_threads).train(CHECKED_MODELS, CHECKED_EPOCHS)
        error = abs(found - wanted).max()
        if not error <= TOLERANCE:
            raise AssertionError(f"{peer}: weights differ by up to {error:.2e}")
        print(f"{peer}: float64 weights within {error:.0e} of ours after {CHECKED_EPOCHS} epochs", flush=True)


def seconds_of(contender, models: int, epochs: int) -> float:
    """Seconds a network and epoch."""
    began = time.perf_counter()
    contender.train(models, epochs)
    return (time.perf_counter() - began) / (models * epochs)


def measure(fleet: Fleet, peers: list[str], n_threads: int, seconds: float) -> dict:
    """Medians over rounds of seconds a network and epoch, and of theirs over ours."""
    whole = fleet.models, fleet.epochs
    contenders = {"ours": Ours(fleet, n_threads), "fit_many": FitMany(fleet, n_threads)}
    sizes = {"ours": whole, "fit_many": whole}
    share = seconds / FEWEST_ROUNDS / (len(peers) + 2)
    for peer in peers:
        contenders[peer] = CONTENDERS[peer](fleet, n_threads)
        least = (1, 1) if peer == "torch" else (fleet.models, 1)
        contenders[peer].train(*least)
        once = seconds_of(contenders[peer], *least) * least[0]
        if peer == "torch":
            sizes[peer] = max(1, min(fleet.models, int(share / once / fleet.epochs))), fleet.epochs
        else:
            sizes[peer] = fleet.models, max(1, min(fleet.epochs, int(share / once)))
    contenders["ours"].train(n_threads, 1)
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < FEWEST_ROUNDS or time.perf_counter() < end:
        names = list(contenders) if len(rounds) % 2 else list(contenders)[::-1]
        found = {name: seconds_of(contenders[name], *sizes[name]) for name in names}
        rounds.append(found)
    return {
        "threads": n_threads,
        "rounds": len(rounds),
        "trained": sizes,
        "fleet_seconds": {
            name: statistics.median(r[name] for r in rounds) * whole[0] * whole[1] for name in contenders
        },
        "ratios": {
            own: {peer: statistics.median(r[peer] / r[own] for r in rounds) for peer in peers}
            for own in ("ours", "fit_many")
        },
    }


def worker(options: argparse.Namespace, fleet: Fleet) -> None:
    """Measure with one number of threads, in this process, and write what was found."""
    n_threads = options.worker
    if hasattr(os, "sched_setaffinity"):  # JAX takes its number of threads from here, once
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    check(fleet, options.peers, n_threads)
    result = measure(fleet, options.peers, n_threads, options.seconds)
    print(f"{n_threads} thread{'s' * (n_threads > 1)}, {result['rounds']} rounds; seconds for the whole fleet:")
    for name, found in result["fleet_seconds"].items():
        models, epochs = result["trained"][name]
        part = "" if (models, epochs) == (fleet.models, fleet.epochs) else f"   (from {models} x {epochs} epochs)"
        print(f"    {name:<10}{found:>10.2f}{part}")
    for own, ratios in result["ratios"].items():
        for peer, ratio in ratios.items():
            print(f"    {peer} / {own:<10}{ratio:>8.1f}" + (f"   (bar: {BARS[peer]:g})" if own == "ours" else ""))
    options.json.write_text(json.dumps(result))


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    installed = [peer for peer in PEERS if importlib.util.find_spec(peer)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("models", 1000), ("units", 16), ("windows", 100), ("steps", 12), ("epochs", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", type=int, default=20, help="rows a batch; divides the windows (default 20)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each number of threads (default 60)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=installed, help="default: all that are installed")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.windows % options.batch:
        parser.error(f"--batch {options.batch} does not divide {options.windows} windows, as JAX needs it to")
    missing = [peer for peer in options.peers if peer not in installed]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = options_of(arguments)
    sizes = {name: getattr(options, name) for name in ("models", "units", "windows", "steps", "epochs", "batch")}
    if options.worker:
        worker(options, Fleet(**sizes))
        return
    results = []
    for n_threads in options.threads:
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "found.json"
            command = [sys.executable, __file__, "--worker", str(n_threads), "--json", str(found)]
            command += ["--seconds", str(options.seconds), "--peers", *options.peers]
            command += [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
            subprocess.run(command, check=True)
            results.append(json.loads(found.read_text()))
    if options.json:
        options.json.write_text(json.dumps({"fleet": sizes, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
