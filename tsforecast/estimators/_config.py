"""From estimator parameters to the plain descriptions that ``nn`` and the backends take."""

from __future__ import annotations

import os
import warnings
from numbers import Integral, Real

from tsforecast._compat import Interval, StrOptions
from tsforecast.backends.base import StepRule
from tsforecast.exceptions import DataError
from tsforecast.nn.initializers import BIAS_INITS, RECURRENT_INITS
from tsforecast.nn.trainer import TrainConfig
from tsforecast.spec import ATTENTIONS, DECODERS, LOSSES, NOISES, SCHEDULES, SOLVERS, WINDOW_NORMS

DEVICES = ("cpu", "cuda", "auto", "reference")
SHORTEST_STRETCH = 20  # rows that a stateful network goes through from one zero state to the next, at batch_size="auto"
_COUNT = Interval(Integral, 1, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_FRACTION = Interval(Real, 0, 1, closed="left")

PARAMETER_CONSTRAINTS: dict = {
    "hidden_layer_sizes": [_COUNT, "array-like"],
    "n_features_per_step": [_COUNT],
    "lag_order": [StrOptions({"auto", "oldest_first", "newest_first"})],
    "loss": [StrOptions(set(LOSSES))],
    "solver": [StrOptions(set(SOLVERS))],
    "learning_rate_init": [_POSITIVE],
    "learning_rate": [StrOptions(set(SCHEDULES))],
    "batch_size": [StrOptions({"auto"}), _COUNT],
    "max_iter": [_COUNT],
    "alpha": [_NOT_NEGATIVE],
    "max_grad_norm": [_POSITIVE, None],
    "max_grad_value": [_POSITIVE, None],
    "bptt_steps": [_COUNT, None],
    "stateful": ["boolean"],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [_NOT_NEGATIVE],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [_COUNT],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
    "n_jobs": [Integral, None],
    "device": [StrOptions(set(DEVICES))],
    "dtype": [StrOptions({"float32", "float64"})],
    "standardize": ["boolean"],
    "window_norm": [StrOptions(set(WINDOW_NORMS))],
    "season_length": [Interval(Integral, 0, None, closed="left")],
    "linear_skip": ["boolean"],
    "quantiles": ["array-like"],
    "huber_delta": [_POSITIVE],
    "momentum": [_FRACTION],
    "nesterovs_momentum": ["boolean"],
    "beta_1": [_FRACTION],
    "beta_2": [_FRACTION],
    "epsilon": [_POSITIVE],
    "lr_gamma": [_POSITIVE],
    "lr_step_size": [_COUNT],
    "recurrent_init": [StrOptions(set(RECURRENT_INITS))],
    "bias_init": [StrOptions(set(BIAS_INITS))],
    "bidirectional": ["boolean", StrOptions({"concat", "sum"})],
    "residual": ["boolean"],
    "dilations": ["array-like", None],
    "learn_initial_state": ["boolean"],
    **{name: [_FRACTION] for name in NOISES},
    "decoder": [StrOptions(set(DECODERS))],
    "n_future_features": [Interval(Integral, 0, None, closed="left")],
    "teacher_forcing": [Interval(Real, 0, 1, closed="both"), "array-like"],
    "attention": [StrOptions(set(ATTENTIONS) - {"none"}), None],
}


def warn_of_lost_inputs(network: dict) -> None:
    """Warn where layer normalisation leaves little more of the inputs than their signs."""
    if network["n_features"] == 1 and network["cell"].endswith("_layer_norm"):
        warnings.warn(
            "layer_norm=True on windows of one feature a step: of one number, normalised sums show little more than "
            "the sign; give the windows more features, or set layer_norm=False",
            stacklevel=5,
        )


def network_fields(model, n_timesteps: int, n_features: int, n_outputs: int) -> dict:
    """Fields of the ``NetworkSpec`` that ``model``'s parameters describe, as plain numbers and strings."""
    sizes = model.hidden_layer_sizes
    sizes = (sizes,) if isinstance(sizes, Integral) else tuple(sizes)
    if not sizes or any(not isinstance(s, Integral) or s < 1 for s in sizes):
        raise ValueError(f"hidden_layer_sizes must be a positive integer or several, got {model.hidden_layer_sizes!r}")
    dilations = () if model.dilations is None else tuple(model.dilations)
    longest_dilation = max((int(d) for d in dilations if isinstance(d, Integral)), default=1)
    for name, longest in (("season_length", model.season_length), ("dilations", longest_dilation)):
        if longest > n_timesteps:
            raise DataError(
                f"{name}={getattr(model, name)} does not fit into windows of {n_timesteps} steps, which have "
                f"{n_timesteps * n_features} feature(s) in all; lengthen the windows or lower {name}"
            )
    return {
        "n_timesteps": int(n_timesteps),
        "n_features": int(n_features),
        "hidden_sizes": tuple(int(s) for s in sizes),
        "n_outputs": int(n_outputs),
        "n_quantiles": len(_quantiles(model)) if model.loss == "quantile" else 1,
        "window_norm": model.window_norm,
        "season_length": int(model.season_length),
        "linear_skip": bool(model.linear_skip),
        "cell": model._cell,
        "attention": model.attention or "none",
        "decoder": model.decoder,
        "n_future": int(model.n_future_features),
        "stateful": bool(model.stateful),
        **_layer_fields(model, len(sizes)),
        **{name: float(getattr(model, name)) for name in NOISES},
    }


def _layer_fields(model, n_layers: int) -> dict:
    """Fields that say how layers hang together."""
    if model.residual and n_layers < 2:
        raise ValueError("residual=True joins layers, and hidden_layer_sizes has only one; give it several or leave it")
    dilations = () if model.dilations is None else tuple(model.dilations)
    if any(not isinstance(d, Integral) for d in dilations):
        raise ValueError(f"dilations must be positive integers, one a layer, got {model.dilations!r}")
    if len(dilations) == n_layers and set(dilations) == {1}:
        dilations = ()  # the same network, by the name that everything else knows it by
    both = model.bidirectional
    return {
        "bidirectional": both if isinstance(both, str) else "concat" if both else "none",
        "residual": bool(model.residual),
        "dilations": tuple(int(d) for d in dilations),
        "learned_state": bool(model.learn_initial_state),
    }


def _quantiles(model) -> tuple[float, ...]:
    levels = tuple(float(q) for q in model.quantiles)
    if not levels or any(not 0 < q < 1 for q in levels) or list(levels) != sorted(set(levels)):
        raise ValueError(f"quantiles must be rising numbers between 0 and 1, got {model.quantiles!r}")
    return levels


def step_rule(model) -> StepRule:
    """Loss and optimiser of a training step."""
    return StepRule(
        loss=model.loss,
        quantiles=_quantiles(model) if model.loss == "quantile" else (0.5,),
        delta=float(model.huber_delta),
        solver=model.solver,
        alpha=float(model.alpha),
        max_grad_norm=None if model.max_grad_norm is None else float(model.max_grad_norm),
        max_grad_value=None if model.max_grad_value is None else float(model.max_grad_value),
        bptt_steps=None if model.bptt_steps is None else int(model.bptt_steps),
        momentum=float(model.momentum),
        nesterov=bool(model.nesterovs_momentum),
        beta_1=float(model.beta_1),
        beta_2=float(model.beta_2),
        epsilon=float(model.epsilon),
    )


def train_config(model, n_windows: int) -> TrainConfig:
    """Epochs, batches, rates and stopping; ``batch_size="auto"`` is ``min(200, n)``, as in ``MLPRegressor``."""
    if model.stateful and model.shuffle:
        raise ValueError("stateful=True goes through the rows in their order; set shuffle=False")
    most = max(1, n_windows // SHORTEST_STRETCH) if model.stateful else n_windows
    batch_size = min(200, most) if model.batch_size == "auto" else min(int(model.batch_size), n_windows)
    return TrainConfig(
        rule=step_rule(model),
        learning_rate_init=float(model.learning_rate_init),
        learning_rate=model.learning_rate,
        lr_gamma=float(model.lr_gamma),
        lr_step_size=int(model.lr_step_size),
        batch_size=batch_size,
        max_iter=int(model.max_iter),
        shuffle=bool(model.shuffle),
        tol=float(model.tol),
        n_iter_no_change=int(model.n_iter_no_change),
        n_jobs=n_threads(model.n_jobs),
        teacher_forcing=_teacher_forcing(model.teacher_forcing, model.decoder),
    )


def _teacher_forcing(given, decoder: str) -> tuple[float, float]:
    """Probabilities in the first and the last epoch; a single number goes down to 0."""
    pair = [float(p) for p in ((given, 0.0) if isinstance(given, Real) else given)]
    if len(pair) != 2 or not all(0.0 <= p <= 1.0 for p in pair):
        raise ValueError(f"teacher_forcing must be a number from 0 to 1 or two of them, got {given!r}")
    if decoder == "dense" and any(pair):
        raise ValueError(
            f"teacher_forcing={given!r} tells a recurrent decoder true values, and decoder='dense' reads none; set "
            "teacher_forcing=0.0, or decoder='recurrent' or 'recurrent_attention'"
        )
    return pair[0], pair[1]


def n_threads(n_jobs: int | None) -> int:
    """``n_jobs`` as a number of threads: None is 1, -1 all processors of this process, -2 all but one."""
    if n_jobs is None:
        return 1
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning; use None, a positive number, or -1 for all processors")
    if n_jobs > 0:
        return int(n_jobs)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, available + 1 + int(n_jobs))
