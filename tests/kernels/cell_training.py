"""Ten steps of training by second readings: of the cell, the loss and the optimiser, with gradients of their own."""

from functools import cache

import cell_oracles
import numpy as np
from cell_cases import layer_blocks

from tsforecast.spec import NetworkSpec

N_ROWS, N_STEPS, N_UPDATES, RATE = 3, 4, 10, 0.02
HIDDEN = (3, 2)
# Large beside rounding: the sLSTM does not depend on the bias of its input gate, whose gradient is nothing else.
EPSILON = 1e-6


def problem(cell):
    """A stack of two layers, its first weights, windows ``[N,T,F]``, targets ``[N,K]`` and weights ``[N]``."""
    rng = np.random.default_rng(31)
    spec = NetworkSpec(N_STEPS, 2, HIDDEN, 2, cell=cell)
    params = rng.uniform(-0.9, 0.9, spec.n_params)
    return spec, params, rng.normal(size=(N_ROWS, N_STEPS, 2)), rng.normal(size=(N_ROWS, 2)), np.array([1.0, 0.5, 2.0])


def outputs(spec, params, window):  # [P,M], [T,F] -> K vectors [M]
    x = window
    for i, n_units in enumerate(HIDDEN):
        x = cell_oracles.run(spec.cell, x, layer_blocks(spec, params, i), n_units)
    head = layer_blocks(spec, params, prefix="head.")
    return [sum(x[-1, j] * head["w"][j, k] for j in range(HIDDEN[-1])) + head["b"][k] for k in range(2)]


@cache
def ten_steps(cell):
    """Losses before each step and the weights after all: D. Kingma, J. Ba: Adam, ICLR 2015, algorithm 1."""
    spec, theta, windows, targets, weights = problem(cell)

    def loss(params):
        rows = [outputs(spec, params, window) for window in windows]
        squares = [sum((row[k] - y[k]) ** 2 for k in range(2)) for row, y in zip(rows, targets, strict=True)]
        return sum(w * square for w, square in zip(weights, squares, strict=True)) / (2.0 * sum(weights))

    m, v, losses = np.zeros_like(theta), np.zeros_like(theta), []
    for t in range(1, N_UPDATES + 1):
        losses.append(loss(theta[:, None])[0])
        g = cell_oracles.derivatives(loss, theta)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - RATE * (m / (1.0 - 0.9**t)) / (np.sqrt(v / (1.0 - 0.999**t)) + EPSILON)
    return np.array(losses), theta
