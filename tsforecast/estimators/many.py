"""Fit many small estimators at once: the networks of a chunk are trained by one compiled call a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

from tsforecast.backends.base import get_backend
from tsforecast.estimators._attempt import Attempt
from tsforecast.estimators._config import n_threads
from tsforecast.estimators.base import RecurrentRegressor
from tsforecast.exceptions import DataError, DivergedError
from tsforecast.nn.fleet import TrainJob, train_many

CHUNK, CHUNK_OF_A_GPU = 256, 4096  # estimators whose scaled data are held at a time; a GPU trains hundreds at once
NAMED = 5  # of those that failed, in messages


def fit_many(estimators, X, y, sample_weight=None, *, n_jobs=None, names=None):
    """Fit estimators side by side, each to the very bits of its own ``fit``.

    A small network leaves most of a processor idle when it is trained by itself. Here threads take whole networks, from
    the first epoch to the last. Estimators may differ in everything; those that are alike (``hidden_layer_sizes``,
    window length, loss, solver and its settings) go fastest together, whatever their data, seeds, learning rates and
    numbers of epochs. Whatever is raised, an estimator of which no epoch has ended is as it was before, fitted or not.

    Parameters
    ----------
    estimators : sequence of LSTMRegressor
        Fitted in place, with early stopping and ``warm_start`` as they have it. No estimator may stand in it twice.
    X : list of array-like, or a single array or frame
        For each estimator what its ``fit`` takes; a single one is for all of them.
    y : list of array-like, or a single array
        Targets, likewise.
    sample_weight : list of array-like or None, or a single array, default=None
        Weights, likewise.
    n_jobs : int or None, default=None
        Threads; None is 1, -1 all processors. ``n_jobs`` of the estimators is not used. Results do not depend on it.
    names : sequence of str, default=None
        Names of the estimators in error messages; None: their numbers.

    Returns
    -------
    estimators : list
        The same objects, fitted.

    Raises
    ------
    DivergedError
        Naming those whose loss became non-finite, after all the others were fitted. They keep the weights of the epoch
        before, as after their own ``fit``.
    DataError, ValueError, BackendUnavailableError
        What ``fit`` raises, with the name of the estimator as a note; those of earlier chunks are fitted.
    KeyboardInterrupt
        Within a second of Ctrl-C. What was being trained keeps its last epoch, to go on from with ``warm_start``.

    Examples
    --------
    >>> import numpy as np
    >>> from tsforecast import LSTMRegressor, fit_many, sliding_windows
    >>> series = [np.sin(np.arange(n) / 5) for n in (120, 150, 200)]
    >>> pairs = [sliding_windows(values, 24) for values in series]
    >>> models = [LSTMRegressor(8, max_iter=5, random_state=i) for i in range(3)]
    >>> models = fit_many(models, [X for X, y in pairs], [y for X, y in pairs], n_jobs=-1)
    >>> [model.n_iter_ for model in models]
    [5, 5, 5]
    """
    estimators = list(estimators)
    for estimator in estimators:
        if not isinstance(estimator, RecurrentRegressor):
            raise TypeError(f"fit_many takes the networks of tsforecast, such as LSTMRegressor, not {estimator!r}")
    n = len(estimators)
    if len({id(estimator) for estimator in estimators}) < n:
        raise ValueError("an estimator stands twice among the estimators; clone it (sklearn.base.clone)")
    labels = [f"estimator {i}" for i in range(n)] if names is None else [str(name) for name in names]
    data = [_one_each(part, n, what) for part, what in ((X, "X"), (y, "y"), (sample_weight, "sample_weight"))]
    if len(labels) != n:
        raise DataError(f"names holds {len(labels)} names for {n} estimators")

    def rows_of(x, y, w) -> Callable[[Any], TrainJob]:
        return lambda estimator: estimator._job_of_rows(x, y, w)

    rows = list(zip(*data, strict=True))
    makers, told = (rows_of(*parts) for parts in rows), ({"X": parts[0], "y": parts[1]} for parts in rows)
    failed = fit_jobs(zip(estimators, makers, labels, told, strict=True), n_jobs)
    if failed:
        shown = "; ".join(f"{name}: {error}" for name, error in failed[:NAMED])
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise DivergedError(f"{len(failed)} of {n} networks diverged, the others are fitted. {shown}{more}")
    return estimators


def _one_each(data, n: int, what: str) -> Sequence:
    """A list of n, from such a list or from what all share."""
    if not isinstance(data, (list, tuple)):
        return [data] * n
    if len(data) != n:
        raise DataError(
            f"{what} holds {len(data)} entries for {n} estimators; give one each, or a single array for all"
        )
    return data


def fit_jobs(
    work: Iterable[tuple[RecurrentRegressor, Callable[[Any], TrainJob], str, dict]], n_jobs: int | None
) -> list[tuple[str, DivergedError]]:
    """Fit estimators in chunks, so that memory is bounded by those of one chunk; those that diverged, by name.

    Parameters
    ----------
    work : iterable of (estimator, make_job, name, data)
        ``make_job(estimator)`` starts the estimator's ``fit`` and returns what is to be trained; its callbacks get
        ``data``.
    n_jobs : int or None
        Threads.
    """
    work, threads = iter(work), n_threads(n_jobs)
    failed: list[tuple[str, DivergedError]] = []
    for first in work:
        n = CHUNK_OF_A_GPU if first[0].device == "cuda" else CHUNK
        failed += _fit_chunk([first, *islice(work, n - 1)], threads)
    return failed


def _fit_chunk(chunk, n_jobs: int) -> list[tuple[str, DivergedError]]:
    """Fit the estimators of one chunk; those that diverged, by name."""
    failed = []
    jobs: dict[str, list[TrainJob]] = {}  # by device
    with ExitStack() as attempts:
        for estimator, make_job, name, data in chunk:
            attempt = attempts.enter_context(Attempt(estimator))
            try:
                estimator._validate_params()
                job = attempt.job = make_job(estimator)
                job.name = name
                if _is_watched(estimator):
                    estimator._train(job, callback_data=data)
                else:
                    jobs.setdefault(estimator.device, []).append(job)
                    attempts.callback(estimator._publish, job)
            except DivergedError as error:
                failed.append((name, error))
            except Exception as error:
                error.add_note(f"in the fit of {name}")
                raise
        for device, own in jobs.items():
            train_many(get_backend(device), own, n_jobs)
    return failed + [(job.name, job.error) for own in jobs.values() for job in own if job.error is not None]


def _is_watched(estimator: RecurrentRegressor) -> bool:
    """Whether something wants to be told of every epoch: the progress line, or a callback of scikit-learn."""
    return bool(estimator.verbose or getattr(estimator, "_skl_callbacks", None))
