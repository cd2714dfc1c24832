"""Training that has begun: it changes its estimator by whole epochs, or not at all."""

from __future__ import annotations

from typing import Any

from tsforecast.nn.fleet import TrainJob


class Attempt:
    """A context in which an estimator is trained; where nothing comes of it, the estimator stays as it was.

    Reading the rows sets widths, statistics and first weights on the estimator. What comes after may be refused (a
    device, a combination of settings), diverge or be interrupted before it has learned anything: an earlier fit is then
    worth more than its remains, and an estimator that was never fitted must not look as if it had been.

    Parameters
    ----------
    model : estimator
        What is to be trained.

    Attributes
    ----------
    job : TrainJob or None
        Set inside the context before training, whose epochs then decide; None: any error undoes everything.
    """

    def __init__(self, model: Any):
        self._model, self._before = model, dict(vars(model))
        self.job: TrainJob | None = None

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        kept = kind is None if self.job is None else self.job.history.n_iter > 0
        if not kept:
            self._model.__dict__ = self._before
