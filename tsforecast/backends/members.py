"""One of many networks that are trained at once: what ``nn.fleet`` hands to a backend that can do so."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tsforecast.backends.base import TrainState, Windows


@dataclass
class Member:
    """A network, its data and its training; the last fields say what came of it.

    Parameters
    ----------
    state : TrainState
        Changed in place.
    windows : Windows
        Training windows.
    val : Windows or None
        Validation windows: they decide when to stop, and the weights that did best on them are kept.
    batch_size : int
        At most ``len(windows)``.
    learning_rate : float
        Multiplied by ``factors``.
    factors : ndarray of shape (epochs, batches), float64
        Of the learning rate; as many epochs as are run at most.
    seed : int or None
        Of the row orders; None visits the rows in their own order.
    first_epoch : int
        Number of the first epoch, for the row orders.
    tol : float
        See ``nn.trainer.TrainConfig``, also for ``patience``.
    patience : int
        Epochs without progress that are put up with.
    losses, scores : list of float
        Out: training loss and, with ``val``, minus the validation loss of every epoch.
    outcome : str
        Out: how training ended: "done" after all epochs; "exhausted", no progress; "diverged", the loss was not finite;
        "not finite", a weight was not; "stopped" by Ctrl-C; "waiting", it never began.
    failed_step : int
        Out: the step whose loss was not finite.
    failed_loss : float
        Out: the loss of the epoch that left a weight that is not finite.
    """

    state: TrainState
    windows: Windows
    val: Windows | None
    batch_size: int
    learning_rate: float
    factors: np.ndarray
    seed: int | None
    first_epoch: int
    tol: float
    patience: int
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    outcome: str = "waiting"
    failed_step: int = 0
    failed_loss: float = np.nan


def one_buffer(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Put buffers one after the other and move the starts along; one that all share stays as it is."""
    buffers, starts = zip(*parts, strict=True)
    if all(buffer is buffers[0] for buffer in buffers):
        return buffers[0], np.concatenate(starts)
    offsets = np.cumsum([0, *(len(buffer) for buffer in buffers[:-1])])
    return np.concatenate(buffers), np.concatenate([s + offset for s, offset in zip(starts, offsets, strict=True)])
