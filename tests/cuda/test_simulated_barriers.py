"""Every barrier of the CUDA kernels is taken out in turn: the simulator has to see that it is missing."""

from dataclasses import replace

import numpy as np
import pytest
import simulator
from kernel_cases import random_params
from races import SimulationError

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.cuda import tile
from tsforecast.spec import NetworkSpec

# Nothing is shared between these and the barrier after or before them: the head gives each output to the thread that
# takes its loss, and a layer meets again before its first step.
SPARE = 2
NETWORKS = {"chain": {}, "other": {"bidirectional": "concat", "residual": True, "dropout": 0.5}}


class Calls:
    """Short calls of everything that launches kernels; three tiles for the two blocks of the simulated device."""

    def __init__(self, settings):
        rng = np.random.default_rng(1)
        self.backend, self.rule = get_backend("cuda"), StepRule(max_grad_norm=0.5)
        self.plain = NetworkSpec(2, 1, (2, 2), 1, **settings)
        self.spec = replace(self.plain, window_norm="standard", season_length=1)
        self.params = random_params(rng, self.spec).astype(np.float32)
        self.series, self.starts = rng.normal(size=12).astype(np.float32), np.arange(9, dtype=np.int64)
        self.windows = Windows(self.series, self.starts, self.series, self.starts + 2, np.ones(9, np.float32))
        self.x, self.cotangent = rng.normal(size=(9, 2, 1)).astype(np.float32), np.ones((9, 1), np.float32)

    def train(self):
        order, rates = np.tile(self.starts, 2), np.full(2, 0.1)
        self.backend.train_epoch(self.spec, self.rule, TrainState(self.params), self.windows, order, 9, rates, 1)

    def evaluate(self):
        self.backend.evaluate(self.spec, self.rule, self.params, self.windows, 1)

    def predict(self):
        self.backend.predict(self.spec, self.params, self.series, self.starts, 1)

    def differentiate(self):
        self.backend.gradient(self.plain, self.params, self.x, self.cotangent)


def is_seen_missing(barrier, calls):
    for call in calls:
        try:
            with simulator.options(watch=True, without=barrier):
                call()
        except SimulationError:
            return True
    return False


@pytest.mark.parametrize("network", NETWORKS)
def test_no_barrier_can_be_lost_unseen(network, monkeypatch):
    monkeypatch.setitem(tile.BLOCKS_PER_PROCESSOR, 16, 1)  # so that a block has two of the tiles
    calls, where = Calls(NETWORKS[network]), {}
    for call in (calls.predict, calls.differentiate, calls.evaluate, calls.train):
        met = set()
        with simulator.options(watch=True, met=met):
            call()
        for barrier in met:
            where.setdefault(barrier, []).append(call)
    assert len(where) >= 10
    unseen = [barrier for barrier, of in sorted(where.items()) if not is_seen_missing(barrier, of)]
    assert len(unseen) <= SPARE, unseen
