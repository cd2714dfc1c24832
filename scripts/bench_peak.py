"""What the processor can do at most: fused multiply-adds on the vectors the project uses, with nothing in their way."""

from __future__ import annotations

import threading
import time

import numpy as np

from tsforecast.backends.cpu.jit import entry
from tsforecast.backends.cpu.lanes import LANES, fma, load, store

CHAINS = 12  # independent, so that enough are under way to hide the latency of 4 cycles on 2 units


@entry
def fma_chains(rounds, data):
    """Run 12 chains of ``rounds`` dependent multiply-adds each. ``data`` [14*LANES]: factor, summand, chains."""
    x, y = load(data, 0), load(data, LANES)
    a, b, c, d = load(data, 2 * LANES), load(data, 3 * LANES), load(data, 4 * LANES), load(data, 5 * LANES)
    e, f, g, h = load(data, 6 * LANES), load(data, 7 * LANES), load(data, 8 * LANES), load(data, 9 * LANES)
    i, j, k, m = load(data, 10 * LANES), load(data, 11 * LANES), load(data, 12 * LANES), load(data, 13 * LANES)
    for _ in range(rounds):
        a, b, c, d = fma(a, x, y), fma(b, x, y), fma(c, x, y), fma(d, x, y)
        e, f, g, h = fma(e, x, y), fma(f, x, y), fma(g, x, y), fma(h, x, y)
        i, j, k, m = fma(i, x, y), fma(j, x, y), fma(k, x, y), fma(m, x, y)
    store(data, 2 * LANES, ((a + b) + (c + d)) + ((e + f) + (g + h)) + ((i + j) + (k + m)))


class Peak:
    """Measures the peak of ``n_threads`` threads at once, in float32."""

    def __init__(self, n_threads: int, seconds: float = 0.003):
        self._data = [np.full((2 + CHAINS) * LANES, 0.5, np.float32) for _ in range(n_threads)]
        fma_chains(1, self._data[0])  # compiles
        rounds, began = 100_000, time.perf_counter()
        fma_chains(rounds, self._data[0])
        self._rounds = int(rounds * seconds / (time.perf_counter() - began)) + 1

    def gflops(self) -> float:
        """One measurement, of a few milliseconds."""
        others = [threading.Thread(target=fma_chains, args=(self._rounds, data)) for data in self._data[1:]]
        began = time.perf_counter()
        for thread in others:
            thread.start()
        fma_chains(self._rounds, self._data[0])
        for thread in others:
            thread.join()
        seconds = time.perf_counter() - began
        return len(self._data) * self._rounds * 2 * CHAINS * LANES / seconds / 1e9
