"""The blocks of the flat parameter vector: their names, shapes and places.

Letters: G gate columns, H units. Names of weights begin with ``w`` (behind the last dot), those of gains, biases and
states do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsforecast.cells import CELLS

if TYPE_CHECKING:
    from tsforecast.spec import NetworkSpec


@dataclass(frozen=True)
class ParamBlock:
    """One named block of the flat parameter vector."""

    name: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of parameters in the block."""
        return math.prod(self.shape)

    @property
    def is_weight(self) -> bool:
        """Whether it holds weights, and not biases, gains or states."""
        return self.name.rpartition(".")[2].startswith("w")


def layer_shapes(cell: str, width: int, units: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameter blocks of one layer with ``width`` inputs, in the order of the flat vector."""
    kind = CELLS[cell]
    columns = kind.n_gates * units
    shapes: dict[str, tuple[int, ...]] = {"w_x": (width, columns)}
    if kind.recurrent:
        shapes["w_h"] = (units, columns)
    shapes["b"] = (columns,)
    return shapes | {name: tuple(n * units for n in multiples) for name, multiples in kind.extras.items()}


def attention_shapes(kind: str, n_query: int, units: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameter blocks of an attention of ``n_query`` units over states of ``units``."""
    shapes: dict[str, tuple[int, ...]] = {"w_q": (n_query, units)}
    return shapes | {"b": (units,), "w_k": (units, units), "w_v": (units,)} if kind == "additive" else shapes


def _named_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all blocks of a network, in their order."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(prefix: str, own: dict[str, tuple[int, ...]]) -> None:
        shapes.update({prefix + name: shape for name, shape in own.items()})

    width = spec.topology.head_units
    for run in spec.topology.runs:
        add(run.name, layer_shapes(spec.cell, run.inputs, run.units))
        add(run.name, {f"{state}_0": (run.units,) for state in spec.learned_states})
    if spec.attention != "none":
        add("attention.", attention_shapes(spec.attention, width, width))
    if spec.decoder != "dense":
        add("decoder.", layer_shapes(spec.cell, spec.decoder_inputs, spec.hidden_sizes[-1]))
    if spec.decoder == "recurrent_attention":
        add("decoder.attention.", attention_shapes("additive", spec.hidden_sizes[-1], width))
    add("head.", {"w": (spec.head_inputs, spec.map_size), "b": (spec.map_size,)})
    if spec.linear_skip:
        add("skip.", {"w": (spec.n_timesteps * spec.n_features, spec.head_size)})
    return shapes


def blocks_of(spec: NetworkSpec) -> tuple[ParamBlock, ...]:
    """Blocks of a network's flat vector, in order; see ``NetworkSpec.blocks``."""
    blocks: list[ParamBlock] = []
    for name, shape in _named_shapes(spec).items():
        offset = blocks[-1].offset + blocks[-1].size if blocks else 0
        blocks.append(ParamBlock(name, offset, shape))
    return tuple(blocks)
