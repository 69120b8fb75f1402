"""Stored comparisons as lists that people walk through, and one with everything that was stored of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.comparison_lists import ComparisonFilter, Place, Sort
from multishadow_server.core.keeping import Kept
from multishadow_server.core.observation import Observation
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import Payloads
from multishadow_server.service.ports.reviews import KeptComparison


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedComparison:
    """One stored comparison without its bytes.

    Args:
        id: its number.
        place: where it is in the list.
        request_id, session_id: as they were stored; the latter may be empty.
        received_at: seconds since the Unix epoch.
        attributes: the request's.
        request_bytes: the stored request's size.
        live_latency: the live call's duration in seconds.
        observations: what candidates made of it, without their bytes.
        kept_because: why it was stored.
        payloads: in which form.
        reviewed: names of the candidates whose answer somebody judged.
    """

    id: int
    place: Place
    request_id: str
    session_id: str
    received_at: float
    attributes: Mapping[str, Json]
    request_bytes: int
    live_latency: float
    observations: Sequence[Observation]
    kept_because: Kept
    payloads: Payloads
    reviewed: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonPage:
    """A part of a list.

    Args:
        comparisons: in the list's order.
        searched: how many stored comparisons were looked at for it.
        next: where to go on; None at the end. There may be more even if `comparisons` is empty: a filter that almost
            nothing fits is searched for a bounded time.
    """

    comparisons: Sequence[ListedComparison]
    searched: int
    next: Place | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeComparison:
    """A stored comparison with all that was stored of its request.

    Args:
        kept: its answers, and what people said of them.
        session_id: as it was stored; may be empty.
        method: full gRPC method name.
        revision: the flags' revision of the decision.
        attributes: the request's.
        live_latency: the live call's duration in seconds.
        kept_because: why it was stored.
    """

    kept: KeptComparison
    session_id: str
    method: str
    revision: int
    attributes: Mapping[str, Json]
    live_latency: float
    kept_because: Kept


class ComparisonLists(Protocol):
    """Stored comparisons. Every method raises StoreUnavailable."""

    async def page(
        self,
        epoch_id: int,
        which: ComparisonFilter,
        *,
        sort: Sort,
        after: Place | None,
        most: int,
        backwards: bool = False,
    ) -> ComparisonPage:
        """A part of an epoch's stored comparisons.

        Args:
            epoch_id: the epoch.
            which: those that are meant.
            sort: the list's order.
            after: only what comes after this place; None: from the beginning.
            most: at most so many.
            backwards: what comes before `after` instead, the nearest first.
        """
        ...

    async def whole(self, comparison_id: int) -> WholeComparison | None:
        """One with everything that was stored of it; None when there is none."""
        ...

    async def session(self, epoch_id: int, session_id: str, *, most: int) -> Sequence[ListedComparison]:
        """The first stored turns of one session, as they were received, without bytes; placed by time."""
        ...
