"""The training loop: epochs, learning rates, row order and when to stop. It sees a backend, never how it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tsforecast.backends.base import Backend, StepRule, TrainState, Windows
from tsforecast.backends.reference.shuffle import epoch_order
from tsforecast.exceptions import DivergedError
from tsforecast.nn.progress import History, Progress, record
from tsforecast.nn.schedules import learning_rates
from tsforecast.nn.teaching import forced_targets
from tsforecast.spec import NetworkSpec


@dataclass(frozen=True)
class TrainConfig:
    """How to train; names and meanings are those of ``LSTMRegressor``, already checked.

    Parameters
    ----------
    rule : StepRule
        Loss and optimiser.
    learning_rate_init, learning_rate, lr_gamma, lr_step_size
        See ``schedules.learning_rates``.
    batch_size : int
        Rows a batch; the last batch of an epoch may be smaller.
    max_iter : int
        Most epochs of one call, and epochs of one period of the cosine schedule.
    shuffle : bool
        Visit the rows in a new random order every epoch; else in their own.
    tol : float
        Progress that counts as progress, in units of the loss.
    n_iter_no_change : int
        Epochs in a row without progress that are put up with; one more ends training.
    n_jobs : int
        Threads; changes no bit of the result.
    teacher_forcing : tuple of float
        See ``teaching.probability``; for networks with a decoder.
    """

    rule: StepRule
    learning_rate_init: float = 1e-3
    learning_rate: str = "constant"
    lr_gamma: float = 0.95
    lr_step_size: int = 30
    batch_size: int = 32
    max_iter: int = 200
    shuffle: bool = True
    tol: float = 1e-4
    n_iter_no_change: int = 10
    n_jobs: int = 1
    teacher_forcing: tuple[float, float] = (0.0, 0.0)


def train(
    backend: Backend,
    spec: NetworkSpec,
    config: TrainConfig,
    state: TrainState,
    windows: Windows,
    *,
    val: Windows | None = None,
    seed: int = 0,
    first_epoch: int = 0,
    n_epochs: int | None = None,
    on_epoch: Callable[[int, float, float | None], object] | None = None,
) -> History:
    """Train ``state`` in place.

    Without ``val``, training ends early when the training loss has not come down by ``tol`` below the best one for
    more than ``n_iter_no_change`` epochs. With ``val``, the same rule watches the loss on ``val``, and the weights of
    the epoch that was best there are the ones kept, however training ended.

    Parameters
    ----------
    backend : Backend
        From ``get_backend``.
    spec : NetworkSpec
        The network.
    config : TrainConfig
        How to train.
    state : TrainState
        Weights and the optimiser's memory; continued from where they are.
    windows : Windows
        Training windows.
    val : Windows or None
        Validation windows.
    seed : int
        Of the row orders.
    first_epoch : int
        Epochs that earlier calls have ended: row orders and learning rates go on from there.
    n_epochs : int or None
        Most epochs of this call; None for ``config.max_iter``.
    on_epoch : callable or None
        Called after each epoch with the epoch (from ``first_epoch``), its training loss and its validation score
        (None without ``val``); a true result ends training.

    Returns
    -------
    History

    Raises
    ------
    DivergedError
        A loss or a weight is not finite; ``state`` is that of the last epoch before.
    KeyboardInterrupt
        On Ctrl-C; ``state`` is that of the last epoch before.
    """
    history = History(validation_scores=None if val is None else [])
    progress = Progress(config.tol, config.n_iter_no_change)
    best_params = state.params.copy()
    for epoch in range(first_epoch, first_epoch + (config.max_iter if n_epochs is None else n_epochs)):
        loss, val_score = _whole_epoch(backend, spec, config, state, windows, val, seed, epoch)
        record(history, loss, val_score)
        if progress.is_best(-loss if val_score is None else val_score) and val is not None:
            history.best_validation_score = val_score
            best_params[:] = state.params
        if on_epoch is not None and on_epoch(epoch, loss, val_score):
            history.stopped_by = "callback"
            break
        if progress.exhausted:
            history.stopped_by = "tol" if val is None else "validation"
            break
    if history.best_validation_score is not None:
        state.params[:] = best_params
    return history


def _whole_epoch(
    backend: Backend,
    spec: NetworkSpec,
    config: TrainConfig,
    state: TrainState,
    windows: Windows,
    val: Windows | None,
    seed: int,
    epoch: int,
) -> tuple[float, float | None]:
    """Train one epoch and return its loss and validation score; if anything cuts it short, put ``state`` back."""
    n_rows = len(windows)
    n_batches = -(-n_rows // config.batch_size)
    if config.shuffle:
        order = epoch_order(n_rows, seed, epoch)
    else:
        order = stretch_order(n_rows, config.batch_size) if spec.stateful else np.arange(n_rows, dtype=np.int64)
    rates = learning_rates(
        config.learning_rate,
        config.learning_rate_init,
        epoch,
        n_batches,
        config.max_iter,
        config.lr_gamma,
        config.lr_step_size,
    )
    if spec.decoder != "dense":
        forced = forced_targets(n_rows, spec.n_outputs, config.teacher_forcing, seed, epoch, config.max_iter)
        windows = replace(windows, forced=forced)
    params, m, v, step = state.params.copy(), state.m.copy(), state.v.copy(), state.step
    try:
        loss = backend.train_epoch(spec, config.rule, state, windows, order, config.batch_size, rates, config.n_jobs)
        if not (np.isfinite(loss) and _is_finite(state)):
            raise weights_diverged(loss)
        if val is None:
            return float(loss), None
        return float(loss), -float(backend.evaluate(spec, config.rule, state.params, val, config.n_jobs))
    except BaseException as error:
        state.params[:], state.m[:], state.v[:], state.step = params, m, v, step
        if not isinstance(error, DivergedError):
            raise
        raise divergence(epoch, error) from error


def stretch_order(n_rows: int, batch_size: int) -> np.ndarray:
    """Order of rows in which a stateful network learns: each place of a batch goes through a stretch of its own.

    The rows are cut into ``batch_size`` stretches, the first ones a row longer where they do not come out even; batch j
    holds row j of every stretch. ``[n_rows]`` int64.
    """
    longest = -(-n_rows // batch_size)
    lengths = np.full(batch_size, n_rows // batch_size)
    lengths[: n_rows % batch_size] += 1
    step = np.arange(longest)[:, None]
    return (np.cumsum(lengths) - lengths + step)[step < lengths]


def weights_diverged(loss: float) -> DivergedError:
    """The reason where no loss of an epoch was infinite, but what it left is."""
    return DivergedError(f"the training loss is {loss}, but a weight or the optimiser's memory is not finite")


def divergence(epoch: int, reason: DivergedError) -> DivergedError:
    """What a user is told when ``epoch`` (from 0) diverged."""
    return DivergedError(
        f"training diverged in epoch {epoch + 1} ({reason}); the weights of the epoch before are kept. Lower "
        "learning_rate_init, set max_grad_norm, or look for extreme values in the data."
    )


def _is_finite(state: TrainState) -> bool:
    return all(bool(np.isfinite(a).all()) for a in (state.params, state.m, state.v))
