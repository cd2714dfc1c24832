"""From errors of the rows of a long frame to one score a series; what is shared by ``metrics``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import numpy as np

from tsforecast.data.frames import open_frame
from tsforecast.exceptions import DataError

Array = np.ndarray


def score(
    df: Any,
    models: str | Sequence[str],
    id_col: str,
    target_col: str,
    error: Callable[[Array, Array], Array],
    finish: Callable[[Array], Array] | None = None,
) -> Any:
    """Mean of ``error(y, forecast)`` over the rows of each series, then ``finish`` of the means."""
    models = model_names(models)
    frame = open_frame(df, [id_col, target_col, *models])
    y = actuals(frame, id_col, target_col)
    errors = {model: error(y, floats(frame, model)) for model in models}
    return table(frame, id_col, errors, ~np.isnan(y), finish)


def table(
    frame: nw.DataFrame,
    id_col: str,
    errors: dict[str, Array],
    scored: Array,
    finish: Callable[[Array], Array] | None = None,
) -> Any:
    """One row a series: the means of a model's ``errors`` over the ``scored`` rows, then ``finish`` of them."""
    codes, first = series_codes(frame[id_col].to_numpy())
    backend = nw.get_native_namespace(frame)
    columns = []
    for model, values in errors.items():
        means = group_mean(values[scored], codes[scored], len(first))
        columns.append(nw.new_series(model, finish(means) if finish else means, backend=backend))
    ids = frame.select(id_col)[first.tolist(), :]
    return nw.maybe_reset_index(ids).with_columns(*columns).to_native()


def group_mean(values: Array, codes: Array, n_groups: int) -> Array:
    """Mean of the values of each group; NaN for a group without any."""
    with np.errstate(invalid="ignore"):
        return np.bincount(codes, values, n_groups) / np.bincount(codes, minlength=n_groups)


def series_codes(ids: Array) -> tuple[Array, Array]:
    """Number the series in order of first appearance: code of each row, and the first row of each series."""
    import pandas as pd

    codes, _ = pd.factorize(ids)
    _, first = np.unique(codes, return_index=True)
    return codes, first


def model_names(models: str | Sequence[str]) -> list[str]:
    """Columns with forecasts; a name alone is one."""
    return [models] if isinstance(models, str) else list(models)


def actuals(frame: nw.DataFrame, id_col: str, target_col: str, what: str = "df") -> Array:
    """Target of each row, NaN where it is missing."""
    y = floats(frame, target_col)
    rows = np.flatnonzero(np.isinf(y))
    if len(rows):
        raise DataError(
            f"column {target_col!r} of {what} is infinite in series {frame[id_col][int(rows[0])]!r} ({len(rows)} rows "
            "in all), which no forecast can be scored against; correct the values or make them missing"
        )
    return y


def floats(frame: nw.DataFrame, column: str) -> Array:
    """Numbers of a column, NaN where one is missing."""
    if not frame.schema[column].is_numeric():
        raise DataError(f"column {column!r} is of type {frame.schema[column]}; it must be numeric")
    return frame[column].cast(nw.Float64()).to_numpy().astype(np.float64, copy=False)
