"""Where rollouts are, and what is counted of the versions that they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.rollout import Rollout, Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRollout:
    """A rollout that begins with the change that records it."""

    model: str
    version: str
    previous: str
    address: str
    terms: Terms
    plan: str
    reason: str
    baseline: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutEvent:
    """One thing that happened to a rollout.

    Args:
        at: seconds since the Unix epoch.
        actor: who did it; control, when it went on by itself.
        move: see `rollout.Move`.
        percent: the share of requests afterwards; 0 when everything went back to the base.
        revision: of the flags afterwards.
        why: in words.
        findings: the guardrails that it was decided by, as JSON.
    """

    at: float
    actor: str
    move: str
    percent: float
    revision: int
    why: str
    findings: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCounts:
    """Live requests of each version of a model, by revision: of the stage, and of the stages before."""

    stage: Mapping[str, LiveCounts]
    before: Mapping[str, LiveCounts]


class RolloutRecords(Protocol):
    """The rollouts within one change: what is written here commits with the flags, or not at all."""

    async def running(self, model: str) -> Rollout | None:
        """The model's rollout that goes on, running or paused."""
        ...

    async def start(self, new: NewRollout) -> Rollout:
        """Record a rollout whose first stage this change enters. Raises Conflict: one goes on already."""
        ...

    async def move(self, before: Rollout, after: Rollout) -> None:
        """Put `after` in its place. Raises Conflict: `before` is not how it stands any more."""
        ...

    async def note(self, rollout: Rollout, event: RolloutEvent) -> None:
        """Add to its history."""
        ...


class RolloutStore(Protocol):
    """Where rollouts are read."""

    async def now(self) -> float:
        """The database's time, by which stages are entered; seconds since the Unix epoch. Raises StoreUnavailable."""
        ...

    async def rollouts(self, model: str = "", *, running: bool = False) -> Sequence[Rollout]:
        """Of one model, or of all, newest first; `running`: only those that go on. Raises StoreUnavailable."""
        ...

    async def rollout(self, rollout_id: int) -> Rollout | None:
        """The one of that number. Raises StoreUnavailable."""
        ...

    async def events(self, rollout_id: int) -> Sequence[RolloutEvent]:
        """What happened to it, oldest first. Raises StoreUnavailable."""
        ...

    async def stage_counts(self, model: str, *, first_revision: int, stage_revision: int) -> StageCounts:
        """Live requests by version.

        Args:
            model: whose.
            first_revision: the oldest that counts; those below `stage_revision` are of the stages before.
            stage_revision: the oldest that counts for the stage.

        Raises:
            StoreUnavailable: not now.
        """
        ...

    async def request_rate(self, model: str) -> float:
        """Live requests per second at present, roughly; 0 when nobody counts any. Raises StoreUnavailable."""
        ...
