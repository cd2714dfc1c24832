"""From flat buffers to what the network sees: gathering, per-window normalisation and the seasonal base.

Letters: B rows of a batch, T steps, F features, K outputs, m season length. ``x [B,T,F]`` is one batch of windows.

::

    1a   mu_f    = mean of x_f over the last m steps (all steps if m = 0)
    1b   sigma_f = sqrt(mean over all T steps of (x_f - mean of x_f over all T steps)^2)
    2a   z_f     = (x_f - mu_f) / sigma_f
    2b   base_k  = z_0 at step T - m + k mod m (0 if m = 0)
    3a   target seen by the loss:  (y_k - mu_0) / sigma_0 - base_k
    3b   forecast:                 (output_k + base_k) * sigma_0 + mu_0

``window_norm="center"`` leaves out the division (sigma = 1), ``"none"`` the subtraction too (mu = 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsforecast.spec import NetworkSpec

Array = NDArray[np.float64]

# A spread this small beside the level is what rounding leaves of a constant window in float32 (eps 1.2e-7), not signal;
# dividing by it would blow noise up. The rule does not depend on the dtype, so float32 and float64 decide alike.
MIN_RELATIVE_SCALE = 1e-7


class Frame(NamedTuple):
    """How the outputs of one batch are related to the units of the data."""

    location: Array  # [B,1] mu_0
    scale: Array  # [B,1] sigma_0
    base: Array  # [B,K]

    def to_network(self, y: Array) -> Array:
        """3a: targets ``[B,K]`` in the units of the data -> targets of the loss."""
        return (y - self.location) / self.scale - self.base

    def to_data(self, output: Array) -> Array:
        """3b: outputs ``[B,K,Q]`` of the network -> forecasts in the units of the data."""
        return (output + self.base[:, :, None]) * self.scale[:, :, None] + self.location[:, :, None]


def gather(values: NDArray, x_starts: NDArray, spec: NetworkSpec) -> Array:
    """Windows ``[B,T,F]`` that start at ``x_starts [B]`` of the flat ``values``, in float64."""
    shape = (spec.n_timesteps, spec.n_features)
    offsets = np.arange(spec.n_timesteps * spec.n_features)
    return values[x_starts[:, None] + offsets].astype(np.float64).reshape(-1, *shape)


def gather_future(values: NDArray, x_starts: NDArray, spec: NetworkSpec) -> Array:
    """Known-future inputs ``[B,K,E]``, which stand behind each window, in float64."""
    offsets = np.arange(spec.n_timesteps * spec.n_features, spec.row_size)
    return values[x_starts[:, None] + offsets].astype(np.float64).reshape(len(x_starts), spec.n_outputs, spec.n_future)


def gather_targets(targets: NDArray, y_starts: NDArray, y_stride: int, n_outputs: int) -> Array:
    """Targets ``[B,K]`` of the windows, in float64."""
    return targets[y_starts[:, None] + np.arange(n_outputs) * y_stride].astype(np.float64)


def normalise(x: Array, spec: NetworkSpec) -> tuple[Array, Frame]:
    """Return the normalised windows ``[B,T,F]`` and the frame that leads their outputs back."""
    n_rows, _, n_features = x.shape
    location = np.zeros((n_rows, n_features))
    scale = np.ones((n_rows, n_features))
    if spec.window_norm != "none":
        location = x[:, -spec.season_length :].mean(axis=1)  # 1a; -0 takes all steps
    if spec.window_norm == "standard":
        spread = np.sqrt(((x - x.mean(axis=1, keepdims=True)) ** 2).mean(axis=1))  # 1b
        scale = np.where(spread > MIN_RELATIVE_SCALE * np.abs(location), spread, 1.0)
    z = (x - location[:, None]) / scale[:, None]  # 2a
    return z, Frame(location[:, :1], scale[:, :1], season_base(z, spec))


def season_base(z: Array, spec: NetworkSpec) -> Array:
    """2b: feature 0 one season before each output, ``[B,K]``."""
    n_rows, n_timesteps, _ = z.shape
    season = spec.season_length
    if season == 0:
        return np.zeros((n_rows, spec.n_outputs))
    return z[:, n_timesteps - season + np.arange(spec.n_outputs) % season, 0]
