"""Where an attention lies: its weights among the packed ones, and what it needs of a work buffer; see ``plan``.

Letters: T steps, B rows, W units of a state, Wp = W in whole vectors, N units of the query.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.cpu.attention import scratch_size
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.tile import panel_index, whole_vectors


class AttentionPlaces(NamedTuple):
    """Sizes and offsets as ``cpu.attention`` names them; -1 for what a kind, or inference, does not have."""

    n_query: int = -1  # N
    n_units: int = -1  # W
    padded: int = -1  # Wp
    w_rows: int = -1  # of w_q: N, and 1 more before them where there is a bias
    w_q: int = -1
    w_k: int = -1
    w_v: int = -1
    w_q_t: int = -1
    w_k_t: int = -1
    states: int = -1
    keys: int = -1
    keys_t: int = -1
    states_t: int = -1
    q: int = -1
    weights: int = -1
    dscores: int = -1
    dq: int = -1
    dkeys: int = -1
    dstates: int = -1
    z: int = -1


def take_weights(kind: str, n_query: int, n_units: int, take: Callable[[int], int]) -> AttentionPlaces:
    """Places of what has a gradient."""
    if kind == "none":
        return AttentionPlaces()
    padded, is_additive = whole_vectors(n_units), kind == "additive"
    w_rows = n_query + is_additive
    return AttentionPlaces(
        n_query,
        n_units,
        padded,
        w_rows,
        take(w_rows * padded),
        take(n_units * padded) if is_additive else -1,
        take(padded) if is_additive else -1,
    )


def take_buffers(
    own: AttentionPlaces,
    n_steps: int,
    rows: int,
    learns: bool,
    n_queries: int,
    take_copy: Callable[[int], int],
    take: Callable[[int], int],
) -> AttentionPlaces:
    """The places of ``take_weights`` and of all else: transposed weights by ``take_copy``, work buffers by ``take``.

    Each of ``n_queries`` queries has its own ``q`` and ``weights``.
    """
    if own.n_units < 0:
        return own
    is_additive, of_states, of_scores = own.w_k >= 0, n_steps * rows * own.padded, n_steps * whole_vectors(rows)
    turned = whole_vectors(n_steps) * rows * own.padded
    own = own._replace(
        states=take(of_states),
        keys=take(of_states * is_additive),
        keys_t=take(turned * is_additive),
        states_t=take(turned * (learns or not is_additive)),
        q=take(n_queries * rows * own.padded),
        weights=take(n_queries * of_scores),
        z=take(scratch_size(n_steps, rows, own.padded)),
    )
    if not learns:
        return own
    return own._replace(
        w_q_t=take_copy(own.padded * whole_vectors(own.n_query)),
        w_k_t=take_copy(own.padded * own.padded * is_additive),
        dscores=take(of_scores),
        dq=take(rows * own.padded),
        dkeys=take(of_states * is_additive),
        dstates=take(of_states),
    )


def block_places(own: AttentionPlaces) -> dict[str, NDArray[np.int64]]:
    """Places of the blocks by their short names."""
    if own.n_units < 0:
        return {}
    unit, n_vectors = np.arange(own.n_units), own.padded // LANES

    def at(start, rows):
        return start + panel_index(np.arange(rows)[:, None], unit, rows, n_vectors)

    w_q = at(own.w_q, own.w_rows)
    if own.w_k < 0:
        return {"w_q": w_q}
    return {"b": w_q[0], "w_q": w_q[1:], "w_k": at(own.w_k, own.n_units), "w_v": own.w_v + unit}


def add_panels(own: AttentionPlaces, add: Callable[..., None]) -> None:
    """Panels of the weights, by ``add`` of ``packing.panels``."""
    if own.n_units < 0:
        return
    n_vectors, none = own.padded // LANES, (0, 0, 0, 0)
    first = own.w_rows - own.n_query  # the bias, where there is one, is row 0
    by_q = (first, own.n_query, own.w_q_t, own.padded) if own.w_q_t >= 0 else none
    add(own.w_q, own.w_rows, n_vectors, 4, 0 if first else own.w_rows, by_h=by_q)
    if own.w_k >= 0:
        by_k = (0, own.n_units, own.w_k_t, own.padded) if own.w_k_t >= 0 else none
        add(own.w_k, own.n_units, n_vectors, 4, own.n_units, by_h=by_k)
        add(own.w_v, 1, n_vectors, 4, 1)


def columns(own: AttentionPlaces) -> list[tuple[NDArray[np.int64], int]]:
    """For every matrix the columns that hold parameters, and the width with padding."""
    return [(np.arange(own.n_units), own.padded)] * (0 if own.n_units < 0 else 3 if own.w_k >= 0 else 1)
