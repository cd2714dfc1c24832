"""The narrow waist between networks and the code that runs them.

Letters: N windows, T steps, F features, K outputs, Q quantiles, P parameters.

Windows are never built: window ``i`` at step ``t``, feature ``f`` is ``values[x_starts[i] + t*F + f]``, and its target
``k`` is ``targets[y_starts[i] + k*y_stride]``. A 2-D ``X [N, T*F]`` is ``values = X.ravel()`` with
``x_starts = arange(N)*T*F``; a single series is ``values = series`` with one start a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from tsforecast.exceptions import DivergedError
from tsforecast.spec import NetworkSpec


@dataclass(frozen=True)
class Windows:
    """Windows over flat buffers, all of one floating dtype, C-contiguous and owned by the caller.

    ``values [.]``, ``x_starts [N]`` int64, ``targets [.]``, ``y_starts [N]`` int64, ``y_stride`` elements between
    the targets of one window, ``weights [N]`` (loss weights, not all zero). Known-future inputs stand behind each
    window (``NetworkSpec.n_future``). ``forced [N,K]`` uint8 says which targets a decoder is told in training (None:
    none of them).
    """

    values: np.ndarray
    x_starts: np.ndarray
    targets: np.ndarray
    y_starts: np.ndarray
    weights: np.ndarray
    y_stride: int = 1
    forced: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x_starts)

    def take(self, rows: slice | np.ndarray) -> Windows:
        """Some of the windows, over the same buffers; for windows of which nothing is ``forced`` yet."""
        return replace(self, x_starts=self.x_starts[rows], y_starts=self.y_starts[rows], weights=self.weights[rows])


@dataclass(frozen=True)
class StepRule:
    """Loss and optimiser of a training step. Names are keys of ``spec.LOSSES`` and ``spec.SOLVERS``.

    The loss of a batch is ``sum_i w_i * mean_kq l(out, y) / sum_i w_i`` with l one of: ``d**2``; ``|d|``;
    Huber with ``delta``; pinball at ``quantiles``; plus ``alpha / (2 * sum_i w_i) * |W|^2`` over all weights but the
    biases (not for adamw, where ``alpha`` is decoupled decay: ``w -= lr * alpha * w``). The targets and outputs that
    enter l are the normalised ones (``NetworkSpec.window_norm``).
    ``max_grad_value`` bounds each entry of the gradient, penalty included, and ``max_grad_norm`` then its global norm
    (None: off). The gradient goes back through the last ``bptt_steps`` steps of a window (None: through all).
    """

    loss: str = "squared_error"
    quantiles: tuple[float, ...] = (0.5,)
    delta: float = 1.0
    solver: str = "adam"
    alpha: float = 0.0
    max_grad_norm: float | None = 1.0
    max_grad_value: float | None = None
    bptt_steps: int | None = None
    momentum: float = 0.9
    nesterov: bool = True
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8


@dataclass
class TrainState:
    """What training changes: ``params [P]``, the optimiser's ``m [P]`` and ``v [P]``, and the steps taken.

    ``seed`` is that of the noise in training (``NetworkSpec.dropout`` and so on), of which every step has another one.
    """

    params: np.ndarray
    m: np.ndarray = field(init=False)
    v: np.ndarray = field(init=False)
    step: int = 0
    seed: int = 0

    def __post_init__(self):
        self.m = np.zeros_like(self.params)
        self.v = np.zeros_like(self.params)


class Backend(Protocol):
    """What a backend does; everything else is composed of these."""

    name: str

    def train_epoch(
        self,
        spec: NetworkSpec,
        rule: StepRule,
        state: TrainState,
        windows: Windows,
        order: np.ndarray,  # [N] int64 rows of `windows` in the order they are visited
        batch_size: int,
        learning_rates: np.ndarray,  # [ceil(N / batch_size)] float64
        n_jobs: int,
    ) -> float:
        """Visit every row once; update ``state`` in place; return the weighted mean loss (before each update).

        A batch whose weights are all zero takes no step.

        Raises ``DivergedError`` on a non-finite loss, ``KeyboardInterrupt`` within a second of Ctrl-C.
        """

    def evaluate(self, spec: NetworkSpec, rule: StepRule, params: np.ndarray, windows: Windows, n_jobs: int) -> float:
        """Weighted mean loss (no penalty), without learning."""

    def predict(
        self, spec: NetworkSpec, params: np.ndarray, values: np.ndarray, x_starts: np.ndarray, n_jobs: int
    ) -> np.ndarray:
        """Outputs ``[N, K*Q]`` in the units of feature 0 (de-normalised, season added back)."""

    def gradient(
        self, spec: NetworkSpec, params: np.ndarray, x: np.ndarray, cotangent: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Differentiate ``sum(outputs * cotangent)``; only for ``window_norm="none"`` and ``season_length=0``.

        ``x [N,T,F]``, ``cotangent [N,K*Q]`` -> outputs ``[N,K*Q]``, ``dparams [P]``, ``dx [N,T,F]``. With known-future
        inputs ``x`` and ``dx`` are ``[N,row_size]``.
        """


def predict(
    device: str, spec: NetworkSpec, params: np.ndarray, values: np.ndarray, x_starts: np.ndarray, n_jobs: int
) -> np.ndarray:
    """``Backend.predict`` of that device, or, for a first few windows on the CPU, the same bits without compiling."""
    from tsforecast.backends import plain

    device, spec = _resolved(device), spec.without_dropout
    if device == "cpu" and plain.is_worth_it(spec, len(x_starts), params.dtype):
        return plain.predict(spec, params, values, x_starts)
    return get_backend(device).predict(spec, params, values, x_starts, n_jobs)


def bound(most: float | None) -> float:
    """Largest value allowed: infinity for None."""
    return math.inf if most is None else float(most)


def gradient_steps(spec: NetworkSpec, rule: StepRule) -> int:
    """Steps from the end of a window through which the gradient goes, at most T.

    Raises ``ValueError`` where these are fewer, and the network's runs do not all end with the window's newest step, or
    the head reads older ones.
    """
    n_steps = spec.n_timesteps if rule.bptt_steps is None else min(rule.bptt_steps, spec.n_timesteps)
    looks_back = spec.attention != "none" or spec.decoder == "recurrent_attention" or spec.learned_state
    if n_steps < spec.n_timesteps and (looks_back or any(r.reverse or r.dilation > 1 for r in spec.topology.runs)):
        raise ValueError(
            f"bptt_steps={rule.bptt_steps} ends the gradient within the window, which does not go with bidirectional "
            "or dilated layers, attention or learned first states; leave those out or set bptt_steps=None"
        )
    return n_steps


def check_plain(spec: NetworkSpec) -> None:
    """Raise ``ValueError`` unless outputs are those of the network itself; see ``Backend.gradient``."""
    if spec.window_norm != "none" or spec.season_length:
        raise ValueError("gradient needs window_norm='none' and season_length=0; normalise the windows beforehand")


def check_starts(buffer: np.ndarray, starts: np.ndarray, width: int) -> None:
    """Refuse windows that reach beyond their buffer: kernels trust their indices, so these are looked at once."""
    if len(starts) and (starts.min() < 0 or starts.max() + width > len(buffer)):
        raise IndexError(f"a window of {width} numbers reaches beyond its buffer of {len(buffer)}")


def loss_diverged(step: int) -> DivergedError:
    """What ``train_epoch`` raises when the loss of ``step`` (from 1) is not finite."""
    return DivergedError(f"the training loss is not finite in step {step}; lower learning_rate_init or scale the data")


def get_backend(name: str) -> Backend:
    """Return a backend: ``"reference"`` (NumPy float64, readable), ``"cpu"`` or ``"cuda"`` (Numba), or ``"auto"``.

    Raises ``BackendUnavailableError`` for ``"cuda"`` where something that it needs is missing.
    """
    name = _resolved(name)
    if name == "reference":
        from tsforecast.backends.reference.backend import ReferenceBackend

        return ReferenceBackend()
    if name == "cpu":
        from tsforecast.backends.cpu.backend import CpuBackend

        return CpuBackend()
    if name == "cuda":
        from tsforecast.backends.cuda import availability

        availability.require()
        from tsforecast.backends.cuda.backend import CudaBackend

        return CudaBackend()
    if name == "auto":
        from tsforecast.backends.auto import AutoBackend

        return AutoBackend()
    raise ValueError(f"unknown backend {name!r}; known: 'auto', 'cpu', 'cuda', 'reference'")


def _resolved(device: str) -> str:
    """``device``, but ``"auto"`` is ``"cpu"`` where no GPU can be used."""
    if device != "auto":
        return device
    from tsforecast.backends.cuda import availability

    return "auto" if availability.is_available() else "cpu"
