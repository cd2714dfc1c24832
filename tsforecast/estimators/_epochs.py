"""What happens around an epoch besides learning: scikit-learn's callbacks, the history, and the progress line."""

from __future__ import annotations

import sys
from typing import Any

from tsforecast.nn.fleet import TrainJob
from tsforecast.nn.progress import record


class EpochReporter:
    """Called by the trainer after each epoch as ``reporter(epoch, loss, val_score)``; True asks to stop.

    An epoch is a subtask of the fit task in the sense of ``sklearn.callback``. Without callbacks nothing is built.
    """

    def __init__(self, model, job: TrainJob, callback_data: dict):
        self._model, self._job, self._data = model, job, callback_data
        self._fit: Any = None
        self._epoch: Any = None
        context = model._init_callback_context(max_subtasks=job.most_epochs)
        if getattr(model, "_skl_callbacks", None):
            self._fit = context.call_on_fit_task_begin(estimator=model, **callback_data)
            self._begin_epoch()

    def __call__(self, epoch: int, loss: float, val_score: float | None) -> bool:
        record(self._job.history, loss, val_score)
        if self._model.verbose:
            score = "" if val_score is None else f", validation score {val_score:.6g}"
            sys.stderr.write(f"epoch {epoch + 1}: loss {loss:.6g}{score}\n")
        if self._fit is None:
            return False
        stop = self._end(self._epoch)
        self._epoch = None
        if not stop and self._job.history.n_iter < self._job.most_epochs:
            self._begin_epoch()
        return stop

    def close(self) -> None:
        """End the tasks that are still open, among them an epoch that training chose not to run."""
        if self._fit is None:
            return
        if self._epoch is not None:
            self._epoch.call_on_fit_task_end(estimator=self._model)
        self._end(self._fit)

    def _begin_epoch(self) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(estimator=self._model, **self._data)

    def _end(self, context) -> bool:
        return bool(
            context.call_on_fit_task_end(
                estimator=self._model,
                reconstruction_attributes=lambda: {"_params": self._job.state.params.copy()},
                **self._data,
            )
        )
