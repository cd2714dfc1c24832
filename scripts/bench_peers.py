"""The contenders of ``bench.py``: one network, trained and asked for forecasts by each of the frameworks.

Each class takes a ``Job`` and has three methods: ``train(batches)`` takes a step for each array of rows and returns the
mean loss, ``weights()`` is the flat vector as it stands, ``predict()`` forecasts the first batch. A step is: gather the
rows, forward, mean squared error, backward, Adam. Every framework is used as its manual shows, with one bias a gate, as
ours has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.spec import NetworkSpec

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Job:
    """What is trained: ``flat [P]`` first weights, ``x [N,T,F]``, ``y [N,1]``, all float32; Adam's step is ``rate``."""

    spec: NetworkSpec
    flat: np.ndarray
    x: np.ndarray
    y: np.ndarray
    batch: int
    n_jobs: int
    rate: float = 1e-4

    @cached_property
    def batches(self) -> list[np.ndarray]:
        """Rows of each batch: the first rows, then scattered ones, as after a shuffle."""
        rest = np.random.default_rng(1).permutation(np.arange(self.batch, len(self.x)))
        return np.split(np.concatenate([np.arange(self.batch), rest]), len(self.x) // self.batch)


class Ours:
    """The public backend call, one for all batches; in float64 it is what all are checked against."""

    def __init__(self, job: Job, dtype=np.float32, solver: str = "adam"):
        self._job, self._backend = job, get_backend("cpu")
        n, width = len(job.x), job.x[0].size
        x, y = job.x.astype(dtype).ravel(), job.y.astype(dtype).ravel()
        self._windows = Windows(x, np.arange(n) * width, y, np.arange(n), np.ones(n, dtype))
        self._rule = StepRule(solver=solver, max_grad_norm=None, momentum=0.0, nesterov=False)
        self._state = TrainState(job.flat.astype(dtype))

    def train(self, batches: list[np.ndarray]) -> float:
        order, job = np.concatenate(batches), self._job
        rates = np.full(len(batches), job.rate)
        return self._backend.train_epoch(
            job.spec, self._rule, self._state, self._windows, order, job.batch, rates, job.n_jobs
        )

    def weights(self) -> np.ndarray:
        return self._state.params.copy()

    def predict(self) -> np.ndarray:
        job = self._job
        starts = self._windows.x_starts[: job.batch]
        return self._backend.predict(job.spec, self._state.params, self._windows.values, starts, job.n_jobs)


class Torch:
    """``torch.nn.LSTM`` and ``torch.optim.Adam``, eager; the second bias of each gate stays zero and fixed."""

    name = "torch"

    def __init__(self, job: Job):
        import torch

        torch.set_num_threads(job.n_jobs)
        self._torch, self._job, spec = torch, job, job.spec
        units, layers = spec.hidden_sizes[0], len(spec.hidden_sizes)
        self._lstm = torch.nn.LSTM(spec.n_features, units, layers, batch_first=True)
        self._head = torch.nn.Linear(units, spec.n_outputs)
        views = spec.views(job.flat)
        self._named = {"head.w": self._head.weight, "head.b": self._head.bias}
        for i in range(layers):
            self._named[f"layers.{i}.w_x"] = getattr(self._lstm, f"weight_ih_l{i}")
            self._named[f"layers.{i}.w_h"] = getattr(self._lstm, f"weight_hh_l{i}")
            self._named[f"layers.{i}.b"] = getattr(self._lstm, f"bias_ih_l{i}")
            fixed = getattr(self._lstm, f"bias_hh_l{i}").requires_grad_(False)
            torch.nn.init.zeros_(fixed)
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(torch.tensor(views[name].T))
        self._adam = torch.optim.Adam(self._named.values(), lr=job.rate, betas=(BETA_1, BETA_2), eps=EPSILON)
        self._x, self._y = torch.tensor(job.x), torch.tensor(job.y)

    def _forward(self, x):
        return self._head(self._lstm(x)[0][:, -1])

    def train(self, batches: list[np.ndarray]) -> float:
        total = 0.0
        for rows in map(self._torch.from_numpy, batches):
            self._adam.zero_grad()
            loss = self._torch.nn.functional.mse_loss(self._forward(self._x[rows]), self._y[rows])
            loss.backward()
            self._adam.step()
            total += loss.detach() * len(rows)
        return total.item() / sum(map(len, batches))

    def weights(self) -> np.ndarray:
        named = {name: p.detach().numpy().T for name, p in self._named.items()}
        return np.concatenate([named[block.name].ravel() for block in self._job.spec.blocks])

    def predict(self) -> np.ndarray:
        with self._torch.inference_mode():
            return self._forward(self._x[: self._job.batch]).numpy()


class Jax:
    """``lax.scan`` over the steps, the whole training step under ``jit``.

    XLA takes up to four times as long if the inputs of all steps are multiplied at once, before the scan.
    """

    name = "jax"

    def __init__(self, job: Job):
        import jax

        self._jax, self._job = jax, job
        self._layers = len(job.spec.hidden_sizes)
        weights = {name: jax.numpy.array(view) for name, view in job.spec.views(job.flat).items()}
        zeros = jax.tree.map(jax.numpy.zeros_like, weights)
        self._state = weights, zeros, jax.tree.map(jax.numpy.copy, zeros), jax.numpy.zeros((), "int32")
        self._x, self._y = jax.numpy.array(job.x), jax.numpy.array(job.y)
        self._forward_jit = jax.jit(self._forward)
        self._step_jit = jax.jit(self._step, donate_argnums=0)

    def _layer(self, w_x, w_h, b, x):  # [T,B,F] -> [T,B,H]
        jax = self._jax

        def cell(state, x):
            h, c = state
            i, f, g, o = jax.numpy.split(x @ w_x + h @ w_h + b, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jax.numpy.tanh(g)
            h = jax.nn.sigmoid(o) * jax.numpy.tanh(c)
            return (h, c), h

        zeros = jax.numpy.zeros((x.shape[1], w_h.shape[0]), x.dtype)
        return jax.lax.scan(cell, (zeros, zeros), x)[1]

    def _forward(self, weights, x):  # [B,T,F] -> [B,1]
        x = self._jax.numpy.swapaxes(x, 0, 1)
        for i in range(self._layers):
            x = self._layer(*(weights[f"layers.{i}.{part}"] for part in ("w_x", "w_h", "b")), x)
        return x[-1] @ weights["head.w"] + weights["head.b"]

    def _step(self, state, x, y, rows, rate):
        jax, (weights, m, v, n) = self._jax, state

        def mean_squared_error(weights):
            return ((self._forward(weights, x[rows]) - y[rows]) ** 2).mean()

        loss, gradient = jax.value_and_grad(mean_squared_error)(weights)
        n = n + 1
        m = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, m, gradient)
        v = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, v, gradient)
        scale_m, scale_v = 1 / (1 - BETA_1**n), 1 / (1 - BETA_2**n)

        def move(w, m, v):
            return w - rate * m * scale_m / (jax.numpy.sqrt(v * scale_v) + EPSILON)

        return (jax.tree.map(move, weights, m, v), m, v, n), loss

    def train(self, batches: list[np.ndarray]) -> float:
        total = 0.0
        for rows in batches:
            self._state, loss = self._step_jit(self._state, self._x, self._y, rows, self._job.rate)
            total += loss * len(rows)
        return float(total) / sum(map(len, batches))

    def weights(self) -> np.ndarray:
        return np.concatenate([np.asarray(self._state[0][b.name]).ravel() for b in self._job.spec.blocks])

    def predict(self) -> np.ndarray:
        return np.asarray(self._forward_jit(self._state[0], self._x[: self._job.batch]))


class Keras:
    """``Sequential`` of ``LSTM`` layers, trained by ``fit``; its backend is that of ``KERAS_BACKEND``."""

    name = "keras"

    def __init__(self, job: Job):
        import keras

        spec, self._job = job.spec, job
        last = len(spec.hidden_sizes) - 1
        layers = [keras.layers.LSTM(units, return_sequences=i < last) for i, units in enumerate(spec.hidden_sizes)]
        inputs = keras.layers.Input((spec.n_timesteps, spec.n_features))
        self._model = keras.Sequential([inputs, *layers, keras.layers.Dense(spec.n_outputs)])
        # Keras compares epsilon with a denominator before its bias correction: this makes the first steps equal.
        epsilon = EPSILON * (1 - BETA_2) ** 0.5
        self._model.compile(keras.optimizers.Adam(job.rate, BETA_1, BETA_2, epsilon), "mean_squared_error")
        self._model.set_weights(list(spec.views(job.flat).values()))

    def fit(self, rows: np.ndarray | slice, epochs: int = 1, shuffle: bool = False) -> list[float]:
        """Keras's own loop over epochs and batches; the loss of each epoch."""
        x, y, batch = self._job.x[rows], self._job.y[rows], self._job.batch
        return self._model.fit(x, y, batch, epochs, verbose=0, shuffle=shuffle).history["loss"]

    def train(self, batches: list[np.ndarray]) -> float:
        return self.fit(np.concatenate(batches))[0]

    def weights(self) -> np.ndarray:
        return np.concatenate([w.ravel() for w in self._model.get_weights()])

    def predict(self) -> np.ndarray:
        return np.asarray(self._model.predict_on_batch(self._job.x[: self._job.batch]))


PEERS = {"torch": Torch, "jax": Jax, "keras": Keras}
