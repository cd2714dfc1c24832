"""Forecasting value by value: a fitted network that is fed one time step at a time and remembers by itself."""

from __future__ import annotations

import copy

import numpy as np

from tsforecast.estimators._quantiles import middle_outputs
from tsforecast.estimators._scaling import LIMITS
from tsforecast.exceptions import DataError
from tsforecast.spec import NetworkSpec


class Stream:
    """A fitted model that takes one time step at a time; made by ``model.stream()``.

    A step costs one step of the network, not a window's worth of them: the hidden states are carried on. After n steps
    the forecast is that of the same weights on the whole history of n steps, from a zero state; after ``n_timesteps``
    of them it has the very bits of ``model.predict`` on that window. Nothing is ever forgotten but what the network
    forgets; call :meth:`reset` where a new series begins.

    A model that looks at its whole window (``window_norm``, ``season_length``, ``linear_skip``, ``bidirectional``,
    ``attention``, a recurrent ``decoder``) or whose state lies several steps back (``dilations``) cannot work like
    this. Its stream keeps the last ``n_timesteps`` steps and predicts from them at every step, at the price of one
    ``predict``; the forecast is NaN until that many steps have been pushed.

    A stream holds the weights of the moment it was made: training the model further does not change it. It can be
    pickled, with its state. It is for one thread at a time.

    Attributes
    ----------
    n_streams : int
        Series that advance side by side, each with a state of its own.
    n_steps : int
        Steps pushed since the last reset.
    """

    def __init__(self, model, n_streams: int | None):
        if n_streams is not None and (not isinstance(n_streams, (int, np.integer)) or n_streams < 1):
            raise ValueError(f"n_streams must be a positive whole number or None, got {n_streams!r}")
        self._model = copy.copy(model)  # training makes new arrays: the weights of now stay with this copy
        self._is_single = n_streams is None
        self.n_streams, self.n_steps = 1 if n_streams is None else int(n_streams), 0
        self._width = model._n_features_per_step
        self._finish = _Finish(model)
        spec = model._spec()
        if spec.n_future:
            raise DataError("a stream has no known-future inputs: predict from rows of X, or fit without them")
        looks_at_window = (
            spec.window_norm != "none" or spec.season_length > 0 or spec.linear_skip or spec.attention != "none"
            or spec.bidirectional != "none" or any(d > 1 for d in spec.dilations) or spec.decoder != "dense"
        )  # fmt: skip
        if spec.stateful and looks_at_window:
            raise DataError(
                "a stream of a stateful model carries its states on from step to step, and season_length, linear_skip "
                "and attention look at whole windows; leave these out, or predict from rows of X"
            )
        self._engine = (_Windowed if looks_at_window else _Stateful)(self._model, spec, self.n_streams)
        self._blank = self._engine.state

    def push(self, x):
        """Take the next time step and forecast what comes after it.

        Parameters
        ----------
        x : float or array-like
            The F features of the step, in the units of ``X``: a number or (F,) for a single stream, (n_streams,) or
            (n_streams, F) for several.

        Returns
        -------
        y : float or ndarray
            A row of what ``model.predict`` returns: a float (1-D targets) or (K,) for a single stream, (n_streams,) or
            (n_streams, K) for several.

        Raises
        ------
        DataError
            If ``x`` has another size, is not finite or too large; the state is then as before.
        """
        x = np.asarray(x, dtype=np.float64).ravel()
        if x.size != self.n_streams * self._width:
            raise DataError(
                f"a step has {self._width} feature(s) for each of {self.n_streams} stream(s), got {x.size} value(s)"
            )
        y = self._engine.push(x)
        self.n_steps += 1
        return self._finish(y, self._is_single)

    def reset(self) -> Stream:
        """Forget everything pushed; return the stream itself."""
        self.state = 0, self._blank
        return self

    def __reduce__(self):
        # The engine's buffers are laid out for this processor.
        return _restored, (self._model, None if self._is_single else self.n_streams, self.state)

    @property
    def state(self) -> tuple[int, np.ndarray]:
        """Everything the stream remembers, ``(n_steps, values)``, as a copy; assign it to go on from there."""
        return self.n_steps, self._engine.state.copy()

    @state.setter
    def state(self, state: tuple[int, np.ndarray]) -> None:
        n_steps, values = state
        if np.shape(values) != self._blank.shape:
            raise ValueError(f"this stream has a state of shape {self._blank.shape}, got {np.shape(values)}")
        self._engine.state = np.array(values, dtype=self._blank.dtype)
        self.n_steps = int(n_steps)


def _restored(model, n_streams: int | None, state: tuple[int, np.ndarray]) -> Stream:
    stream = Stream(model, n_streams)
    stream.state = state
    return stream


class _Finish:
    """Outputs ``[n_streams, K*Q]`` as ``predict`` shapes them."""

    def __init__(self, model):
        self._quantiles, self._y_is_1d, self._dtype = model._quantiles, model._y_is_1d, np.dtype(model._y_dtype)
        self._n_outputs = model.n_outputs_

    def __call__(self, y: np.ndarray, is_single: bool):
        y = middle_outputs(y, self._n_outputs, self._quantiles).astype(self._dtype)
        if self._y_is_1d:
            return y.item() if is_single else y.ravel()
        return y[0] if is_single else y


class _Stateful:
    """Carries the hidden states; ``state [n_streams, sum of 2 H]`` holds h and c of every layer."""

    def __init__(self, model, spec: NetworkSpec, n_streams: int):
        from tsforecast.backends.cpu import stream as kernels

        self._plan, self._packed, self._work = kernels.plan_stream(spec, model._params, n_streams)
        self._places = kernels.state_places(self._plan)
        self._n_streams, self._limit = n_streams, LIMITS[model._params.dtype.name]
        F, KQ, Q = spec.n_features, spec.head_size, spec.n_quantiles
        mean, scale = (model._x_mean, model._x_scale) if model._x_mean is not None else (np.zeros(F), np.ones(F))
        self._x_mean, self._x_scale = np.array(mean, dtype=np.float64), np.array(scale, dtype=np.float64)
        if model._y_mean is None:
            self._y_mean, self._y_scale = np.zeros(KQ), np.ones(KQ)
        else:
            self._y_mean, self._y_scale = np.repeat(model._y_mean, Q), np.repeat(model._y_scale, Q)
        self._step = kernels.step
        first = self.state
        self.push(np.tile(self._x_mean, n_streams))  # compiles here, not when the first value arrives
        self.state = first

    def push(self, x: np.ndarray) -> np.ndarray:
        y = np.empty((self._n_streams, len(self._y_mean)))
        bad = self._step(
            self._plan.net, self._plan.layers, self._n_streams, self._packed, self._work, x, self._x_mean,
            self._x_scale, self._limit, self._y_mean, self._y_scale, y.reshape(-1),
        )  # fmt: skip
        if bad >= 0:
            stream, feature = divmod(bad, len(self._x_mean))
            raise DataError(
                f"feature {feature} of stream {stream} is {x[bad]}; a value must be finite and, before and after "
                f"standardising, at most {self._limit:g} in magnitude"
            )
        return y

    @property
    def state(self) -> np.ndarray:
        return self._work[self._places]

    @state.setter
    def state(self, values: np.ndarray) -> None:
        self._work[self._places] = values


class _Windowed:
    """Keeps the last steps; ``state [n_streams, T*F]`` is NaN where none have been pushed yet."""

    def __init__(self, model, spec: NetworkSpec, n_streams: int):
        self._model = model
        self._width, self._limit = spec.n_features, LIMITS[model._params.dtype.name]
        self._starts = np.arange(n_streams, dtype=np.int64) * spec.n_timesteps * spec.n_features
        self._shape = (n_streams, spec.head_size)
        self.state = np.full((n_streams, spec.n_timesteps * spec.n_features), np.nan)

    def push(self, x: np.ndarray) -> np.ndarray:
        if not (np.abs(x) <= self._limit).all():  # now, not when the window is full
            raise DataError(f"a value must be finite and at most {self._limit:g} in magnitude, got {x}")
        window = np.concatenate([self.state[:, self._width :], x.reshape(-1, self._width)], axis=1)
        y = np.full(self._shape, np.nan)
        if not np.isnan(window[0, 0]):
            y = self._model._predict_windows(window.ravel(), self._starts)
        self.state = window
        return y
