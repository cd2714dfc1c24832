"""The reference backend: every method of the protocol in a few lines of float64 NumPy.

Whatever the dtype of the parameters, the arithmetic is float64 and results are rounded to that dtype at the end;
``n_jobs`` changes nothing. Letters are those of ``tsforecast.backends.base``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import StepRule, TrainState, Windows, check_plain, gradient_steps
from tsforecast.backends.reference import losses, network, optimizers
from tsforecast.backends.reference.cell import State
from tsforecast.backends.reference.decoder import Teacher
from tsforecast.backends.reference.noise import Noise
from tsforecast.backends.reference.windows import Frame, gather, gather_future, gather_targets, normalise
from tsforecast.exceptions import DivergedError
from tsforecast.spec import NetworkSpec

Array = NDArray[np.float64]

# Rows that go through the network at once outside training: bounds memory, changes no result.
CHUNK_ROWS = 512


class ReferenceBackend:
    """NumPy float64 implementation of ``tsforecast.backends.base.Backend``; see there for shapes and meanings."""

    name = "reference"

    @np.errstate(over="ignore", invalid="ignore")  # a diverging run is reported as an error, not as a warning
    def train_epoch(
        self,
        spec: NetworkSpec,
        rule: StepRule,
        state: TrainState,
        windows: Windows,
        order: NDArray[np.int64],
        batch_size: int,
        learning_rates: NDArray[np.float64],
        n_jobs: int,  # noqa: ARG002
    ) -> float:
        """Visit every row once, in ``order``, one optimiser step a batch.

        A batch whose weights are all zero says nothing and is passed over without a step. The loss of each batch
        enters the returned mean with its penalty (see ``StepRule``) and with the batch's share of the weights.

        Raises
        ------
        DivergedError
            The loss of a batch is not finite; ``state`` stays as the batch before left it.
        """
        total, total_weight = 0.0, 0.0
        given: list[State] | None = None
        for batch, lr in enumerate(learning_rates):
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            weight = float(windows.weights[rows].sum(dtype=np.float64))
            if weight == 0.0:
                continue
            if given is not None:  # the last batch may be smaller
                given = [tuple(s[: len(rows)] for s in states) for states in given]
            noise = Noise(spec, state.seed, state.step, len(rows))
            loss, gradient, last = self._loss_and_gradient(spec, rule, state.params, windows, rows, noise, given)
            given = last if spec.stateful else None
            if not np.isfinite(loss):
                raise DivergedError(
                    f"the training loss of batch {batch} is {loss}; lower learning_rate_init or scale the data"
                )
            self._apply(spec, rule, state, gradient, float(lr))
            total += loss * weight
            total_weight += weight
        return total / total_weight

    def _loss_and_gradient(
        self,
        spec: NetworkSpec,
        rule: StepRule,
        params: NDArray,
        windows: Windows,
        rows: NDArray[np.int64],
        noise: Noise | None,
        given: list[State] | None,
    ) -> tuple[float, Array, list[State]]:
        """Loss of one batch with its penalty, its gradient ``[P]`` before clipping, and the states after the windows.

        The runs start from the states ``given``.
        """
        w = params.astype(np.float64)
        weights = windows.weights[rows].astype(np.float64)
        n_steps = gradient_steps(spec, rule)
        loss, gradient, _, last = _differentiate(spec, rule, w, windows, rows, weights, n_steps, noise, given)
        if rule.solver != "adamw":
            decay = rule.alpha / weights.sum() * w * spec.is_weight()
            loss += 0.5 * float(decay @ w)
            gradient += decay
        return loss, gradient, last

    def state_gradients(self, spec: NetworkSpec, rule: StepRule, params: NDArray, windows: Windows) -> Array:
        """Norm of the derivative of a window's own loss by the hidden state of every run and step, ``[runs,T]``.

        The root of the mean square over the windows; weights, penalty and ``bptt_steps`` are left out.
        """
        w, squares = params.astype(np.float64), np.zeros((len(spec.topology.runs), spec.n_timesteps))
        for rows in _chunks(len(windows), CHUNK_ROWS // 8):
            _, _, dh, _ = _differentiate(spec, rule, w, windows, rows, np.ones(len(rows)))
            squares += [((len(rows) * d) ** 2).sum(axis=(1, 2)) for d in dh]  # the loss of a batch is a mean
        return np.sqrt(squares / len(windows))

    def evaluate(
        self,
        spec: NetworkSpec,
        rule: StepRule,
        params: NDArray,
        windows: Windows,
        n_jobs: int,  # noqa: ARG002
    ) -> float:
        """Weighted mean loss over all windows, without penalty and without learning."""
        w = params.astype(np.float64)
        total, total_weight = 0.0, float(windows.weights.sum(dtype=np.float64))
        given = None
        for rows in _chunks(len(windows), 1 if spec.stateful else CHUNK_ROWS):
            weights = windows.weights[rows].astype(np.float64)
            z, future, frame, target = _read(spec, windows, rows)
            output, tape = network.forward(spec, w, z, future, given=given)
            given = tape.last_states() if spec.stateful else None
            if weights.any():  # a row without any hands its states on all the same
                loss, _ = losses.batch_loss(rule, _by_quantile(spec, output), frame.to_network(target), weights)
                total += loss * weights.sum()
        return float(total / total_weight)

    def predict(
        self,
        spec: NetworkSpec,
        params: NDArray,
        values: NDArray,
        x_starts: NDArray[np.int64],
        n_jobs: int,  # noqa: ARG002
    ) -> NDArray:
        """Forecasts ``[N,K*Q]`` in the units of feature 0 and the dtype of ``params``."""
        w = params.astype(np.float64)
        forecasts = np.empty((len(x_starts), spec.head_size), dtype=params.dtype)
        given = None
        for rows in _chunks(len(x_starts), 1 if spec.stateful else CHUNK_ROWS):
            z, frame = normalise(gather(values, x_starts[rows], spec), spec)
            output, tape = network.forward(spec, w, z, gather_future(values, x_starts[rows], spec), given=given)
            given = tape.last_states() if spec.stateful else None
            forecasts[rows] = frame.to_data(_by_quantile(spec, output)).reshape(output.shape)
        return forecasts

    def gradient(
        self, spec: NetworkSpec, params: NDArray, x: NDArray, cotangent: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return outputs ``[N,K*Q]``, ``dparams [P]`` and ``dx [N,T,F]`` of ``sum(outputs * cotangent)``."""
        check_plain(spec)
        w, flat, dtype = params.astype(np.float64), x.astype(np.float64).ravel(), params.dtype
        starts = np.arange(len(x)) * spec.row_size
        z = gather(flat, starts, spec)
        output, tape = network.forward(spec, w, z, gather_future(flat, starts, spec))
        gradient = network.backward(spec, w, z, tape, cotangent.astype(np.float64))
        dx = np.concatenate([part.reshape(len(x), -1) for part in (gradient.x, gradient.future)], axis=1)
        return output.astype(dtype), gradient.params.astype(dtype), dx.reshape(x.shape).astype(dtype)

    def _apply(self, spec: NetworkSpec, rule: StepRule, state: TrainState, gradient: Array, lr: float) -> None:
        """One optimiser step on ``state``, in place."""
        state.step += 1
        w, m, v = (a.astype(np.float64) for a in (state.params, state.m, state.v))
        clipped = optimizers.clip(gradient, rule.max_grad_value, rule.max_grad_norm)
        state.params[:], state.m[:], state.v[:] = optimizers.step(
            rule, w, clipped, m, v, state.step, lr, spec.is_weight()
        )


def _read(spec: NetworkSpec, windows: Windows, rows: NDArray[np.int64]) -> tuple[Array, Array, Frame, Array]:
    """Normalised windows ``[B,T,F]``, known-future inputs, the windows' frame, and targets ``[B,K]`` in data units."""
    starts = windows.x_starts[rows]
    z, frame = normalise(gather(windows.values, starts, spec), spec)
    future = gather_future(windows.values, starts, spec)
    return z, future, frame, gather_targets(windows.targets, windows.y_starts[rows], windows.y_stride, spec.n_outputs)


def _differentiate(
    spec: NetworkSpec,
    rule: StepRule,
    w: Array,
    windows: Windows,
    rows: NDArray[np.int64],
    weights: Array,
    n_steps: int | None = None,  # that the gradient goes back; None: all
    noise: Noise | None = None,
    given: list[State] | None = None,  # what every run starts from
) -> tuple[float, Array, list[Array], list[State]]:
    """Loss of a batch, its derivatives by the parameters and by the states of all runs, and the states at the end."""
    z, future, frame, target = _read(spec, windows, rows)
    target = frame.to_network(target)
    teacher = None if windows.forced is None else Teacher(target, windows.forced[rows].astype(bool))
    output, tape = network.forward(spec, w, z, future, teacher, noise, given)
    loss, d_output = losses.batch_loss(rule, _by_quantile(spec, output), target, weights)
    gradient = network.backward(spec, w, z, tape, d_output.reshape(output.shape), n_steps)
    return loss, gradient.params, gradient.states, tape.last_states()


def _by_quantile(spec: NetworkSpec, output: Array) -> Array:
    """``[B,K*Q]`` as ``[B,K,Q]``."""
    return output.reshape(-1, spec.n_outputs, spec.n_quantiles)


def _chunks(n: int, size: int = CHUNK_ROWS) -> list[NDArray[np.int64]]:
    """Rows ``0..n-1`` in chunks of ``size``."""
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
