"""The training loop for many networks at once, where the backend can run it inside one compiled call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from tsforecast.backends.base import Backend, TrainState, Windows, loss_diverged
from tsforecast.backends.members import Member
from tsforecast.exceptions import DivergedError
from tsforecast.nn.progress import History, record
from tsforecast.nn.schedules import learning_rates
from tsforecast.nn.trainer import TrainConfig, divergence, train, weights_diverged
from tsforecast.spec import NetworkSpec


@dataclass
class TrainJob:
    """The arguments of one call of ``trainer.train``, and what came of it.

    Parameters
    ----------
    spec, config, state, windows, val, seed, first_epoch, n_epochs
        See ``trainer.train``; ``config.n_jobs`` means nothing to ``train_many``.
    name : str
        Whose job it is, in notes on errors.
    history : History
        Out: the epochs that ended, also before an error or an interrupt.
    error : DivergedError or None
        Out: why training failed.
    """

    spec: NetworkSpec
    config: TrainConfig
    state: TrainState
    windows: Windows
    val: Windows | None = None
    seed: int = 0
    first_epoch: int = 0
    n_epochs: int | None = None
    name: str = "a network"
    history: History = field(default_factory=History)
    error: DivergedError | None = None

    def __post_init__(self) -> None:
        if self.val is not None and self.history.validation_scores is None:
            self.history.validation_scores = []

    @property
    def most_epochs(self) -> int:
        """Epochs of this call, unless training ends early."""
        return self.config.max_iter if self.n_epochs is None else self.n_epochs


def train_many(backend: Backend, jobs: Sequence[TrainJob], n_jobs: int) -> None:
    """Train all jobs, each to the very bits of ``trainer.train``, on ``n_jobs`` threads.

    A job that diverges keeps the state of its last good epoch and its error; the others do not notice.

    Parameters
    ----------
    backend : Backend
        One with ``train_fleet`` trains networks of one kind by one compiled call a thread; any other one by one.
    jobs : sequence of TrainJob
        Changed in place. Networks, rules, dtypes and lengths may differ; no two share a state.
    n_jobs : int
        Threads; changes no bit.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C; jobs that had begun are as their last epoch left them, with its history.
    """
    factors: dict[tuple, np.ndarray] = {}
    for group in _groups(jobs):
        spec = group[0].spec
        train_fleet = getattr(backend, "train_fleet", None)
        if train_fleet is None or spec.decoder != "dense" or spec.stateful:  # a decoder's targets are drawn by epochs
            for job in group:
                _train_alone(backend, job, n_jobs)
            continue
        members = [_member(job, factors) for job in group]
        try:
            with _told([job.name for job in group]):
                train_fleet(spec, group[0].config.rule, members, n_jobs)
        finally:
            for job, member in zip(group, members, strict=True):
                _conclude(job, member)


@contextmanager
def _told(names: list[str]) -> Iterator[None]:
    """Note on an error whose training it ended."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the fit of {names[0]}" + (f" and {len(names) - 1} like it" if len(names) > 1 else ""))
        raise


def _groups(jobs: Sequence[TrainJob]) -> list[list[TrainJob]]:
    """Jobs that one compiled call can take: the same network, rule and dtype, and targets equally far apart."""
    groups: dict[tuple, list[TrainJob]] = {}
    for job in jobs:
        stride = 0 if job.val is None else job.val.y_stride
        key = job.spec, job.config.rule, job.state.params.dtype, job.windows.y_stride, stride
        groups.setdefault(key, []).append(job)
    return list(groups.values())


def _member(job: TrainJob, cache: dict[tuple, np.ndarray]) -> Member:
    config, n_rows = job.config, len(job.windows)
    batch_size = min(config.batch_size, n_rows)
    return Member(
        state=job.state,
        windows=job.windows,
        val=job.val,
        batch_size=batch_size,
        learning_rate=config.learning_rate_init,
        factors=_factors(job, -(-n_rows // batch_size), cache),
        seed=job.seed if config.shuffle else None,
        first_epoch=job.first_epoch,
        tol=config.tol,
        patience=config.n_iter_no_change,
    )


def _factors(job: TrainJob, n_batches: int, cache: dict[tuple, np.ndarray]) -> np.ndarray:
    """Learning rates of all epochs for a first rate of 1, ``[epochs, batches]``; equal ones are one array."""
    c = job.config
    key = c.learning_rate, n_batches, c.max_iter, c.lr_gamma, c.lr_step_size, job.first_epoch, job.most_epochs
    if key not in cache:
        cache[key] = np.array(
            [
                learning_rates(c.learning_rate, 1.0, epoch, n_batches, c.max_iter, c.lr_gamma, c.lr_step_size)
                for epoch in range(job.first_epoch, job.first_epoch + job.most_epochs)
            ]
        )
    return cache[key]


def _conclude(job: TrainJob, member: Member) -> None:
    """Write what came of a member into its job."""
    losses, scores = member.losses, member.scores
    job.history = history = History(n_iter=len(losses), loss_curve=losses, best_loss=min(losses, default=np.inf))
    if job.val is not None:
        history.validation_scores = scores
        best = max((score for score in scores if score > -np.inf), default=None)
        history.best_validation_score = best
    if member.outcome == "exhausted":
        history.stopped_by = "tol" if job.val is None else "validation"
    epoch = job.first_epoch + len(losses)
    if member.outcome == "diverged":
        job.error = divergence(epoch, loss_diverged(member.failed_step))
    if member.outcome == "not finite":
        job.error = divergence(epoch, weights_diverged(member.failed_loss))


def _train_alone(backend: Backend, job: TrainJob, n_jobs: int) -> None:
    """Train one job by the ordinary loop."""
    history = job.history
    with _told([job.name]):
        try:
            job.history = train(
                backend, job.spec, replace(job.config, n_jobs=n_jobs), job.state, job.windows, val=job.val,
                seed=job.seed, first_epoch=job.first_epoch, n_epochs=job.n_epochs,
                on_epoch=lambda _, *scores: record(history, *scores),
            )  # fmt: skip
        except DivergedError as error:
            job.error = error
