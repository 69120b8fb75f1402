"""Stored comparisons, found and read an answer of one candidate at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import NamedTuple, Protocol

from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.reviews import Review


class AnswerOrder(StrEnum):
    """How answers are listed: newest first, least similar first (of those that were compared), slowest first."""

    NEWEST = "newest"
    SIMILARITY = "similarity"
    LATENCY = "latency"


class AnswerPlace(NamedTuple):
    """Where an answer stands: its comparison, the candidate's place in it, and what is sorted by (0 where by time)."""

    day: date
    id: int
    place: int
    value: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerFilter:
    """Which answers are meant; what is empty or None chooses all.

    Args:
        epochs: ids of the epochs that they are of.
        version: whose.
        outcomes: what became of them.
        attributes: of the request: path and value, all of which have to hold.
        least_similarity, most_similarity: bounds of the similarity, both included.
        reviewed: whether somebody gave a verdict on them.
        since, until: when the request was received, seconds since the Unix epoch; until is not included.
        sample_only: those of the uniform sample.
    """

    epochs: tuple[int, ...]
    version: str = ""
    outcomes: tuple[Outcome, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    least_similarity: float | None = None
    most_similarity: float | None = None
    reviewed: bool | None = None
    since: float | None = None
    until: float | None = None
    sample_only: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAnswer:
    """What one candidate made of one request, beside what the live version made of it.

    Args:
        place: where it stands among others.
        epoch_id: whose statistics it counts in.
        request_id, session_id, received_at, method, attributes: of the request.
        kept_because: "diverged" or "sample".
        payloads: the form in which it was stored.
        live_latency: seconds.
        live_status_code: a gRPC status.
        seen: the candidate's answer.
        review: what somebody said of it; None until somebody did.
        label, labelled: the right answer, where somebody told it.
        request, live_response: as stored; empty where payloads were not asked for.
    """

    place: AnswerPlace
    epoch_id: int
    request_id: str
    session_id: str
    received_at: float
    method: str
    attributes: dict[str, Json] = field(default_factory=dict)
    kept_because: str
    payloads: Payloads
    live_latency: float
    live_status_code: int
    seen: Observation
    review: Review | None
    label: Json
    labelled: bool
    request: bytes = b""
    live_response: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportPage:
    """Some answers, oldest first, and where the next page begins; None at the end."""

    answers: Sequence[StoredAnswer]
    next_place: AnswerPlace | None


class AnswerStore(Protocol):
    """Where stored answers are. Every method raises StoreUnavailable."""

    async def listed(
        self, which: AnswerFilter, order: AnswerOrder, *, after: AnswerPlace | None, most: int
    ) -> Sequence[StoredAnswer]:
        """At most so many after that place (None: from the beginning), without their payloads."""
        ...

    async def of_comparison(self, comparison_id: int) -> Sequence[StoredAnswer]:
        """The answers of one comparison, with their payloads; empty when there is none of that id."""
        ...

    async def page(self, which: AnswerFilter, *, after: AnswerPlace | None) -> ExportPage:
        """Some with their payloads: bounded in rows, in bytes, and in how many rows are looked through for them."""
        ...

    async def epochs(self, epoch_ids: Sequence[int]) -> Sequence[Epoch]:
        """The epochs of these ids."""
        ...
