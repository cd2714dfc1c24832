"""What explaining a forecast returns: arrays that know how to become a table and a picture.

Letters: n windows, T steps, F features, K outputs, H units of a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tsforecast.estimators import plots
from tsforecast.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd


class Trace(dict):
    """Gates and states by layer and name, ``{(layer, name): array (n, T, H)}``; names are those of the equations.

    The units of a bidirectional layer are those of its forward run, then those of its reverse run.

    ``h`` is the hidden state, which is also the layer's output; an LSTM has ``c`` and the gates ``i f g o``, a GRU ``r
    z n``; see ``tsforecast.backends.reference``.
    """

    def to_frame(self) -> pd.DataFrame:
        """One row a number: columns ``window, step, layer, name, unit, value``."""
        import pandas as pd

        parts = []
        for (layer, name), values in self.items():
            window, step, unit = (axis.ravel() for axis in np.indices(values.shape))
            columns = {"window": window, "step": step, "layer": layer, "name": name, "unit": unit}
            parts.append(pd.DataFrame(columns | {"value": values.ravel()}))
        return pd.concat(parts, ignore_index=True)

    def plot(self, window: int = 0, *, layer: int = 0, unit: int | None = None):
        """Draw gates and states of one window.

        Parameters
        ----------
        window : int, default=0
            Row of ``X``.
        layer : int, default=0
            From 0, the one that reads the window.
        unit : int or None, default=None
            Lines of this unit: its states above, its gates below. None: a heat map of all units for each name.

        Returns
        -------
        axes : ndarray of matplotlib Axes
            In a new figure of pyplot.

        Raises
        ------
        ImportError
            Without matplotlib.
        DataError
            For a window, layer or unit that does not exist.
        """
        return plots.draw_trace(self, window, layer, unit)


class Attributions(np.ndarray):
    """Array ``(n, T, F)`` of what every input of a window was worth; as a frame and as a picture, too.

    Everything that NumPy does with arrays works; ``to_frame`` and ``plot`` are for whole windows.
    """

    def to_frame(self) -> pd.DataFrame:
        """One row a number: columns ``window, step, feature, value``, the oldest step first."""
        import pandas as pd

        if self.ndim != 3:
            raise DataError(f"only whole windows (n, T, F) make a frame, and this is a part, of shape {self.shape}")
        window, step, feature = (axis.ravel() for axis in np.indices(self.shape))
        return pd.DataFrame({"window": window, "step": step, "feature": feature, "value": np.asarray(self).ravel()})

    def plot(self, window: int | None = 0, ax=None):
        """Draw a heat map, features by steps.

        Parameters
        ----------
        window : int or None, default=0
            Row of ``X``; None: the mean size over all of them.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure of pyplot.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib.
        DataError
            For a window that does not exist.
        """
        return plots.draw_attributions(np.asarray(self), window, ax)


class AttentionWeights(np.ndarray):
    """Array ``(n, T)`` of what every step weighed in the head's attention; as a frame and as a picture, too.

    A decoder that attends does so at every step of the forecast: its weights are ``(n, K, T)``. The weights of a window
    (and step) add up to 1. Everything that NumPy does with arrays works; ``to_frame`` and ``plot`` are for whole
    windows.
    """

    def __array_finalize__(self, parent):
        self.is_decoder = getattr(parent, "is_decoder", False)

    def to_frame(self) -> pd.DataFrame:
        """One row a number: columns ``window, step, value``, with ``output`` behind the window for a decoder."""
        import pandas as pd

        names = ("window", "output", "step") if self.is_decoder else ("window", "step")
        if self.ndim != len(names):
            raise DataError(f"only whole windows make a frame, and this is a part of them, of shape {self.shape}")
        places = (axis.ravel() for axis in np.indices(self.shape))
        return pd.DataFrame(dict(zip(names, places, strict=True)) | {"value": np.asarray(self).ravel()})

    def plot(self, window: int | None = 0, ax=None):
        """Draw the weights by step; of a decoder a heat map, outputs by steps.

        Parameters
        ----------
        window : int or None, default=0
            Row of ``X``; None: the mean over all of them.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure of pyplot.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib.
        DataError
            For a window that does not exist.
        """
        if self.ndim != 2 + self.is_decoder:
            raise DataError(f"only whole windows can be drawn, and this is a part of them, of shape {self.shape}")
        return plots.draw_attention(np.asarray(self), window, ax)
