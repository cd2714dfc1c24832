"""A picture of a forecast: the end of each series, what comes next, and how sure that is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np

from tsforecast._files import replacing
from tsforecast.estimators.plots import FORECAST, KNOWN, require_matplotlib, tidy
from tsforecast.exceptions import DataError

TYPES = ("png", "svg", "pdf")


def plot_forecast(history: Any, predictions: Any, path, *, columns=("unique_id", "ds", "y"), max_series: int = 6,
                  max_history: int | None = None) -> None:  # fmt: skip
    """Draw forecasts behind the end of their series and write the picture to a file.

    Parameters
    ----------
    history : DataFrame
        Long frame with the past; without the id column it is one series.
    predictions : DataFrame
        What ``Forecaster.predict`` returned; interval columns are drawn as shades, the widest the lightest.
    path : path-like
        ``.png``, ``.svg`` or ``.pdf``; the file is replaced only when the new one is complete.
    columns : tuple of str, default=("unique_id", "ds", "y")
        Names of id, time and target.
    max_series : int, default=6
        The first so many series are drawn.
    max_history : int, default=None
        Rows of the past that are shown; None: six times the horizon, at least 48.

    Raises
    ------
    ImportError
        Without matplotlib.
    DataError
        For a file type that is not known.
    """
    kind = check_plot(path)
    from matplotlib.figure import Figure

    id_col, time_col, target_col = columns
    future = nw.from_native(predictions, eager_only=True)
    past = nw.from_native(history, eager_only=True)
    names = future[id_col].unique(maintain_order=True).to_list()[:max_series]
    n_columns = 1 if len(names) == 1 else 2
    n_rows = -(-len(names) // n_columns)
    figure = Figure(
        figsize=(9.0 if n_columns == 1 else 12.0, 4.2 if n_rows == 1 else 3.0 * n_rows), layout="constrained"
    )
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        ahead = future.filter(nw.col(id_col) == name).sort(time_col)
        known = past.filter(nw.col(id_col) == name) if id_col in past.columns else past
        rows = max_history or max(48, 6 * len(ahead))
        _draw(axis, known.sort(time_col).tail(rows), ahead, time_col, target_col, id_col)
        axis.set_title(str(name), loc="left", fontsize=11, color=KNOWN)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    order = [
        *range(len(handles) - 2, len(handles)),
        *range(len(handles) - 3, -1, -1),
    ]  # lines first, shades from narrow on
    axes[0].legend([handles[i] for i in order], [labels[i] for i in order], frameon=False, loc="best", fontsize=9)
    with replacing(path) as file:
        figure.savefig(file, format=kind, dpi=150)


def check_plot(path) -> str:
    """Return the type that the name says; ``DataError`` for another, ``ImportError`` without matplotlib."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in TYPES:
        raise DataError(f"{path}: a plot is written as {', '.join('.' + t for t in TYPES)}")
    require_matplotlib()
    return kind


def _draw(axis, known, ahead, time_col, target_col, id_col):
    """One series: past, shades from wide to narrow, forecast."""
    times, stamps = known[time_col].to_numpy(), ahead[time_col].to_numpy()
    level = {c: re.fullmatch(r"(.+)-(lo|hi)-([\d.]+)", c) for c in ahead.columns}
    model = next(c for c in ahead.columns if c not in (id_col, time_col) and not level[c])
    last_y = known[target_col].to_numpy()[-1:]
    joined = np.concatenate([times[-1:], stamps])  # the forecast line starts where the past ends
    wanted = sorted({float(m[3]) for m in level.values() if m and m[1] == model}, reverse=True)
    for i, coverage in enumerate(wanted):
        low, high = (ahead[f"{model}-{side}-{coverage:g}"].to_numpy() for side in ("lo", "hi"))
        axis.fill_between(
            joined, np.concatenate([last_y, low]), np.concatenate([last_y, high]), color=FORECAST,
            alpha=0.15 + 0.13 * i, linewidth=0, label=f"{coverage:g} % interval",
        )  # fmt: skip
    axis.plot(times, known[target_col].to_numpy(), color=KNOWN, linewidth=1.4, label="observed")
    axis.plot(joined, np.concatenate([last_y, ahead[model].to_numpy()]), color=FORECAST, linewidth=1.8, label=model)
    tidy(axis)
    axis.margins(x=0.01)
