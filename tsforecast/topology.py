"""How the layers of a network hang together: runs of cells over the steps, and the links between them.

A *run* is one cell going over all steps of a window in one direction. A layer is one run, or two that go forwards and
backwards (M. Schuster, K. Paliwal: Bidirectional Recurrent Neural Networks. IEEE Transactions on Signal Processing
45(11), 1997). Its output at a step are their hidden states there, side by side or added up.

With residual connections the output of a layer from the second on is added to its input (K. He et al.: Deep Residual
Learning for Image Recognition. CVPR 2016), so that a layer reads the sum of all outputs below it. A run of dilation d
reads its own state of d steps before (S. Chang et al.: Dilated Recurrent Neural Networks. NIPS 2017).

The head reads the last state of every run of the last layer (that of a reverse run is the one at the oldest step), with
residual connections added up over the layers.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = -1  # as the source of a link: the window itself
DIRECTIONS = ("none", "concat", "sum")


@dataclass(frozen=True)
class Link:
    """What one run, or the head, reads of another run: all its units, added to columns from ``column`` on."""

    source: int  # index of a run, or ``WINDOW``
    column: int = 0


@dataclass(frozen=True)
class Run:
    """One cell over all steps.

    ``name`` is what its parameter blocks' names begin with, ``inputs`` and ``units`` are D and H, ``layer`` counts from
    0, ``reverse`` tells whether it begins at the newest step, ``dilation`` how many steps back its state lies.
    """

    name: str
    layer: int
    inputs: int
    units: int
    reverse: bool
    dilation: int
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Topology:
    """All runs, from the window upwards, and what the head reads: ``head_units`` numbers."""

    runs: tuple[Run, ...]
    head_links: tuple[Link, ...]
    head_units: int

    @property
    def decoder_source(self) -> int:
        """The run whose last state a decoder starts from: the forward one of the last layer."""
        return max(i for i, run in enumerate(self.runs) if not run.reverse)


def arrange(
    n_features: int, hidden_sizes: tuple[int, ...], bidirectional: str, residual: bool, dilations: tuple[int, ...]
) -> Topology:
    """Runs and links of a stack of layers; ``dilations`` has one number a layer, or none where all are 1.

    Raises ``ValueError`` for an unknown direction, wrong dilations, and residual connections between unequal layers.
    """
    if bidirectional not in DIRECTIONS:
        raise ValueError(f"bidirectional must be one of {DIRECTIONS}, got {bidirectional!r}")
    if dilations and (len(dilations) != len(hidden_sizes) or min(dilations) < 1):
        raise ValueError(f"dilations must be {len(hidden_sizes)} positive integers, one a layer, got {dilations}")
    if residual and len(set(hidden_sizes)) > 1:
        raise ValueError(f"residual connections need layers of equal width, got {hidden_sizes}")
    runs: list[Run] = []
    links: tuple[Link, ...] = (Link(WINDOW),)
    width = n_features
    for layer, units in enumerate(hidden_sizes):
        dilation = dilations[layer] if dilations else 1
        first = len(runs)
        runs.append(Run(f"layers.{layer}.", layer, width, units, False, dilation, links))
        above: tuple[Link, ...] = (Link(first),)
        if bidirectional != "none":
            runs.append(Run(f"layers.{layer}.reverse.", layer, width, units, True, dilation, links))
            above += (Link(first + 1, units if bidirectional == "concat" else 0),)
        links = links + above if residual and layer > 0 else above
        width = 2 * units if bidirectional == "concat" else units
    return Topology(tuple(runs), links, width)
