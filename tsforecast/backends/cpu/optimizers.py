"""One step of each solver on a range of the flat vector; the formulas are in ``backends.reference.optimizers``.

Arithmetic is in the dtype of the parameters: scalars come in ``c``, an array of that dtype, because Numba would take
a Python float for float64. Nothing here depends on how the range is cut, so threads may share it.
"""

from __future__ import annotations

import math

from tsforecast.backends.cpu.jit import inlined, kernel

ADAM, ADAMW, SGD, RMSPROP = 0, 1, 2, 3
LR, BETA_1, REST_1, BETA_2, REST_2, ROOT_2, EPSILON, DECAY, CLIP, N_SCALARS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9


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
    c[ROOT_2] = 1.0
    c[EPSILON] = rule.epsilon
    c[DECAY] = lr * rule.alpha if rule.solver == ADAMW else 0.0
    c[CLIP] = clip
    if rule.solver == ADAM or rule.solver == ADAMW:
        c[LR] = lr / (1.0 - integer_power(rule.beta_1, step))
        c[ROOT_2] = math.sqrt(1.0 - integer_power(rule.beta_2, step))


@kernel
def update(
    rule, first, last, c,
    params, gradient, m, v,  # [P]
    is_weight,  # [P] in the dtype of params: 1 for weights, 0 for biases
):  # fmt: skip
    """Step the parameters ``first..last-1``."""
    if rule.solver == SGD:
        for i in range(first, last):
            g = c[CLIP] * gradient[i]
            m[i] = c[BETA_1] * m[i] - c[LR] * g
            if rule.nesterov:
                params[i] = params[i] + c[BETA_1] * m[i] - c[LR] * g
            else:
                params[i] = params[i] + m[i]
    elif rule.solver == RMSPROP:
        for i in range(first, last):
            g = c[CLIP] * gradient[i]
            v[i] = c[BETA_2] * v[i] + c[REST_2] * (g * g)
            params[i] = params[i] - c[LR] * g / (math.sqrt(v[i]) + c[EPSILON])
    else:
        for i in range(first, last):
            g = c[CLIP] * gradient[i]
            w = params[i] - c[DECAY] * is_weight[i] * params[i]
            m[i] = c[BETA_1] * m[i] + c[REST_1] * g
            v[i] = c[BETA_2] * v[i] + c[REST_2] * (g * g)
            params[i] = w - c[LR] * (m[i] / (math.sqrt(v[i]) / c[ROOT_2] + c[EPSILON]))
