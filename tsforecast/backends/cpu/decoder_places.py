"""Where a decoder lies: its weights among the packed ones, and what it needs of a work buffer; see ``plan``.

Letters: T and K steps of the window and of the forecast, B rows, W units of the encoder's outputs, Wp = W in whole
vectors, H units of the decoder, Qp = quantiles in whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tsforecast.backends.cpu.tables import IN, N_FIELDS, ROW, STATES
from tsforecast.backends.cpu.tile import whole_vectors
from tsforecast.spec import NetworkSpec


class DecoderPlaces(NamedTuple):
    """Sizes and offsets of what a decoder has besides the buffers of a layer; -1 for what there is not."""

    row: tuple[int, ...] = (-1,) * N_FIELDS  # of the table of layers: a run of K steps
    source: int = -1  # the run of the encoder that it goes on from
    middle: int = -1  # quantile that is fed back
    y_row: int = -1  # Qp
    y: int = -1  # [B,Qp] outputs of a step, or their gradient
    y_panels: int = -1  # [B,Qp]
    context: int = -1  # [B,Wp] context of a step, or its gradient
    told: int = -1  # [B,K] targets in the units of the loss
    forced: int = -1  # [B,K] 1 where the target is read, not the output
    dh: int = -1  # gradient by the first state: of what is fed back
    dc: int = -1  # and of what is carried on


def take_buffers(
    spec: NetworkSpec, row: np.ndarray, rows: int, learns: bool, take: Callable[[int], int]
) -> DecoderPlaces:
    """Places for a decoder whose row of the table of layers is ``row``."""
    y_row, backward = whole_vectors(spec.n_quantiles), rows * learns
    return DecoderPlaces(
        row=tuple(int(field) for field in row),
        source=spec.topology.decoder_source,
        middle=spec.middle_quantile,
        y_row=y_row,
        y=take(rows * y_row),
        y_panels=take(backward * y_row),
        context=take(rows * whole_vectors(spec.topology.head_units)),
        told=take(backward * spec.n_outputs) if learns else -1,
        forced=take(backward * spec.n_outputs) if learns else -1,
        dh=take(backward * int(row[ROW] - row[IN] - 1)),
        dc=take(backward * int(row[STATES])),
    )
