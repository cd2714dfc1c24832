"""One step of each solver for one parameter; the formulas are in ``backends.reference.optimizers``.

Scalars come as float32: those of a batch are worked out on the host in float64 (``schedule``), in the order below.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from tsforecast.backends.base import StepRule, bound
from tsforecast.backends.cuda.activations import ONE
from tsforecast.backends.cuda.jit import device, load, store
from tsforecast.spec import LOSSES, SOLVERS

ADAM, ADAMW, SGD, RMSPROP = 0, 1, 2, 3
# Scalars of a batch: 1 / (sum of its weights) or 0 for no step, rate, 1 / sqrt(1 - beta_2^t), what adamw leaves of a
# weight, what the penalty multiplies weights by.
SHARE, RATE, OVER_ROOT_2, KEEP, DECAY, N_SCALARS = 0, 1, 2, 3, 4, 5
# Scalars of the rule, and its codes.
DELTA, BETA_1, REST_1, BETA_2, REST_2, EPSILON, MAX_NORM, MAX_VALUE, N_RULE = 0, 1, 2, 3, 4, 5, 6, 7, 8
LOSS, SOLVER, NESTEROV, N_CODES = 0, 1, 2, 3


def rule_codes(rule: StepRule) -> np.ndarray:
    """``[N_CODES]`` int32."""
    return np.array([LOSSES[rule.loss], SOLVERS[rule.solver], rule.nesterov], dtype=np.int32)


def rule_scalars(rule: StepRule) -> np.ndarray:
    """``[N_RULE]`` float32."""
    first = rule.momentum if rule.solver == "sgd" else rule.beta_1
    epsilon = max(rule.epsilon, float(np.finfo(np.float32).tiny))
    bounds = [bound(rule.max_grad_norm), bound(rule.max_grad_value)]
    scalars = [rule.delta, first, 1.0 - rule.beta_1, rule.beta_2, 1.0 - rule.beta_2, epsilon]
    return np.array(scalars + bounds, dtype=np.float32)


def schedule(
    rule: StepRule,
    weight_sums: np.ndarray,  # [batches]; a batch whose weights are zero takes no step
    rates: np.ndarray,  # [batches]
    steps: np.ndarray,  # [batches] number of each batch's step, from 1
) -> np.ndarray:
    """Scalars of all batches, ``[batches, N_SCALARS]``."""
    takes_step = weight_sums != 0.0
    scalars = np.zeros((len(rates), N_SCALARS))
    scalars[:, SHARE] = np.divide(1.0, weight_sums, out=np.zeros(len(rates)), where=takes_step)
    scalars[:, RATE], scalars[:, OVER_ROOT_2], scalars[:, KEEP] = rates, 1.0, 1.0
    if rule.solver in ("adam", "adamw"):
        t = np.maximum(steps, 1).astype(np.float64)
        scalars[:, RATE] /= 1.0 - rule.beta_1**t
        scalars[:, OVER_ROOT_2] = 1.0 / np.sqrt(1.0 - rule.beta_2**t)
    if rule.solver == "adamw":
        scalars[:, KEEP] = 1.0 - rates * rule.alpha
    else:
        scalars[:, DECAY] = rule.alpha * scalars[:, SHARE]
    return scalars.astype(np.float32)


@device
def update(
    codes, rule, scalars,
    batch,  # the place of its scalars
    clip,  # what shortens the gradient
    decayed,  # bool: whether this is a weight, which adamw decays, or a bias
    params, m, v, i, gradient,
):  # fmt: skip
    """Step parameter ``i``, whose derivative is ``gradient``."""
    g, rate, w = clip * gradient, load(scalars, batch + RATE), load(params, i)
    if load(codes, SOLVER) == SGD:
        step = rate * g
        velocity = load(rule, BETA_1) * load(m, i) - step
        store(m, i, velocity)
        store(params, i, w + (load(rule, BETA_1) * velocity - step if load(codes, NESTEROV) != 0 else velocity))
        return
    second = cuda.fma(load(rule, BETA_2), load(v, i), load(rule, REST_2) * (g * g))
    store(v, i, second)
    if load(codes, SOLVER) == RMSPROP:
        store(params, i, w - rate * g / (math.sqrt(second) + load(rule, EPSILON)))
        return
    mean = cuda.fma(load(rule, BETA_1), load(m, i), load(rule, REST_1) * g)
    store(m, i, mean)
    keep = load(scalars, batch + KEEP) if decayed else ONE
    step = rate * mean / cuda.fma(math.sqrt(second), load(scalars, batch + OVER_ROOT_2), load(rule, EPSILON))
    store(params, i, keep * w - step)
