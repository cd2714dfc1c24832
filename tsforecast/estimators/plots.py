"""Pictures of what a network did with a window; matplotlib is imported when one is drawn.

Letters: n windows, T steps, F features, H units of a layer.
"""

from __future__ import annotations

import numpy as np

from tsforecast.exceptions import DataError

# Colours of all pictures of this package: what is known, what is forecast, and further lines; words; grid.
KNOWN, FORECAST = "#33475b", "#d1495b"
LINES = (KNOWN, FORECAST, "#2a9d8f", "#e9a03b", "#7a5195", "#6c8ebf", "#8d6e63", "#5b8c3a")
WORDS, GRID = "#5b6b7b", "#d9dee3"
_GATES = frozenset("iforz")  # names whose values lie from 0 to 1


def require_matplotlib() -> None:
    """Raise ``ImportError`` with the remedy where there is no matplotlib."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'tsforecast[plot]'") from None


def tidy(axis, grid: str = "y") -> None:
    """The look of every axis: no box, a pale grid behind the data (``""``: none), small grey numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    if grid:
        axis.grid(axis=grid, color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(colors=WORDS, labelsize=9)


def draw_health(health, ax=None):
    """Norm by step of every layer of a ``GradientHealth``; returns the axes."""
    axis = _axes(ax)
    for layer, color in zip(health.layers, _colors(len(health.layers)), strict=True):
        name = f"layer {layer.layer}" + (" reverse" if layer.direction == "reverse" else "")
        norms = np.where((layer.norms > 0) & np.isfinite(layer.norms), layer.norms, np.nan)  # a log axis has no zero
        marker = "o" if len(norms) <= 40 else None
        axis.plot(norms, color=color, linewidth=1.6, marker=marker, markersize=3.5, label=f"{name}: {layer.verdict}")
    axis.set_yscale("log")
    tidy(axis)
    axis.set_xlabel("step (oldest to newest)", color=WORDS)
    axis.set_ylabel("norm of the gradient at the hidden state", color=WORDS)
    axis.legend(frameon=False, fontsize=9)
    return axis


def draw_attributions(values: np.ndarray, window: int | None, ax=None):
    """Heat map of ``values [n,T,F]``: features by steps of a window, or the mean size over all; returns the axes."""
    if values.ndim != 3:
        raise DataError(f"only whole windows (n, T, F) can be drawn, and this is a part, of shape {values.shape}")
    axis = _axes(ax, height=2.0 + 0.28 * min(values.shape[2], 20))
    shown = np.abs(values).mean(axis=0) if window is None else np.asarray(_pick(values, window, "window"))
    image = _heat_map(axis, shown.T, signed=window is not None)
    axis.set_xlabel("step (oldest to newest)", color=WORDS)
    axis.set_ylabel("feature", color=WORDS)
    bar = axis.figure.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
    bar.set_label("mean size" if window is None else "attribution", color=WORDS, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=WORDS, labelsize=8)
    return axis


def draw_attention(weights: np.ndarray, window: int | None, ax=None):
    """Weights ``[n,T]`` by step, or ``[n,K,T]`` as a heat map, of a window or their mean; returns the axes."""
    shown = weights.mean(axis=0) if window is None else _pick(weights, window, "window")
    axis = _axes(ax)
    axis.set_xlabel("step (oldest to newest)", color=WORDS)
    what = "mean weight" if window is None else "weight"
    if shown.ndim == 2:
        bar = axis.figure.colorbar(_heat_map(axis, shown, signed=False), ax=axis, fraction=0.04, pad=0.02)
        bar.set_label(what, color=WORDS, fontsize=9)
        axis.set_ylabel("output", color=WORDS)
        return axis
    axis.fill_between(np.arange(len(shown)), shown, color=KNOWN, alpha=0.15, linewidth=0)
    axis.plot(shown, color=KNOWN, linewidth=1.6, marker="o" if len(shown) <= 40 else None, markersize=3.5)
    axis.axhline(1 / len(shown), color=FORECAST, linewidth=1.0, linestyle="--", label="all steps alike")
    axis.set_ylim(bottom=0.0)
    tidy(axis)
    axis.set_ylabel(what, color=WORDS)
    axis.legend(frameon=False, fontsize=9)
    return axis


def draw_trace(trace, window: int, layer: int, unit: int | None):
    """Draw gates and states of one window and layer: lines of one unit, or a heat map of all; returns the axes."""
    shown = {name: _pick(values, window, "window") for (i, name), values in trace.items() if i == layer}
    if not shown:
        raise DataError(f"layer must be one of {sorted({i for i, _ in trace})}, got {layer}")
    require_matplotlib()
    return _unit_maps(shown) if unit is None else _unit_lines(shown, unit)


def _unit_maps(shown: dict[str, np.ndarray]):
    """One heat map a name, units by steps."""
    import matplotlib.pyplot as plt

    n_columns = min(2, len(shown))
    n_rows = -(-len(shown) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(5.5 * n_columns, 2.4 * n_rows), layout="constrained", squeeze=False, sharex=True
    )
    for axis, (name, values) in zip(axes.flat, shown.items(), strict=False):
        image = _heat_map(axis, values.T, most=1.0 if name in _GATES else None, signed=name not in _GATES)
        axis.set_title(name, loc="left", fontsize=11, color=KNOWN)
        bar = figure.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=WORDS, labelsize=8)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("unit", color=WORDS)
    for axis in axes.flat[max(0, len(shown) - n_columns) : len(shown)]:  # the lowest of each column
        axis.set_xlabel("step (oldest to newest)", color=WORDS)
        axis.tick_params(labelbottom=True)
    return axes.ravel()[: len(shown)]


def _unit_lines(shown: dict[str, np.ndarray], unit: int):
    """States of one unit above, its gates below."""
    import matplotlib.pyplot as plt

    parts = [[name for name in shown if (name in _GATES) == is_gate] for is_gate in (False, True)]
    parts = [names for names in parts if names]
    _, axes = plt.subplots(
        len(parts), 1, figsize=(8.0, 2.6 * len(parts)), layout="constrained", squeeze=False, sharex=True
    )
    for axis, names in zip(axes[:, 0], parts, strict=True):
        for name, color in zip(names, _colors(len(names)), strict=True):
            axis.plot(_pick(shown[name].T, unit, "unit"), color=color, linewidth=1.6, label=name)
        if names[0] in _GATES:
            axis.set_ylim(-0.03, 1.03)
        tidy(axis)
        axis.set_ylabel("gate" if names[0] in _GATES else "state", color=WORDS)
        axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1, 0].set_xlabel("step (oldest to newest)", color=WORDS)
    return axes[:, 0]


def _axes(ax, height: float = 3.6):
    """``ax``, or that of a new figure."""
    if ax is not None:
        return ax
    require_matplotlib()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(8.0, height), layout="constrained")[1]


def _heat_map(
    axis,
    values: np.ndarray,  # [rows, T]
    *,
    signed: bool,  # colours around 0; else from 0
    most: float | None = None,  # where the colours end; None: the largest number there is
):
    """Draw and return the image."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    most = most or float(np.abs(values).max()) or 1.0
    image = axis.imshow(
        values, aspect="auto", interpolation="nearest", origin="lower", vmin=-most if signed else 0.0, vmax=most,
        cmap="RdBu_r" if signed else LinearSegmentedColormap.from_list("known", ["#ffffff", KNOWN, "#0d141b"]),
    )  # fmt: skip
    tidy(axis, grid="")
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(min(8, len(values)), integer=True, min_n_ticks=1))
    return image


def _pick(values: np.ndarray, i: int, what: str) -> np.ndarray:
    """``values[i]``, or an error that tells what there is."""
    if not -len(values) <= i < len(values):
        raise DataError(f"{what} must be below {len(values)}, got {i}")
    return values[i]


def _colors(n: int) -> list[str]:
    """A colour for each of n lines."""
    return [LINES[i % len(LINES)] for i in range(n)]
