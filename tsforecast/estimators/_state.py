"""A fitted estimator as plain arrays and JSON values, and back: what a model file holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsforecast.cells import CELLS
from tsforecast.exceptions import ModelFileError
from tsforecast.persistence import pack_strings, unpack_strings
from tsforecast.spec import NOISES, WINDOW_NORMS, NetworkSpec
from tsforecast.topology import DIRECTIONS

_STATISTICS = ("x_mean", "x_scale", "y_mean", "y_scale")
_COUNTS = ("n_timesteps", "n_features", "n_outputs", "n_quantiles")


def model_state(model) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain values from which ``restore`` makes an equal model, able to predict and to train on."""
    arrays = {
        "params": model._params,
        "opt_m": model._opt_m,
        "opt_v": model._opt_v,
        "loss_curve": np.asarray(model.loss_curve_, dtype=np.float64),
        "validation_scores": np.asarray(model.validation_scores_ or [], dtype=np.float64),
    }
    if model._x_mean is not None:
        arrays |= {name: getattr(model, f"_{name}") for name in _STATISTICS}
    if hasattr(model, "feature_names_in_"):
        arrays["names"], arrays["names_ends"] = pack_strings([str(name) for name in model.feature_names_in_])
    params = model.get_params(deep=False)
    for name, value in params.items():
        if isinstance(value, np.ndarray):
            params[name] = tuple(value.tolist())
    meta = {
        "params": params,
        "network": dict(model._network),
        "quantiles": model._quantiles,
        "seed": model._seed,
        "opt_step": model._opt_step,
        "newest_first": model._newest_first,
        "y_is_1d": model._y_is_1d,
        "y_dtype": model._y_dtype,
    }
    return arrays, meta


def restore(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]):
    """Fitted estimator of class ``cls``; ``ModelFileError`` if the parts do not fit together."""
    model = cls(**anywhere(meta["params"]))
    model._validate_params()
    network = _checked_network(meta["network"], model._cell)
    try:
        spec = NetworkSpec(**network)
    except ValueError as error:
        raise ModelFileError(f"the network is impossible: {error}") from error
    for name in ("params", "opt_m", "opt_v"):
        if arrays[name].shape != (spec.n_params,) or arrays[name].dtype != arrays["params"].dtype:
            raise ModelFileError(f"{name} does not fit a network of {spec.n_params} parameters")
    if meta["y_dtype"] not in ("float32", "float64") or arrays["params"].dtype.name not in ("float32", "float64"):
        raise ModelFileError("weights and predictions must be float32 or float64")
    quantiles = meta["quantiles"]
    if quantiles is not None and not all(type(q) is float and 0 < q < 1 for q in quantiles):
        raise ModelFileError("the quantiles must lie between 0 and 1")
    if network["n_quantiles"] != (1 if quantiles is None else len(quantiles)):
        raise ModelFileError("the quantiles do not fit the network")

    model._network, model._quantiles = network, quantiles
    model._params, model._opt_m, model._opt_v = arrays["params"], arrays["opt_m"], arrays["opt_v"]
    model._opt_step, model._seed = int(meta["opt_step"]), int(meta["seed"])
    model._newest_first, model._y_is_1d = bool(meta["newest_first"]), bool(meta["y_is_1d"])
    model._y_dtype = meta["y_dtype"]
    model._n_timesteps, model._n_features_per_step = spec.n_timesteps, spec.n_features
    model.n_features_in_, model.n_outputs_ = spec.row_size, spec.n_outputs
    _restore_statistics(model, arrays, spec)
    if "names" in arrays:
        names = unpack_strings(arrays["names"], arrays["names_ends"])
        if len(names) != model.n_features_in_:
            raise ModelFileError(f"{len(names)} feature names for {model.n_features_in_} features")
        model.feature_names_in_ = np.asarray(names, dtype=object)
    model._set_history(arrays["loss_curve"].tolist(), arrays["validation_scores"].tolist())
    return model


def anywhere(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters for a machine that may have no GPU: a model that was trained on one takes it where there is one."""
    return params | {"device": "auto"} if params.get("device") == "cuda" else params


def _restore_statistics(model, arrays, spec: NetworkSpec) -> None:
    for name in _STATISTICS:
        values = arrays.get(name) if "x_mean" in arrays else None
        if "x_mean" in arrays:
            size = spec.n_features + spec.n_future if name[0] == "x" else spec.n_outputs
            if values is None or values.shape != (size,) or (name.endswith("scale") and not (values > 0).all()):
                raise ModelFileError(f"{name} does not fit the network")
        setattr(model, f"_{name}", values)


def _checked_network(network: dict[str, Any], cell: str) -> dict[str, Any]:
    """Fields of a ``NetworkSpec`` that a kernel can be given without harm; what older files lack is the default."""
    defaults: dict[str, Any] = {"bidirectional": "none", "residual": False, "dilations": (), "learned_state": False}
    network = defaults | dict.fromkeys(NOISES, 0.0) | network
    sizes = network["hidden_sizes"]
    counts = [*(network[name] for name in _COUNTS), *sizes]
    if not isinstance(sizes, tuple) or not sizes or any(type(n) is not int or n < 1 for n in counts):
        raise ModelFileError("the network's sizes must be positive integers")
    if network["cell"] != cell or cell not in CELLS or network["window_norm"] not in WINDOW_NORMS:
        raise ModelFileError(f"the network's cell {network['cell']!r} or normalisation is unknown here")
    joined = network["bidirectional"], network["residual"], network["learned_state"]
    dilations = network["dilations"]
    if joined[0] not in DIRECTIONS or {type(flag) for flag in joined[1:]} != {bool} or not isinstance(dilations, tuple):
        raise ModelFileError("how the network's layers hang together is unknown here")
    if any(type(d) is not int or not 1 <= d <= network["n_timesteps"] for d in dilations):
        raise ModelFileError("the network's dilations are impossible")
    season = network["season_length"]
    if type(season) is not int or not 0 <= season <= network["n_timesteps"] or type(network["linear_skip"]) is not bool:
        raise ModelFileError("the network's season_length or linear_skip is impossible")
    if any(type(network[name]) is not float for name in NOISES):
        raise ModelFileError(f"the network's {', '.join(NOISES)} must be numbers")
    if type(network.get("n_future", 0)) is not int:
        raise ModelFileError("the network's n_future must be a whole number")
    if type(network.get("stateful", False)) is not bool:
        raise ModelFileError("the network's stateful must be True or False")
    return network
