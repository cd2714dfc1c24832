"""The CUDA backend: keeps arrays on the device, launches kernels, and lets Python in between launches.

One launch runs many batches (see ``epoch``), for a fraction of a second, so that Ctrl-C is heard and no
display driver's watchdog bites. Sums are taken in a fixed order, so that the same call gives the same bits on the same
kind of device; the bits are not those of the CPU, and how many blocks share a batch depends on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from tsforecast.backends.base import (
    StepRule,
    TrainState,
    Windows,
    check_plain,
    check_starts,
    gradient_steps,
    loss_diverged,
)
from tsforecast.backends.cuda.launches import launch, row_tiles
from tsforecast.backends.cuda.memory import DeviceWindows, Store, frames_of
from tsforecast.backends.cuda.noise import step_keys, words
from tsforecast.backends.cuda.optimizers import rule_codes, rule_scalars, schedule
from tsforecast.backends.cuda.plan import (
    GRADIENT,
    INFERENCE,
    ROWS,
    TRAINING,
    WIDEST_OF_A_BLOCK,
    Plan,
    is_wide,
    padded_size,
)
from tsforecast.backends.cuda.setup import check_float32, plan_for, set_up
from tsforecast.backends.members import Member
from tsforecast.exceptions import BackendUnavailableError
from tsforecast.spec import NetworkSpec


class CudaBackend:
    """Numba CUDA implementation of ``tsforecast.backends.base.Backend``; see there for shapes and meanings.

    All arithmetic is in float32; parameters must be, too. ``n_jobs`` changes nothing. The arrays of a ``Windows``
    object are copied to the device when it is first met, and must not change as long as it lives.

    Parameters
    ----------
    n_processors : int or None
        Blocks that may share one model's batch; None for one on each multiprocessor of the device.
    """

    name = "cuda"

    def __init__(self, n_processors: int | None = None):
        self._n_processors = n_processors
        self._store = Store()

    @property
    def n_processors(self) -> int:
        """Multiprocessors that are used."""
        if self._n_processors is None:
            self._n_processors = int(cuda.get_current_device().MULTIPROCESSOR_COUNT)
        return self._n_processors

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
        """Visit every row once, in ``order``, one optimiser step a batch; see ``Backend.train_epoch``.

        Raises
        ------
        DivergedError
            The loss or the gradient of a batch is not finite; ``state`` stays as the batch before left it.
        BackendUnavailableError
            There are no kernels for this network or dtype, or too little memory; ``state`` is as it was.
        """
        batch_size = min(batch_size, len(order))
        n_params = spec.n_params
        plan = plan_for(spec, state.params.dtype, TRAINING, batch_size)
        data, table, frames = self._data(spec, plan, windows)
        first_rows = np.arange(0, len(order), batch_size)
        weight_sums = np.add.reduceat(windows.weights[order].astype(np.float64), first_rows)
        batch_rows = np.stack([first_rows, np.diff(first_rows, append=len(order))], axis=1).astype(np.int32)
        fixed = (
            table, self._store.upload("is_weight", plan.is_weight), *data, frames,
            self._store.upload("order", order.astype(np.int32)),
        )  # fmt: skip
        steps = state.step + np.cumsum(weight_sums != 0.0)
        scalars = schedule(rule, weight_sums, learning_rates, steps)
        keys = step_keys(words([state.seed]), steps)
        device_state = [self._store.upload(n, a) for n, a in (("w", state.params), ("m", state.m), ("v", state.v))]
        losses = self._store.room("losses", len(scalars))
        done = self._store.room("done", 1, np.int32)
        setup = set_up(self._store, spec, plan, TRAINING, batch_size, self.n_processors, n_params)
        n_done, n_at_once = 0, setup.batches_at_once(batch_size)
        for first in range(0, len(scalars), n_at_once):
            some = slice(first, first + n_at_once)
            n_batches = len(scalars[some])
            launch(
                setup.train(), setup.n_blocks, setup.threads, *fixed,
                self._store.upload("batch_rows", batch_rows[some]), self._store.upload("scalars", scalars[some]),
                self._store.upload("keys", keys[some]),
                self._store.upload("begins", np.zeros(1, np.int32)),
                self._store.upload("ends", np.full(1, n_batches, np.int32)),
                *self._rule(rule, spec), *device_state, setup.gradients, *setup.buffers, losses[first:], done,
            )  # fmt: skip
            n_done += int(done.copy_to_host()[0])
            if n_done < first + n_batches:
                break
        for array, on_device in zip((state.params, state.m, state.v), device_state, strict=True):
            array[:] = on_device.copy_to_host()
        takes_step = weight_sums != 0.0
        state.step += int(takes_step[:n_done].sum())
        if n_done < len(scalars):
            raise loss_diverged(state.step + 1)
        loss = losses.copy_to_host()[: len(scalars)].astype(np.float64)
        return float((loss[takes_step] * weight_sums[takes_step]).sum() / weight_sums.sum())

    def train_fleet(self, spec: NetworkSpec, rule: StepRule, members: Sequence[Member], n_jobs: int) -> None:  # noqa: ARG002
        """Train many networks of one kind, each by one block of threads; see ``fleet.train_fleet``."""
        from tsforecast.backends.cuda.fleet import train_fleet

        for member in members:
            check_float32(member.state.params.dtype)
        if is_wide(padded_size(spec)):
            raise BackendUnavailableError(
                f"device='cuda' trains networks side by side whose layers have up to {WIDEST_OF_A_BLOCK} units; "
                "fit wider ones one by one, or use device='cpu'"
            )
        train_fleet(spec, rule, members, self.n_processors, self._rule(rule, spec))

    def evaluate(
        self,
        spec: NetworkSpec,
        rule: StepRule,
        params: NDArray,
        windows: Windows,
        n_jobs: int,  # noqa: ARG002
    ) -> float:
        """Weighted mean loss over all windows, without penalty and without learning."""
        spec = spec.without_dropout
        plan = plan_for(spec, params.dtype, INFERENCE, len(windows))
        data, table, frames = self._data(spec, plan, windows)
        losses = self._store.room("tile_losses", -(-len(windows) // ROWS))
        n_tiles = self._infer(
            spec, plan, len(windows), (table, *data, frames), self._rule(rule, spec), params, losses,
            self._store.room("no_forecasts", 1), with_losses=True,
        )  # fmt: skip
        return math.fsum(losses.copy_to_host()[:n_tiles]) / math.fsum(windows.weights.astype(np.float64))

    def predict(
        self,
        spec: NetworkSpec,
        params: NDArray,
        values: NDArray,
        x_starts: NDArray[np.int64],
        n_jobs: int,  # noqa: ARG002
    ) -> NDArray:
        """Forecasts ``[N,K*Q]`` in the units of feature 0."""
        spec, n, put = spec.without_dropout, len(x_starts), self._store.upload
        check_starts(values, x_starts, spec.n_timesteps * spec.n_features)
        if n == 0:
            return np.empty((0, spec.head_size), dtype=params.dtype)
        plan = plan_for(spec, params.dtype, INFERENCE, n)
        on_device, starts = put("values", values.astype(np.float32, copy=False)), put("x_starts", x_starts)
        table = put("table", plan.table)
        frames = frames_of(spec, table, on_device, starts, n)
        forecasts = self._store.room("forecasts", n * spec.head_size)
        self._infer(
            spec, plan, n, (table, on_device, starts, on_device, starts, 1, on_device, frames),
            self._rule(StepRule(quantiles=(0.5,) * spec.n_quantiles), spec), params,
            self._store.room("no_losses", 1), forecasts, with_losses=False,
        )  # fmt: skip
        return forecasts.copy_to_host()[: n * spec.head_size].reshape(n, spec.head_size)

    def gradient(
        self, spec: NetworkSpec, params: NDArray, x: NDArray, cotangent: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return outputs ``[N,K*Q]``, ``dparams [P]`` and ``dx [N,T,F]`` of ``sum(outputs * cotangent)``."""
        check_plain(spec)
        spec = spec.without_dropout
        n, put, n_params = len(x), self._store.upload, spec.n_params
        plan = plan_for(spec, params.dtype, GRADIENT, n)
        values, table = put("values", x.astype(np.float32, copy=False)), put("table", plan.table)
        x_starts = put("x_starts", np.arange(n, dtype=np.int64) * (spec.n_timesteps * spec.n_features))
        outputs, dx = self._store.room("outputs", n * spec.head_size), self._store.room("dx", x.size)
        setup = set_up(self._store, spec, plan, GRADIENT, n, self.n_processors, n_params)
        fixed = (
            table, values, x_starts, frames_of(spec, table, values, x_starts, n),
            put("rows", np.arange(n, dtype=np.int32)), put("w", params), setup.work, plan.n_work,
            put("cotangent", cotangent.astype(np.float32, copy=False)), outputs, setup.gradients, dx,
        )  # fmt: skip
        if setup.is_wide:
            launch(setup.differentiate(), setup.n_blocks, setup.threads, *fixed)
        else:
            for tile in range(0, -(-n // ROWS), setup.n_tiles):
                launch(setup.differentiate(), setup.n_tiles, setup.threads, *fixed, tile)
        n_parts = 1 if setup.is_wide else setup.n_tiles
        parts = setup.gradients.copy_to_host()[: n_parts * n_params].reshape(n_parts, -1)
        dx_host = dx.copy_to_host()[: x.size].reshape(x.shape)
        if spec.linear_skip:
            dx_host = dx_host + (cotangent @ spec.views(params)["skip.w"].T).reshape(x.shape)
        out = outputs.copy_to_host()[: n * spec.head_size].reshape(n, -1)
        return out, parts.sum(axis=0, dtype=np.float64).astype(np.float32), dx_host

    def _infer(
        self, spec: NetworkSpec, plan: Plan, n: int, data, rule, params, losses, forecasts, *, with_losses: bool
    ) -> int:
        """Launch ``infer`` for ``n`` windows, some at a time; return how many tiles they are."""
        on_device, rows = self._store.upload("w", params), self._store.upload("rows", np.arange(n, dtype=np.int32))
        setup = set_up(self._store, spec, plan, INFERENCE, n, self.n_processors, 0)
        more = (setup.totals,) if setup.is_wide else ()
        tiles, n_at_once = row_tiles(np.array([0, n]), setup.tile_rows), setup.tiles_at_once()
        for first in range(0, len(tiles), n_at_once):
            launch(
                setup.infer(), setup.n_blocks, setup.threads,
                *data, rows, self._store.upload("tiles", tiles[first : first + n_at_once]), *rule, on_device,
                setup.work, plan.n_work, int(with_losses), losses[first:] if with_losses else losses, forecasts,
                *more,
            )  # fmt: skip
            if first + n_at_once < len(tiles):
                cuda.synchronize()
        return len(tiles)

    def _data(self, spec: NetworkSpec, plan: Plan, windows: Windows) -> tuple[DeviceWindows, object, object]:
        """Windows, table and frames on the device."""
        check_float32(windows.values.dtype)
        check_starts(windows.values, windows.x_starts, spec.n_timesteps * spec.n_features)
        check_starts(windows.targets, windows.y_starts, (spec.n_outputs - 1) * windows.y_stride + 1)
        data, derived = self._store.windows(windows)
        table = self._store.upload("table", plan.table)
        key = spec.window_norm, spec.n_timesteps, spec.n_features, spec.season_length
        if key not in derived:
            derived[key] = frames_of(spec, table, data.values, data.x_starts, len(windows))
        return data, table, derived[key]

    def _rule(self, rule: StepRule, spec: NetworkSpec) -> tuple:
        """Codes, scalars and quantiles on the device."""
        if len(rule.quantiles) != spec.n_quantiles:
            raise ValueError(f"the rule has {len(rule.quantiles)} quantiles, the network {spec.n_quantiles}")
        if gradient_steps(spec, rule) < spec.n_timesteps:
            raise BackendUnavailableError(
                f"device='cuda' takes gradients through whole windows, not through {rule.bptt_steps} steps of them; "
                "use device='cpu' or bptt_steps=None"
            )
        arrays = rule_codes(rule), rule_scalars(rule), np.array(rule.quantiles, dtype=np.float32)
        return tuple(
            self._store.upload(name, a) for name, a in zip(("codes", "rule", "quantiles"), arrays, strict=True)
        )
