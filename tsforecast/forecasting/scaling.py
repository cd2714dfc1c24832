"""How the series of a panel enter a model: logarithm, own level and spread, and the error that counts as one unit.

All of it is worked out in float64 from the training rows alone. Shifting by the level loses nothing (windows are
normalised again inside the model) and keeps the digits of series such as ``1e6 + small`` in float32.

    z = (u - location_s) / scale_s,   u = log y or y

``error_scale_s`` is the mean absolute error of the seasonal naive forecast inside the series, in units of z: losses are
counted in it, so that no series outweighs the others, and intervals are pooled in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError
from tsforecast.forecasting import defaults
from tsforecast.nn import elementary

# exp() beyond this leaves float64; a forecast there is clipped, so that it stays a finite number.
MAX_LOG = 700.0
# Largest magnitude that survives squaring in sums over windows, by the type that the model computes in.
MODEL_LIMITS = {"float32": 1e12, "float64": 1e90}  # of values in model units, well inside what the estimators take
SMALLEST = 1e-140  # of a series' largest value: squares of deviations of a millionth of it are still normal numbers
LIMITS = {"float32": float(np.finfo(np.float32).max), "float64": 1e150}


@dataclass(frozen=True)
class SeriesScaling:
    """Level, spread and unit of error of S series; ``log`` says whether they are those of the logarithm."""

    log: bool
    location: np.ndarray  # [S] float64
    scale: np.ndarray  # [S] float64, > 0
    error_scale: np.ndarray  # [S] float64, > 0
    constant: np.ndarray  # [S] bool, the whole history is one value

    @classmethod
    def fit(cls, panel: Panel, season_length: int, log: bool) -> SeriesScaling:
        """Learn from all rows of ``panel``; ``log`` needs positive values."""
        values = elementary.log(panel.values) if log else panel.values
        starts, lengths = panel.indptr[:-1], panel.lengths
        location = np.add.reduceat(values, starts) / lengths
        centred = values - np.repeat(location, lengths)
        spread = np.sqrt(np.add.reduceat(centred**2, starts) / lengths)
        varies = spread > 1e-12 * np.abs(location)
        scale = np.where(varies & (not log), spread, 1.0)
        error = _unit_of_error(centred / np.repeat(scale, lengths), panel, season_length)
        constant = np.maximum.reduceat(panel.values, starts) == np.minimum.reduceat(panel.values, starts)
        return cls(log, location, scale, np.where(varies, error, 1.0), constant)

    @classmethod
    def joined(cls, parts: list[SeriesScaling]) -> SeriesScaling:
        """Those of all series together; all or none are of logarithms."""
        names = ("location", "scale", "error_scale", "constant")
        return cls(parts[0].log, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def unit_of_error(self) -> np.ndarray:
        """``error_scale`` in units of ``u`` instead of z [S]: what scores of differently scaled models share."""
        return self.error_scale * self.scale

    def apply(self, panel: Panel) -> np.ndarray:
        """Values of ``panel`` (of the same series) in the units of the model [R]."""
        values = elementary.log(panel.values) if self.log else panel.values
        return (values - np.repeat(self.location, panel.lengths)) / np.repeat(self.scale, panel.lengths)

    def invert(self, z: np.ndarray, series: np.ndarray) -> np.ndarray:
        """Model units ``[N, ...]`` of the series ``[N]`` back to the units of the data."""
        shape = (-1,) + (1,) * (z.ndim - 1)
        u = z * self.scale[series].reshape(shape) + self.location[series].reshape(shape)
        return elementary.exp(np.clip(u, -MAX_LOG, MAX_LOG)) if self.log else u

    def divided_by(self, factor: float) -> SeriesScaling:
        """Let one model unit be ``factor`` times what it was."""
        return SeriesScaling(self.log, self.location, self.scale * factor, self.error_scale / factor, self.constant)

    def importance(self, panel: Panel, centre: np.ndarray, series: np.ndarray, season_length: int) -> np.ndarray:
        """Weight [N] of an error of one model unit around ``centre`` [N] (model units) of the series [N].

        It counts in units of the series' seasonal naive error in the units of the data, where a logarithm's unit is
        as large as the level.
        """
        unit = self.scale[series]
        if self.log:
            level = centre * unit + self.location[series]
            unit = unit * elementary.exp(np.clip(level, -MAX_LOG, MAX_LOG))
        return unit / _unit_of_error(panel.values, panel, season_length)[series]


def _unit_of_error(values, panel, season_length):
    """Seasonal naive error of each series [S], at least a share of its spread; 1 where nothing varies."""
    starts, lengths = panel.indptr[:-1], panel.lengths
    centred = values - np.repeat(np.add.reduceat(values, starts) / lengths, lengths)
    spread = np.sqrt(np.add.reduceat(centred**2, starts) / lengths)
    error = np.maximum(_naive_error(values, panel, season_length), defaults.MIN_ERROR_SCALE * spread)
    return np.where(error > 0, error, 1.0)


def _naive_error(values, panel, season_length):
    """Mean absolute seasonal difference of each series [S]; the plain difference where it is too short for that."""
    errors = np.zeros(len(panel))
    for lag in (1, season_length):
        rows = np.repeat(panel.lengths > lag, panel.lengths)
        inside = np.arange(len(values)) - np.repeat(panel.indptr[:-1], panel.lengths) >= lag
        difference = np.zeros(len(values))
        difference[lag:] = np.abs(values[lag:] - values[:-lag])
        difference[~(rows & inside)] = 0.0
        sums = np.add.reduceat(difference, panel.indptr[:-1])
        long = panel.lengths > lag
        errors[long] = sums[long] / (panel.lengths[long] - lag)
    return errors


def refuse_nonpositive(panel: Panel) -> None:
    """Raise where a model of logarithms meets a value that has none."""
    rows = np.flatnonzero(panel.values <= 0)
    if len(rows):
        raise DataError(
            f"{panel.describe(rows[0])}: the value {panel.values[rows[0]]:g} is not positive ({len(rows)} in all), but "
            "the model works on logarithms; fit with transform='none'"
        )


def refuse_beyond(panel: Panel, dtype: str) -> None:
    """Raise where a value is too large for the type that the model computes in, or a whole series too small."""
    rows = np.flatnonzero(np.abs(panel.values) > LIMITS[dtype])
    if len(rows):
        raise DataError(
            f"{panel.describe(rows[0])}: the value {panel.values[rows[0]]:g} is outside the {dtype} range "
            f"(+-{LIMITS[dtype]:.3g}; {len(rows)} such values in all); correct it or divide the column by a constant"
        )
    largest = np.maximum.reduceat(np.abs(panel.values), panel.indptr[:-1])
    tiny = np.flatnonzero((largest > 0) & (largest < SMALLEST))
    if len(tiny):
        raise DataError(
            f"series {panel.ids[tiny[0]]!r} holds no value above {largest[tiny[0]]:.3g}, of which squares vanish "
            f"({len(tiny)} such series in all); multiply the column by a constant"
        )


def refuse_unscalable(panel: Panel, z: np.ndarray, dtype: str) -> None:
    """Raise where a value is so far from the rest of its series that model units leave the type of the model."""
    rows = np.flatnonzero(~(np.abs(z) <= MODEL_LIMITS[dtype]))
    if len(rows):
        raise DataError(
            f"{panel.describe(rows[0])}: the value {panel.values[rows[0]]:g} is {abs(z[rows[0]]):.1g} times the spread "
            f"of its series, too far for {dtype} ({len(rows)} such values in all); correct it, or leave the series out"
        )
