"""Networks, windows and rules of training drawn at random from all that goes together."""

import numpy as np

from tsforecast.backends.base import StepRule, Windows, gradient_steps
from tsforecast.backends.cpu.shapes import CELL_SHAPES
from tsforecast.cells import CELLS
from tsforecast.spec import ATTENTIONS, LOSSES, NetworkSpec

# What excludes much else, and what it excludes, so that it is not drawn too seldom.
SILENT = {"dropout": 0.0, "recurrent_dropout": 0.0, "zoneout": 0.0}
UNTURNED = {"bidirectional": "none", "dilations": (), "learned_state": False, "attention": "none"}
EXCLUDING = (
    {},
    {},
    {},
    UNTURNED,  # where gradients may end within the window
    {"linear_skip": False, "attention": "none", "decoder": "recurrent", **SILENT},
    {"linear_skip": False, "attention": "none", "decoder": "recurrent_attention", **SILENT},
    {"decoder": "dense", "window_norm": "none", "stateful": True, **SILENT, **UNTURNED},
)
UNITS = (1, 2, 3, 5, 8, 15, 16, 17, 20, 33)  # a vector of lanes and its neighbours among them


class Case:
    """One network and what is asked of it; ``fixed`` fields of its ``NetworkSpec`` are not drawn.

    Parameters
    ----------
    seed : int
        The same seed, the same case.
    most_rows, most_steps : int
        Bounds on windows and on steps a window.
    """

    def __init__(self, seed, most_rows, most_steps, **fixed):
        self.rng = np.random.default_rng(seed)
        while True:  # most draws hold something that is refused, which costs microseconds
            try:
                kind = self._one_of(EXCLUDING)
                self.spec = NetworkSpec(**self._fields(most_steps) | kind | fixed)
                self.rule = self._rule()
                gradient_steps(self.spec, self.rule)
                break
            except ValueError:
                continue
        if self.spec.recurrent_dropout and CELL_SHAPES[self.spec.cell].reads_h:
            object.__setattr__(self.spec, "recurrent_dropout", 0.0)  # no kernels for it
        self.params = self.rng.normal(scale=0.5, size=self.spec.n_params)
        self.windows = self._windows(int(self.rng.integers(1, most_rows + 1)))

    def _chance(self, probability, value, otherwise):
        return value if self.rng.random() < probability else otherwise

    def _one_of(self, values):
        return list(values)[self.rng.integers(len(values))]

    def _rate(self):
        return self._chance(0.3, float(self._one_of((1e-9, 0.2, 0.5, 0.9))), 0.0)

    def _fields(self, most_steps):
        n_steps, n_layers = int(self.rng.integers(1, most_steps + 1)), int(self.rng.integers(1, 4))
        residual = n_layers > 1 and self.rng.random() < 0.4
        width = self._one_of(UNITS)
        return {
            "n_timesteps": n_steps,
            "n_features": int(self.rng.integers(1, 4)),
            "hidden_sizes": tuple(width if residual else self._one_of(UNITS) for _ in range(n_layers)),
            "n_outputs": int(self.rng.integers(1, 5)),
            "n_quantiles": self._chance(0.3, 3, 1),
            "window_norm": self._chance(0.5, self._one_of(("center", "standard")), "none"),
            "season_length": self._chance(0.3, int(self.rng.integers(1, n_steps + 1)), 0),
            "linear_skip": self.rng.random() < 0.3,
            "cell": self._one_of(CELLS),
            "bidirectional": self._chance(0.4, self._one_of(("concat", "sum")), "none"),
            "residual": residual,
            "dilations": self._chance(0.4, tuple(map(int, self.rng.integers(1, n_steps + 1, n_layers))), ()),
            "learned_state": self.rng.random() < 0.4,
            "attention": self._chance(0.4, self._one_of(ATTENTIONS), "none"),
            "n_future": self._chance(0.3, int(self.rng.integers(1, 4)), 0),
            "dropout": self._rate(),
            "recurrent_dropout": self._rate(),
            "zoneout": self._rate(),
        }

    def _rule(self):
        loss = "quantile" if self.spec.n_quantiles > 1 else self._one_of(set(LOSSES) - {"quantile"})
        return StepRule(
            loss=loss,
            quantiles=(0.1, 0.5, 0.9) if loss == "quantile" else (0.5,),
            solver="sgd",
            momentum=0.5,
            alpha=self._chance(0.3, 0.1, 0.0),
            max_grad_norm=self._one_of((0.5, 20.0, 500.0)),  # without a bound some diverge,
            max_grad_value=self._chance(0.3, 0.1, None),
            bptt_steps=self._chance(0.3, int(self.rng.integers(1, self.spec.n_timesteps + 1)), None),
        )

    def _windows(self, n_rows):
        """Rows that overlap where no future stands behind them; some weights of zero; a teacher for decoders."""
        spec, rng = self.spec, self.rng
        stride = spec.row_size if spec.n_future else spec.n_features * int(rng.integers(1, spec.n_timesteps + 1))
        starts = np.arange(n_rows, dtype=np.int64) * stride
        values = rng.normal(size=starts[-1] + spec.row_size) + 3.0
        weights = rng.uniform(0.5, 2.0, n_rows)
        weights[1:][rng.random(n_rows - 1) < 0.1] = 0.0
        forced = (rng.random((n_rows, spec.n_outputs)) < 0.5).astype(np.uint8)
        return Windows(
            values, starts, rng.normal(size=n_rows * spec.n_outputs) + 3.0, np.arange(n_rows) * spec.n_outputs,
            weights, forced=self._chance(0.5, forced, None) if spec.decoder != "dense" else None,
        )  # fmt: skip
