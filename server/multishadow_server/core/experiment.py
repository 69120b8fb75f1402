"""Experiments, and the epochs that keep their statistics from mixing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core import windows as hours
from multishadow_server.core.model import Comparator, Model
from multishadow_server.core.schedule import NO_SCHEDULE, Progress, Schedule
from multishadow_server.core.windows import Window
from multishadow_server.errors import InvalidInput

DEFAULT_DURATION = 14 * 86_400.0
LONGEST_DURATION = 30 * 86_400.0
DEFAULT_BUCKET_SECONDS = 3_600
LONGEST_BUCKET_SECONDS = 86_400
# Thirty days of minutes.
MOST_BUCKETS = 43_200
MOST_CANDIDATES = 10


class RankBy(StrEnum):
    """What candidates are ranked by; declared when an experiment starts."""

    AGREEMENT = "agreement"
    LABELS = "labels"


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
        noise_percent: share of requests that the live version gets a second time, to measure how often it differs from
            itself.
        rank_by: what the candidates are ranked by.
        schedule: the steps by which candidates come to their share, and the hours in which they are called.
        progress: how far it has come; None: it has its whole share, as experiments without a schedule do.
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
    noise_percent: float = 0.0
    rank_by: RankBy = RankBy.AGREEMENT
    schedule: Schedule = NO_SCHEDULE
    progress: Progress | None = None

    @property
    def running(self) -> bool:
        """Whether it still counts."""
        return self.stopped_at is None

    @property
    def present_percent(self) -> float:
        """Share of requests that each candidate gets now; 0 while no window is open."""
        return self.percent if self.progress is None else self.progress.percent


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
        noise_percent: the experiment's.
        windows: the experiment's.
        ends_at: end of the experiment's time box, seconds since the Unix epoch.
        closed_at: when it was closed, likewise; inf while it is open.
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
    noise_percent: float = 0.0
    windows: tuple[Window, ...] = ()
    ends_at: float = math.inf
    closed_at: float = math.inf

    def collects_at(self, received_at: float) -> bool:
        """Whether a request that was received then is part of it, in seconds since the Unix epoch.

        Flags say the same; but they are written by control, which may be away when a window closes or the time box
        ends, and by hand.
        """
        return received_at < self.ends_at and hours.open_at(self.windows, received_at)

    def bucket_start(self, received_at: float) -> int:
        """Start of the time bucket, both in seconds since the Unix epoch."""
        return int(received_at // self.bucket_seconds) * self.bucket_seconds


def collected_for(epoch: Epoch, buckets: Iterable[int], *, until: float) -> float:
    """How long an epoch has collected, in seconds: since its first capture, and not since somebody was ready for one.

    Args:
        epoch: it.
        buckets: starts of its time buckets in which anything was counted.
        until: the end of the experiment, or now; seconds since the Unix epoch.
    """
    began = min(buckets, default=until)
    return max(0.0, until - max(began, epoch.opened_at))


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


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochPlan:
    """What an open epoch is to cover: captures that `live` answered, compared with `candidates` by `comparator`."""

    live: str
    candidates: tuple[str, ...]
    comparator: Comparator


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTurn:
    """What one change means for an experiment's epochs: those that end, and those that begin."""

    closing: tuple[Epoch, ...]
    opening: tuple[EpochPlan, ...]


def plan_epochs(experiment: Experiment, model: Model, serving: Collection[str]) -> tuple[EpochPlan, ...]:
    """The epochs that must be open: one for each version that may serve, as captures come with any of them live.

    Args:
        experiment: the running one.
        model: as it is now.
        serving: names of the versions that some request may be answered by.

    Returns:
        In order of registration. Everybody else who serves is a candidate too, because losing live claims shadow; where
        that leaves nobody to compare there is no epoch.
    """
    compared = {*experiment.candidates, *serving}
    plans = (
        EpochPlan(
            live=live.name,
            candidates=tuple(each.name for each in model.versions if each.name in compared and each is not live),
            comparator=model.comparator,
        )
        for live in model.versions
        if live.name in serving
    )
    return tuple(plan for plan in plans if plan.candidates)


def turn_epochs(
    open_epochs: Sequence[Epoch], plans: Sequence[EpochPlan], *, replaced: Collection[str] = ()
) -> EpochTurn:
    """End what no longer holds and begin what is not there yet.

    Args:
        open_epochs: the experiment's open epochs.
        plans: what must be open.
        replaced: versions behind whose name another implementation answers now; their statistics do not go on.
    """
    wanted = set(plans)
    kept = {
        _plan_of(epoch): epoch
        for epoch in open_epochs
        if _plan_of(epoch) in wanted and not {epoch.live, *epoch.candidates} & set(replaced)
    }
    return EpochTurn(
        closing=tuple(epoch for epoch in open_epochs if kept.get(_plan_of(epoch)) is not epoch),
        opening=tuple(plan for plan in plans if plan not in kept),
    )


def _plan_of(epoch: Epoch) -> EpochPlan:
    return EpochPlan(live=epoch.live, candidates=epoch.candidates, comparator=epoch.comparator)


def present_epoch(epochs: Sequence[Epoch], live: str) -> Epoch | None:
    """The epoch that a report is about: of those that cover the newest revision, the one of the version that is live.

    When none is open (the experiment has ended), the last ones that were; when none of them is the live version's, the
    youngest.
    """
    newest = max((_end(epoch) for epoch in epochs), default=0)
    current = [epoch for epoch in epochs if _end(epoch) == newest]
    return max(current, key=lambda epoch: (epoch.live == live, epoch.number), default=None)


def _end(epoch: Epoch) -> float:
    return math.inf if epoch.until_revision is None else epoch.until_revision


def check_terms(*, duration: float, bucket_seconds: int, percent: float = 100.0, noise_percent: float = 0.0) -> None:
    """Refuse a time box, a bucket width or a noise floor's share out of range.

    Args:
        duration: seconds.
        bucket_seconds: width of the rollups' buckets.
        percent: share of requests that the candidates get.
        noise_percent: share that the live version gets a second time: of those requests, since no others are captured.

    Raises:
        InvalidInput: which, and what is allowed.
    """
    if not 1 <= duration <= LONGEST_DURATION:
        raise InvalidInput(
            f"duration_seconds: {duration:g} is out of range; an experiment lasts from 1 second to 30 days "
            f"({LONGEST_DURATION:.0f} seconds)"
        )
    if not 1 <= bucket_seconds <= LONGEST_BUCKET_SECONDS:
        raise InvalidInput(
            f"bucket_seconds: {bucket_seconds} is out of range; allowed are 1 to {LONGEST_BUCKET_SECONDS}"
        )
    if duration > MOST_BUCKETS * bucket_seconds:
        raise InvalidInput(
            f"bucket_seconds: {bucket_seconds} makes {duration / bucket_seconds:,.0f} time buckets of "
            f"{in_words(duration)}, and every report reads them all; at most {MOST_BUCKETS:,} are allowed: take "
            f"buckets of {math.ceil(duration / MOST_BUCKETS)} seconds or more, or a shorter time box"
        )
    if not 0 <= noise_percent <= percent:
        raise InvalidInput(
            f"noise_floor_percent: {noise_percent:g} is out of range; allowed are 0 to {percent:g}, the candidates' "
            "share: requests that no candidate gets are not captured"
        )


def in_words(duration: float) -> str:
    """A time box in its largest whole unit: "14 d", "36 h", "90 s"."""
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if duration >= seconds and duration % seconds == 0:
            return f"{duration / seconds:.0f} {unit}"
    return f"{duration:g} s"


def about(duration: float) -> str:
    """A time in the largest unit of which it has two, rounded: "20 h" of 71,282 s, "2 min" of 130 s."""
    unit = next((seconds for seconds in (86_400, 3_600, 60) if duration >= 2 * seconds), 1)
    return in_words(round(duration / unit) * unit)
