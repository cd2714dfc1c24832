"""What a fitted network did with a window: its gates and states, and what each input was worth to the forecast.

Letters: n windows, T steps, F features, K outputs, E known-future inputs of each, H units of a layer.
"""

from __future__ import annotations

import warnings

import numpy as np

from tsforecast.backends.base import get_backend
from tsforecast.estimators import _scaling
from tsforecast.estimators._quantiles import nearest_median
from tsforecast.estimators.explanations import AttentionWeights, Attributions, Trace
from tsforecast.exceptions import DataError

_CHUNK = 256  # windows whose states are held at once
_MOST_MISSED = 0.05  # of a difference between forecasts, before a warning: smooth networks miss next to nothing


def trace(model, windows: np.ndarray) -> Trace:
    """Run windows ``[n,T,F]``, in the units of ``X``, through the reference equations and keep what they compute."""
    spec, passed = _pass(model, windows)
    found = Trace()
    for run, tape in zip(spec.topology.runs, passed.runs, strict=True):
        kept = tape.kept(run)
        values = {"h": tape.h.transpose(1, 0, 2)}
        for name in getattr(kept[0], "_fields", ()):
            if len(name) == 1 and getattr(kept[0], name) is not None:  # not what belongs to the step before
                values[name] = np.stack([getattr(step, name) for step in kept], axis=1)
        for name, array in values.items():
            place = run.layer, name
            found[place] = np.concatenate([found[place], array], axis=2) if run.reverse else array
    return found


def attention_weights(model, windows: np.ndarray, future: np.ndarray) -> AttentionWeights:
    """Weights ``[n,T]`` of the head's attention, ``[n,K,T]`` of a decoder's, in windows ``[n,T,F]`` in units of ``X``.

    ``future [n,K,E]`` are the known-future inputs, in their units.
    """
    spec = model._spec()
    if spec.attention == "none" and spec.decoder != "recurrent_attention":
        raise DataError(
            'this model has no attention; fit one with attention="additive", attention="dot" or '
            'decoder="recurrent_attention"'
        )
    parts = []
    for first in range(0, len(windows), _CHUNK):
        here = slice(first, first + _CHUNK)
        tape = _pass(model, windows[here], future[here])[1].head
        if spec.decoder == "dense":
            parts.append(tape.pooled.weights.T)
        else:
            parts.append(np.array([asked.weights for asked in tape.asked]).transpose(2, 0, 1))
    weights = np.concatenate(parts).view(AttentionWeights)
    weights.is_decoder = spec.decoder != "dense"
    return weights


def _pass(model, windows: np.ndarray, future: np.ndarray | None = None):
    """The network's spec, and what the reference equations keep of a pass over windows ``[n,T,F]``."""
    from tsforecast.backends.reference import network
    from tsforecast.backends.reference.windows import normalise

    spec = model._spec()
    z, _ = normalise(_standardised(model, windows).astype(np.float64), spec)
    if future is None:  # the states of the window do not hear of it
        future = np.zeros((len(z), spec.n_outputs, spec.n_future))
    elif model._x_mean is not None:
        future = (future - model._x_mean[spec.n_features :]) / model._x_scale[spec.n_features :]
    return spec, network.forward(spec, model._params.astype(np.float64), z, future)[1]


def saliency(model, windows: np.ndarray, output: int) -> Attributions:
    """Derivatives ``[n,T,F]`` of output step ``output`` by every input, both in the units of the data."""
    slopes = _input_gradient(model, _standardised(model, windows), output) * _units(model, output)
    return slopes.view(Attributions)


def integrated_gradients(model, windows: np.ndarray, baseline: np.ndarray, n_points: int, output: int) -> Attributions:
    """Integral of the gradient along the straight line from ``baseline [T,F]``, times the way: ``[n,T,F]``.

    M. Sundararajan, A. Taly, Q. Yan: Axiomatic Attribution for Deep Networks. ICML 2017, eq. 1; by Gauss-Legendre
    quadrature, whose error falls much faster with the points than that of their equal steps.
    """
    points, weights = np.polynomial.legendre.leggauss(n_points)
    z, z0 = _standardised(model, windows), _standardised(model, baseline[None])
    total = np.zeros(z.shape)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        total += weight * _input_gradient(model, (z0 + point * (z - z0)).astype(z.dtype), output)
    shares = total * _units(model, output) * (windows - baseline)
    rows = np.concatenate([windows, baseline[None]]).reshape(len(windows) + 1, -1)
    forecasts = model._predict_windows(rows.ravel(), np.arange(len(rows)) * rows.shape[1])[:, _column(model, output)]
    change = forecasts[:-1] - forecasts[-1]
    missed, most = np.abs(shares.sum(axis=(1, 2)) - change).max(), np.abs(change).max()
    if missed > _MOST_MISSED * most:
        warnings.warn(
            f"attributions miss up to {missed:.3g} of differences between forecasts of {most:.3g} at most: on the "
            "way from the baseline the slope changes faster than n_points see. Take more points, or another baseline: "
            "layer_norm=True has a step at the mean window",
            stacklevel=3,
        )
    return shares.view(Attributions)


def _column(model, output: int) -> int:
    """Which of the network's outputs is step ``output``, of several quantiles the one nearest 0.5."""
    return output * model._spec().n_quantiles + nearest_median(model._quantiles)


def _standardised(model, windows: np.ndarray) -> np.ndarray:
    """``[n,T,F]`` as the network is given them."""
    rows = windows.reshape(-1, windows.shape[2])
    mean, scale = (None if a is None else a[: windows.shape[2]] for a in (model._x_mean, model._x_scale))
    return _scaling.cast(rows, model._params.dtype.name, mean, scale, what="X").reshape(windows.shape)


def _units(model, output: int):
    """What a derivative between standardised numbers is multiplied by: ``[F]`` or 1."""
    return 1.0 if model._x_mean is None else model._y_scale[output] / model._x_scale


def _input_gradient(model, z: np.ndarray, output: int) -> np.ndarray:
    """Derivatives ``[n,T,F]`` of one output by the standardised inputs, float64; of its quantile nearest 0.5."""
    spec = model._spec()
    if spec.n_future:
        raise DataError("attributions of windows with known-future inputs are not available; leave these out")
    if spec.window_norm != "none" or spec.season_length:
        raise DataError(
            "attributions need window_norm='none' and season_length=0, so that inputs reach the forecast through the "
            "network alone; normalise the windows beforehand"
        )
    if not 0 <= output < spec.n_outputs:
        raise DataError(f"output must be a step of the horizon, 0 to {spec.n_outputs - 1}, got {output}")
    column = _column(model, output)
    parts = []
    for first in range(0, len(z), _CHUNK):
        block = z[first : first + _CHUNK]
        cotangent = np.zeros((len(block), spec.head_size), z.dtype)
        cotangent[:, column] = 1
        parts.append(get_backend("cpu").gradient(spec, model._params, block, cotangent)[2])
    return np.concatenate(parts).astype(np.float64)
