"""Where workers put what they saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from multishadow_server.core.capture import Capture
from multishadow_server.core.dead_letters import DeadLetter
from multishadow_server.core.duplicates import Chunk
from multishadow_server.core.observation import Observation
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.sessions import NO_CHANGES, SessionChanges
from multishadow_server.service.ports.sessions import SessionStore


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredComparison:
    """One capture with what its shadows made of it, kept for people to look at.

    `kept_because` is "diverged" (some shadow diverged, or failed) or "sample" (drawn uniformly from the rest).
    `payloads` is the form that its payloads have by now.
    """

    epoch_id: int
    capture: Capture
    observations: Sequence[Observation]
    kept_because: str
    payloads: Payloads = Payloads.FULL


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptAnswers:
    """One capture's answers, kept until its label comes; `payloads` is the form that they have by now."""

    epoch_id: int
    capture: Capture
    observations: Sequence[Observation]
    payloads: Payloads = Payloads.FULL


@dataclass(frozen=True, kw_only=True, slots=True)
class Flush:
    """What a worker commits for one micro-batch of one partition, in one transaction.

    Args:
        log_id: see PartitionReader.
        partition: which.
        previous_offset: sequence of the last message committed before; the commit is refused when it is not so.
        offset: sequence of the last message in this micro-batch.
        rollups: additions by (epoch id, start of the bucket in seconds since the Unix epoch).
        comparisons: samples to store.
        answers: what is kept to be labelled, of models that ask for it.
        dead_letters: failed calls to try again or to keep.
        seen: what to add to the partition's chunks of seen inputs.
        forgotten: chunks up to this number are deleted.
        sessions: what changed of the partition's open sessions.
    """

    log_id: str
    partition: int
    previous_offset: int
    offset: int
    rollups: Mapping[tuple[int, int], Rollup] = field(default_factory=dict)
    comparisons: Sequence[StoredComparison] = ()
    answers: Sequence[KeptAnswers] = ()
    dead_letters: Sequence[DeadLetter] = ()
    seen: Sequence[Chunk] = ()
    forgotten: int = 0
    sessions: SessionChanges = NO_CHANGES


class ObservationStore(SessionStore, Protocol):
    """Where workers put what they saw."""

    async def offset(self, log_id: str, partition: int) -> int:
        """Sequence of the last message whose effect is committed; 0 when there is none. Raises StoreUnavailable."""
        ...

    async def segment_levels(self, epoch_id: int) -> Sequence[str]:
        """The levels of segments that are counted in an epoch. Raises StoreUnavailable."""
        ...

    async def seen_inputs(self, log_id: str, partition: int) -> Sequence[Chunk]:
        """A partition's chunks of seen inputs, by number. Raises StoreUnavailable."""
        ...

    async def commit(self, flush: Flush) -> None:
        """Add the rollups, store samples, seen inputs and open sessions, and move the offset, all or nothing.

        Raises:
            LeaseLost: the offset is not `previous_offset`: somebody else commits to this partition.
            StoreUnavailable: the outcome is unknown; read `offset` again.
        """
        ...
