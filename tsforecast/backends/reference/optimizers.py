"""One step of each solver.

``w`` weights, ``g`` gradient, ``t`` the number of this step (from 1), ``lr`` learning rate::

    adam      m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
              w = w - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
    adamw     w = w - lr alpha w for all weights but the biases, then as adam
    sgd       m = momentum m - lr g;   w = w + m            (m is the velocity)
              nesterov: w = w + momentum m - lr g
    rmsprop   v = b2 v + (1 - b2) g^2;   w = w - lr g / (sqrt(v) + eps)

References
----------
D. Kingma, J. Ba: Adam: A Method for Stochastic Optimization. ICLR 2015.
I. Loshchilov, F. Hutter: Decoupled Weight Decay Regularization. ICLR 2019.
Y. Nesterov: A method of solving a convex programming problem with convergence rate O(1/k^2). 1983; in the form of
I. Sutskever et al.: On the importance of initialization and momentum in deep learning. ICML 2013.
T. Tieleman, G. Hinton: Lecture 6.5, rmsprop. COURSERA: Neural Networks for Machine Learning, 2012.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import StepRule

Array = NDArray[np.float64]


def clip(
    g: Array,  # [P]
    max_value: float | None,
    max_norm: float | None,
) -> Array:
    """Keep each entry of ``g`` within ``max_value``, then shorten it to the norm ``max_norm``; None: do not."""
    if max_value is not None:
        g = np.clip(g, -max_value, max_value)
    if max_norm is None:
        return g
    norm = float(np.linalg.norm(g))
    return g * (max_norm / norm) if norm > max_norm else g


def step(
    rule: StepRule,
    w: Array,  # [P]
    g: Array,  # [P]
    m: Array,  # [P]
    v: Array,  # [P]
    t: int,
    lr: float,
    is_weight: NDArray[np.bool_],  # [P] False for biases
) -> tuple[Array, Array, Array]:
    """Return the new ``w``, ``m`` and ``v``; the arguments stay as they are."""
    if rule.solver in ("adam", "adamw"):
        if rule.solver == "adamw":
            w = w - lr * rule.alpha * w * is_weight
        m = rule.beta_1 * m + (1.0 - rule.beta_1) * g
        v = rule.beta_2 * v + (1.0 - rule.beta_2) * g**2
        denom = np.sqrt(v) / np.sqrt(1.0 - rule.beta_2**t) + rule.epsilon
        return w - lr / (1.0 - rule.beta_1**t) * m / denom, m, v
    if rule.solver == "sgd":
        m = rule.momentum * m - lr * g
        return (w + rule.momentum * m - lr * g if rule.nesterov else w + m), m, v
    if rule.solver == "rmsprop":
        v = rule.beta_2 * v + (1.0 - rule.beta_2) * g**2
        return w - lr * g / (np.sqrt(v) + rule.epsilon), m, v
    raise ValueError(f"unknown solver {rule.solver!r}")
