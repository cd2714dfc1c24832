"""A network as kernels see it beside its tables: sizes, offsets, and a type that says which kernels are compiled.

Letters: B rows, K outputs, Q quantiles, E known-future inputs, A = T*F (with a skip) + 1 + head_units columns of the
head's input.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from tsforecast.backends.cpu.attention_places import AttentionPlaces
from tsforecast.backends.cpu.decoder_places import DecoderPlaces
from tsforecast.backends.cpu.shapes import CELL_SHAPES
from tsforecast.spec import WINDOW_NORMS, NetworkSpec


class Net(NamedTuple):
    """Sizes of a network, how windows enter it (``norm``, ``season``), and offsets of what it has once."""

    n_timesteps: int
    n_features: int
    n_outputs: int
    n_quantiles: int
    norm: int
    season: int
    skip: int
    n_layers: int  # runs
    n_gradient: int  # packed weights that have a gradient: what one shard's gradient holds
    head_in: int  # A
    head_skip: int  # columns of A before the bias
    out_width: int  # K*Q in whole vectors
    head_w: int
    head_wt: int
    head: int  # [B,A] head input
    out: int  # [B,out_width]
    dout: int
    dout_panels: int
    de: int  # [B,de_width] gradient by what the head reads behind the 1
    de_width: int
    dh: int
    dc: int
    dz: int
    n_future: int  # E
    future: int  # known-future inputs in the work buffer; E numbers of a step stand together
    future_row: int  # how far apart the rows are
    future_step: int  # and the steps; 0: B rows
    pool: AttentionPlaces | tuple[()]  # of the head, or of the decoder; empty where it would only add to compiling
    decoder: DecoderPlaces | tuple[()]
    dropout: float
    recurrent_dropout: float
    zoneout: float
    carries_h: int  # whether under noise c holds h
    zones_c: int  # whether zoneout is for c, too
    rest: int


@cache
def net_type(cell: str, attention: str, decoder: str, noisy: bool, reads_future: bool) -> type[Net]:
    """A type of its own for all that decides which kernels are compiled. Machine code that is kept names it."""
    parts = [part for part in (attention, decoder) if part not in ("none", "dense")]
    name = "_".join(["Net", cell, *parts, *["noisy"] * noisy, *["future"] * reads_future])
    kind = {"cell": cell, "attention": attention, "decodes": decoder, "noisy": noisy, "reads_future": reads_future}
    made = type(name, (Net,), kind | {"__module__": __name__})
    globals()[name] = made
    return made


def fields_of(spec: NetworkSpec) -> dict[str, Any]:
    """What a ``Net`` says that does not depend on where anything lies."""
    return {
        "n_timesteps": spec.n_timesteps,
        "n_features": spec.n_features,
        "n_outputs": spec.n_outputs,
        "n_quantiles": spec.n_quantiles,
        "norm": WINDOW_NORMS[spec.window_norm],
        "season": spec.season_length,
        "skip": int(spec.linear_skip),
        "n_layers": len(spec.topology.runs),
        "n_future": spec.n_future,
        "dropout": float(spec.dropout),
        "recurrent_dropout": float(spec.recurrent_dropout),
        "zoneout": float(spec.zoneout),
        "carries_h": int(CELL_SHAPES[spec.cell].carries_h),
        "zones_c": int("c" in spec.zoned_states),
    }
