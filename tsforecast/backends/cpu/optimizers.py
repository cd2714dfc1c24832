"""One step of each solver on a range of packed weights; the formulas are in ``backends.reference.optimizers``.

Everything works lane by lane, in the dtype of the parameters: scalars come in ``c``, an array of that dtype, because
Numba would take a Python float for float64. Padding has no gradient and stays zero.
"""

from __future__ import annotations

import math

from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, sqrt, store

ADAM, ADAMW, SGD, RMSPROP = 0, 1, 2, 3
LR, BETA_1, REST_1, BETA_2, REST_2, OVER_ROOT_2, EPSILON, KEEP, CLIP, N_SCALARS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9


@inlined
def integer_power(base, n):
    """``base**n`` by squaring: products only, so the same bits everywhere."""
    result = 1.0
    while n > 0:
        if n % 2 == 1:
            result *= base
        base *= base
        n //= 2
    return result


@inlined
def set_scalars(
    rule, lr, step, clip,
    c,  # [N_SCALARS] out
):  # fmt: skip
    """The scalars of step number ``step`` (from 1); ``clip`` multiplies the gradient."""
    c[LR] = lr
    c[BETA_1] = rule.momentum if rule.solver == SGD else rule.beta_1
    c[REST_1] = 1.0 - rule.beta_1
    c[BETA_2] = rule.beta_2
    c[REST_2] = 1.0 - rule.beta_2
    c[OVER_ROOT_2] = 1.0
    c[EPSILON] = rule.epsilon
    c[KEEP] = 1.0 - lr * rule.alpha if rule.solver == ADAMW else 1.0
    c[CLIP] = clip
    if rule.solver == ADAM or rule.solver == ADAMW:
        c[LR] = lr / (1.0 - integer_power(rule.beta_1, step))
        c[OVER_ROOT_2] = 1.0 / math.sqrt(1.0 - integer_power(rule.beta_2, step))


@kernel
def update(
    rule, first, last,  # a range of whole vectors
    decayed,  # bool: whether these are weights, which adamw decays, or biases
    c, params, gradient, m, v,  # packed
):  # fmt: skip
    """Step the parameters ``first..last-1``."""
    lr, beta_1, rest_1 = splat(params, c[LR]), splat(params, c[BETA_1]), splat(params, c[REST_1])
    beta_2, rest_2 = splat(params, c[BETA_2]), splat(params, c[REST_2])
    over_root_2, epsilon, clip = splat(params, c[OVER_ROOT_2]), splat(params, c[EPSILON]), splat(params, c[CLIP])
    keep = splat(params, c[KEEP] if decayed else 1.0)
    if rule.solver == SGD and rule.nesterov:
        for i in range(first, last, LANES):
            step = lr * (clip * load(gradient, i))
            velocity = beta_1 * load(m, i) - step
            store(m, i, velocity)
            store(params, i, load(params, i) + (beta_1 * velocity - step))
    elif rule.solver == SGD:
        for i in range(first, last, LANES):
            velocity = beta_1 * load(m, i) - lr * (clip * load(gradient, i))
            store(m, i, velocity)
            store(params, i, load(params, i) + velocity)
    elif rule.solver == RMSPROP:
        for i in range(first, last, LANES):
            g = clip * load(gradient, i)
            second = fma(beta_2, load(v, i), rest_2 * (g * g))
            store(v, i, second)
            store(params, i, load(params, i) - lr * g / (sqrt(second) + epsilon))
    else:
        for i in range(first, last, LANES):
            g = clip * load(gradient, i)
            mean = fma(beta_1, load(m, i), rest_1 * g)
            second = fma(beta_2, load(v, i), rest_2 * (g * g))
            store(m, i, mean)
            store(v, i, second)
            step = lr * mean / fma(sqrt(second), over_root_2, epsilon)
            store(params, i, keep * load(params, i) - step)
