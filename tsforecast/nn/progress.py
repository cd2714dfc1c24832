"""What came of the epochs so far, and whether more of them are worth it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class History:
    """What happened in one call of ``train``.

    ``n_iter`` epochs ended; ``loss_curve`` the training loss of each (before the updates of its batches, with the
    penalty); ``best_loss`` its minimum; ``validation_scores`` minus the validation loss of each epoch, higher is
    better (None without validation windows) and ``best_validation_score`` its maximum (None if no score was finite);
    ``stopped_by`` one of "max_iter", "tol", "validation", "callback".
    """

    n_iter: int = 0
    loss_curve: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    validation_scores: list[float] | None = None
    best_validation_score: float | None = None
    stopped_by: str = "max_iter"


def record(history: History, loss: float, val_score: float | None) -> None:
    """Add one epoch."""
    history.n_iter += 1
    history.loss_curve.append(loss)
    history.best_loss = min(history.best_loss, loss)
    if val_score is not None and history.validation_scores is not None:
        history.validation_scores.append(val_score)


class Progress:
    """Counts epochs in a row that brought no progress, by the rule of scikit-learn's ``MLPRegressor``."""

    def __init__(self, tol: float, patience: int):
        self.tol, self.patience = tol, patience
        self.best, self.idle = -np.inf, 0

    def is_best(self, score: float) -> bool:
        """Take the score of an epoch (higher is better); True where it is the best so far."""
        self.idle = 0 if score >= self.best + self.tol else self.idle + 1
        if score > self.best:
            self.best = score
            return True
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience is at an end."""
        return self.idle > self.patience
