"""Attention once more, a number at a time and without the package; and parameters, states and queries to try it on."""

import math

import numpy as np

KINDS = ("additive", "dot")


def random_params(rng, kind, n_query, n_units):
    """Blocks by their short names."""
    shapes = {"w_q": (n_query, n_units)}
    if kind == "additive":
        shapes |= {"b": (n_units,), "w_k": (n_units, n_units), "w_v": (n_units,)}
    return {name: rng.normal(scale=0.7, size=shape) for name, shape in shapes.items()}


def second_reading(kind, query, states, p):
    """Weights ``[T]`` and context ``[H]`` of one row: Bahdanau et al., A.1.2; Luong et al., eq. 8, over sqrt(H)."""
    n_query, n, scores = len(query), states.shape[1], []
    for h in states:
        if kind == "additive":
            inner = [
                sum(query[i] * p["w_q"][i, j] for i in range(n_query))
                + sum(h[i] * p["w_k"][i, j] for i in range(n))
                + p["b"][j]
                for j in range(n)
            ]
            scores.append(sum(p["w_v"][j] * math.tanh(inner[j]) for j in range(n)))
        else:
            pairs = (query[i] * p["w_q"][i, j] * h[j] for i in range(n_query) for j in range(n))
            scores.append(sum(pairs) / math.sqrt(n))
    powers = [math.exp(score) for score in scores]
    weights = [power / sum(powers) for power in powers]
    context = [sum(weights[t] * states[t, j] for t in range(len(states))) for j in range(n)]
    return np.array(weights), np.array(context)
