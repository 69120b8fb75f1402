"""Experiments, and the epochs that keep their statistics from mixing."""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_server.core.model import Comparator

DEFAULT_DURATION = 14 * 86_400.0
LONGEST_DURATION = 30 * 86_400.0
DEFAULT_BUCKET_SECONDS = 3_600


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """One time-boxed comparison of named candidates with the live version.

    Args:
        id: made by the store.
        model: the model's name.
        candidates: names of the versions that it compares.
        percent: share of requests that each gets, in (0, 100].
        bucket_seconds: width of the rollups' time buckets.
        started_at, ends_at, stopped_at: seconds since the Unix epoch; `stopped_at` is None while it runs.
        started_by, stop_reason: who began it, why it ended.
    """

    id: int
    model: str
    candidates: tuple[str, ...]
    percent: float
    bucket_seconds: int
    started_at: float
    ends_at: float
    started_by: str
    stopped_at: float | None = None
    stop_reason: str = ""

    @property
    def running(self) -> bool:
        """Whether it still counts."""
        return self.stopped_at is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """A stretch of an experiment in which live version, candidates, comparator and threshold did not change.

    Args:
        id: made by the store.
        experiment_id, model: whose it is.
        number: counts from 1 within its experiment.
        live: the live version that captures must have been answered by.
        candidates: the versions that are compared, in order of registration.
        comparator: when two answers agree; fixed for the epoch.
        from_revision: the first flag revision that it covers; a capture belongs to the epoch with its live version and
            the largest `from_revision` that is not above the capture's revision.
        until_revision: the first revision that it no longer covers; None while it is open.
        opened_at: seconds since the Unix epoch.
        reason: why it began, in words.
        bucket_seconds: the experiment's.
    """

    id: int
    experiment_id: int
    model: str
    number: int
    live: str
    candidates: tuple[str, ...]
    comparator: Comparator
    from_revision: int
    until_revision: int | None
    opened_at: float
    reason: str
    bucket_seconds: int


def epoch_of(epochs: tuple[Epoch, ...], *, model: str, live: str, revision: int) -> Epoch | None:
    """The epoch that a capture with this decision belongs to, or None when no experiment covered it."""
    covering = (
        epoch
        for epoch in epochs
        if epoch.model == model
        and epoch.live == live
        and epoch.from_revision <= revision
        and (epoch.until_revision is None or revision < epoch.until_revision)
    )
    return max(covering, key=lambda epoch: epoch.from_revision, default=None)
