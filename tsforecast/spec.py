"""The network as data: what every backend builds from, with no heavy imports.

Letters: T steps of a window, F features a step, H units, G gates, K outputs (horizon steps), Q quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tsforecast.cells import CELLS, LEARNED_STATES, SCALED_BY, ZONED_STATES
from tsforecast.parameters import ParamBlock, blocks_of
from tsforecast.topology import Topology, arrange

# Codes are what compiled kernels see; names are what users type.
LOSSES = {"squared_error": 0, "absolute_error": 1, "huber": 2, "quantile": 3}
SOLVERS = {"adam": 0, "adamw": 1, "sgd": 2, "rmsprop": 3}
WINDOW_NORMS = {"none": 0, "center": 1, "standard": 2}
SCHEDULES = ("constant", "cosine", "exponential", "step")
DECODERS = ("dense", "recurrent", "recurrent_attention")
ATTENTIONS = ("none", "additive", "dot")
NOISES = ("dropout", "recurrent_dropout", "zoneout")  # fields of ``NetworkSpec``


@dataclass(frozen=True)
class NetworkSpec:
    """A stack of recurrent layers, a dense head on the last hidden state, and how windows enter and leave.

    Parameters
    ----------
    n_timesteps, n_features : int
        Window length T and features a step F.
    hidden_sizes : tuple of int
        Units of each stacked layer.
    n_outputs : int
        Number of forecast steps K (the width of ``y``).
    n_quantiles : int
        Q; above 1 the head has ``K * Q`` units, the Q quantiles of one step side by side.
    window_norm : {"none", "center", "standard"}
        Per-window normalisation of every feature. ``center`` subtracts the mean of the last ``season_length`` steps
        (of the whole window if that is 0); ``standard`` divides by the window's standard deviation as well. The
        outputs are in the units of feature 0 and are de-normalised with its mean and scale.
    season_length : int
        Above 0: output k is learned as a difference from feature 0 one season before it
        (step ``T - m + k % m`` of the window); 0: from zero.
    linear_skip : bool
        Add a linear map (``K*Q`` by ``T*F``) from the normalised window to the outputs.
    cell : str
        A key of ``cells.CELLS``.
    bidirectional : {"none", "concat", "sum"}
        Whether every layer also runs backwards, and how the states of both directions make its output.
    residual : bool
        Add the input of every layer from the second on to its output; needs layers of equal width.
    dilations : tuple of int
        How many steps back the state lies that a layer reads, one number a layer; empty: 1 for all.
    learned_state : bool
        Whether the states that a window starts from are parameters (``h_0`` and ``c_0 [H]``); else they are zero.
    attention : {"none", "additive", "dot"}
        Whether the head, beside the last states of the last layer, reads a mean of its states at all steps, weighted by
        what the last ones find in them; see ``backends.reference.attention``.
    decoder : {"dense", "recurrent", "recurrent_attention"}
        How outputs are made: all at once by the head; or step by step by a cell of the same kind as the last layer's,
        which starts from its state and reads the output before, with an attention to the encoder's outputs, too. See
        ``backends.reference.decoder``.
    n_future : int
        Known-future inputs E of each output step. They stand behind the window, K*E numbers, time-major; the decoder
        reads those of its step, the dense head reads all.
    dropout, recurrent_dropout, zoneout : float
        Rates, from 0 and below 1, of the noise in training: on what runs pass upwards, on h where the recurrent
        multiply reads it, and of states that keep their old value; see ``backends.reference.noise``.
    stateful : bool
        Whether a window starts from the states that the one before has left, through which no gradient goes. The one
        before is, in training, the row of the same place in the batch before, and else the row before; the first batch
        of an epoch and the first row start from zero.
    """

    n_timesteps: int
    n_features: int
    hidden_sizes: tuple[int, ...]
    n_outputs: int
    n_quantiles: int = 1
    window_norm: str = "none"
    season_length: int = 0
    linear_skip: bool = False
    cell: str = "lstm"
    bidirectional: str = "none"
    residual: bool = False
    dilations: tuple[int, ...] = ()
    learned_state: bool = False
    attention: str = "none"
    decoder: str = "dense"
    n_future: int = 0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    stateful: bool = False

    def __post_init__(self):
        sizes = (self.n_timesteps, self.n_features, self.n_outputs, self.n_quantiles, *self.hidden_sizes)
        if min(sizes) < 1 or not 0 <= self.season_length <= self.n_timesteps:
            raise ValueError(f"sizes must be at least 1, and a season must fit into the window: {self}")
        if self.window_norm not in WINDOW_NORMS or self.cell not in CELLS:
            raise ValueError(f"window_norm must be one of {list(WINDOW_NORMS)} and cell one of {list(CELLS)}: {self}")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {ATTENTIONS}, got {self.attention!r}")
        if self.decoder not in DECODERS or self.n_future < 0:
            raise ValueError(f"decoder must be one of {DECODERS} and n_future at least 0: {self}")
        if self.decoder != "dense" and (self.attention != "none" or self.linear_skip):
            raise ValueError(
                "attention= and linear_skip= belong to decoder='dense'; leave them out with another decoder (that of "
                "'recurrent_attention' attends by itself), and give a Forecaster linear_skip=False"
            )
        self._check_noise()
        if max(self.dilations, default=1) > self.n_timesteps:
            raise ValueError(f"dilations {self.dilations} reach beyond windows of {self.n_timesteps} steps")
        _ = self.topology  # refuses what cannot be arranged
        self._check_stateful()

    def _check_stateful(self) -> None:
        """Refuse states that cannot be carried from window to window."""
        is_turned = any(run.reverse or run.dilation > 1 for run in self.topology.runs)
        starts_itself = self.learned_state or self.decoder != "dense" or self.window_norm != "none"
        is_noisy = self.dropout or self.recurrent_dropout or self.zoneout
        if self.stateful and (is_turned or starts_itself or is_noisy):
            raise ValueError(
                "stateful=True carries states from window to window, which does not go with bidirectional or dilated "
                "layers, learned first states, decoders, window_norm, dropout or zoneout; leave those out"
            )

    def _check_noise(self) -> None:
        """Refuse rates that are none, and noise on what a network does not have."""
        for name in NOISES:
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be a rate from 0 up to, but not, 1, got {getattr(self, name)}")
        if self.is_noisy and self.decoder != "dense":
            raise ValueError(
                f"dropout=, recurrent_dropout= and zoneout= belong to decoder='dense', got {self.decoder!r}; set that, "
                "or these to 0 and take alpha= against overfitting"
            )
        if self.recurrent_dropout and not CELLS[self.cell].recurrent:
            raise ValueError(
                f"the cell {self.cell!r} has no recurrent multiply for recurrent_dropout=; take dropout= or zoneout="
            )
        if self.zoneout and set(CELLS[self.cell].states) & set(SCALED_BY):
            raise ValueError(
                f"the cell {self.cell!r} holds its state by a normaliser, of which zoneout= has no mean for inference; "
                "take dropout= or recurrent_dropout="
            )

    @cached_property
    def topology(self) -> Topology:
        """Runs of cells and the links between them."""
        return arrange(self.n_features, self.hidden_sizes, self.bidirectional, self.residual, self.dilations)

    @property
    def learned_states(self) -> tuple[str, ...]:
        """States that are parameters, in the order of their blocks ``<state>_0``."""
        states = CELLS[self.cell].states
        # With a normaliser n, which starts at 0, a cell state has no weight yet, whatever it is.
        weighty = [s for s in LEARNED_STATES if s in states and (s != "c" or "n" not in states)]
        return tuple(weighty) if self.learned_state else ()

    @property
    def is_plain_stack(self) -> bool:
        """Whether every layer is one forward run from a zero state that reads the layer below, and nothing else."""
        return self == NetworkSpec(
            self.n_timesteps, self.n_features, self.hidden_sizes, self.n_outputs, self.n_quantiles, self.window_norm,
            self.season_length, self.linear_skip, self.cell,
        )  # fmt: skip

    @property
    def zoned_states(self) -> tuple[str, ...]:
        """States that keep their old value at the rate ``zoneout``."""
        return tuple(state for state in CELLS[self.cell].states if state in ZONED_STATES)

    @property
    def is_noisy(self) -> bool:
        """Whether training has any noise."""
        return self.dropout > 0.0 or self.recurrent_dropout > 0.0 or self.zoneout > 0.0

    @property
    def without_dropout(self) -> NetworkSpec:
        """The same network in inference; zoneout is there, too, by its expectation."""
        return replace(self, dropout=0.0, recurrent_dropout=0.0) if self.dropout or self.recurrent_dropout else self

    @property
    def row_size(self) -> int:
        """Numbers of one window and its known-future inputs, which stand behind it."""
        return self.n_timesteps * self.n_features + self.n_outputs * self.n_future

    @property
    def middle_quantile(self) -> int:
        """Which output of a step the decoder's next one reads."""
        return (self.n_quantiles - 1) // 2

    @property
    def map_size(self) -> int:
        """Number of columns of ``head.w``: all outputs, or those of one step of a decoder."""
        return self.head_size if self.decoder == "dense" else self.n_quantiles

    @property
    def decoder_inputs(self) -> int:
        """Number of inputs of a decoder's cell at a step: the output before, known-future ones, what is attended to."""
        return 1 + self.n_future + (self.decoder == "recurrent_attention") * self.topology.head_units

    @property
    def head_inputs(self) -> int:
        """Number of units that the head, or the decoder's last map, reads."""
        if self.decoder != "dense":
            return self.hidden_sizes[-1]
        return self.topology.head_units * (1 if self.attention == "none" else 2) + self.n_outputs * self.n_future

    @property
    def head_size(self) -> int:
        """Number of units of the head, ``K * Q``."""
        return self.n_outputs * self.n_quantiles

    @cached_property
    def blocks(self) -> tuple[ParamBlock, ...]:
        """Blocks of the flat vector, in order.

        Per run ``w_x [D,G*H]``, ``w_h [H,G*H]`` (where the cell has one), ``b [G*H]``, the cell's extras and learned
        states, ``layers.0.w_x`` and so on, ``layers.0.reverse.w_x`` for the reverse direction; with attention
        ``attention.w_q`` and so on, with a decoder ``decoder.w_x`` and so on; then ``head.w [head_inputs,K*Q]``,
        ``head.b [K*Q]`` (Q with a decoder) and, with a linear skip, ``skip.w [T*F,K*Q]``.
        """
        return blocks_of(self)

    @property
    def n_params(self) -> int:
        """Length P of the flat vector."""
        last = self.blocks[-1]
        return last.offset + last.size

    def is_weight(self) -> NDArray[np.bool_]:
        """``[P]`` True where an entry of the flat vector is a weight, False for biases and gains."""
        return np.concatenate([np.full(b.size, b.is_weight) for b in self.blocks])

    def views(self, flat):
        """Named views into a flat vector: ``{name: array}``; writing into them writes into ``flat``."""
        return {b.name: flat[b.offset : b.offset + b.size].reshape(b.shape) for b in self.blocks}
