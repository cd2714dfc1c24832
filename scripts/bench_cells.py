"""Time a training step of every cell and of some networks of LSTMs, against the plain LSTM of as many units, in turns.

    python scripts/bench_cells.py [--shapes 32x24x1x64 256x48x8x32 64x48x8x128] [--rounds 9] [--json FILE]
                                   [--only gru bidirectional]

A shape is batch x steps x inputs x units; one thread. Before anything is timed, the gradients of each cell are compared
with those of the float64 reference equations.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.cpu.shapes import SUPPORTED_CELLS
from tsforecast.nn.initializers import init_params
from tsforecast.spec import NetworkSpec

SHAPES = ("32x24x1x64", "256x48x8x32", "64x48x8x128")
# What is timed, by name: fields of a network of one layer.
NETWORKS: dict[str, dict] = {cell: {"cell": cell} for cell in SUPPORTED_CELLS} | {
    "bidirectional": {"bidirectional": "concat"},
    "dilated by 4": {"dilations": (4,)},
    "learned first state": {"learned_state": True},
    "dropout": {"dropout": 0.2},
    "recurrent dropout": {"recurrent_dropout": 0.2},
    "zoneout": {"zoneout": 0.1},
}
OPERATIONS = 4e9  # of an LSTM in one call that is timed, so that its fixed costs do not count


def check(name: str) -> None:
    """Equal gradients, or an AssertionError."""
    rng, spec = np.random.default_rng(0), NetworkSpec(7, 3, (19,), 2, **NETWORKS[name])
    params = init_params(spec, 0, np.float64)
    x, cotangent = rng.normal(size=(4, 7, 3)), rng.normal(size=(4, 2))
    ours, reference = (get_backend(name).gradient(spec, params, x, cotangent)[1] for name in ("cpu", "reference"))
    np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-12, err_msg=name)


class Run:
    """Training steps of one network."""

    def __init__(self, name: str, batch: int, steps: int, inputs: int, units: int):
        rng = np.random.default_rng(0)
        self.spec = NetworkSpec(steps, inputs, (units,), 1, **NETWORKS[name])
        self.state = TrainState(init_params(self.spec, 0, np.float32))
        values = rng.normal(size=batch * steps * inputs).astype(np.float32)
        rows = np.arange(batch)
        self.windows = Windows(values, rows * steps * inputs, values[:batch].copy(), rows, np.ones(batch, np.float32))
        operations = 24 * batch * steps * units * (units + inputs + 1)
        n_batches = max(2, min(30, int(OPERATIONS / operations)))
        self.batch, self.order, self.rates = batch, np.tile(rows, n_batches), np.full(n_batches, 1e-4)

    def seconds_a_step(self) -> float:
        start = time.perf_counter()
        get_backend("cpu").train_epoch(
            self.spec, StepRule(), self.state, self.windows, self.order, self.batch, self.rates, 1
        )
        return (time.perf_counter() - start) / len(self.rates)


def measure(shape: str, n_rounds: int, names: list[str]) -> dict[str, float]:
    """Median ratio to the plain LSTM by name; ``"lstm"`` holds milliseconds."""
    runs = {name: Run(name, *(int(n) for n in shape.split("x"))) for name in names}
    rounds = [{name: run.seconds_a_step() for name, run in runs.items()} for _ in range(n_rounds + 1)][1:]
    ratios = {name: statistics.median(r[name] / r["lstm"] for r in rounds) for name in names}
    return ratios | {"lstm": statistics.median(r["lstm"] for r in rounds) * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=list(NETWORKS), metavar="NAME")
    options = parser.parse_args()
    names = ["lstm", *(name for name in options.only if name != "lstm")]
    for name in names:
        check(name)
    found = {shape: measure(shape, options.rounds, names) for shape in options.shapes}
    print(f"{'cell or network':<28}" + "".join(f"{shape:>14}" for shape in found))
    print(f"{'lstm, ms':<28}" + "".join(f"{figures['lstm']:>14.3f}" for figures in found.values()))
    for name in names[1:]:
        print(f"{name:<28}" + "".join(f"{figures[name]:>14.2f}" for figures in found.values()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
