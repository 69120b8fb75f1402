"""Stored comparisons, for people to look at and judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.reviews import Review, ReviewVerdict


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonLine:
    """One candidate's answer in a stored comparison, in a line; `verdict` is None until somebody looked at it."""

    id: int
    request_id: str
    received_at: float
    version: str
    similarity: float | None
    detail: str
    verdict: ReviewVerdict | None


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptComparison:
    """A stored comparison, with everything that was kept of it, and what people said of it."""

    id: int
    epoch: Epoch
    request_id: str
    received_at: float
    request: bytes
    response: bytes
    observations: Sequence[Observation]
    reviews: Sequence[Review]
    payloads: Payloads = Payloads.FULL


class ReviewStore(Protocol):
    """Where stored comparisons and verdicts on them are. Every method raises StoreUnavailable."""

    async def comparisons(self, epoch_id: int, *, version: str, agreeing: bool, most: int) -> Sequence[ComparisonLine]:
        """Stored comparisons of an epoch, a line for each candidate's answer; the least similar answers first.

        Args:
            epoch_id: the epoch.
            version: whose answers; empty for all candidates'.
            agreeing: the uniform sample of those that agreed, newest first, instead of those that diverged.
            most: at most so many.
        """
        ...

    async def comparison(self, comparison_id: int) -> KeptComparison | None:
        """One stored comparison with everything that was kept of it; None when there is none."""
        ...

    async def record(self, comparison: KeptComparison, *, version: str, verdict: ReviewVerdict, actor: str) -> None:
        """Record a verdict and count it; a former one on the same answer is taken back."""
        ...

    async def take_back(self, comparison: KeptComparison, *, version: str, actor: str) -> bool:
        """Forget the verdict on an answer, and count it no more; False when there is none."""
        ...
