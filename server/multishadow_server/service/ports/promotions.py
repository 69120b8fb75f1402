"""Reading what was made live, and what callers get of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.live_figures import LiveReading


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionLine:
    """One promotion of a model's history.

    Args:
        id: grows with time.
        model, version, previous: who was made live in whose place.
        revision, at, by, reason: when, by whom and why; seconds since the Unix epoch.
        rolled_back_at, rolled_back_by: when and by whom it was taken back; None and empty while it stands.
        rolled_back_revision: likewise.
    """

    id: int
    model: str
    version: str
    previous: str
    revision: int
    at: float
    by: str
    reason: str = ""
    rolled_back_revision: int | None = None
    rolled_back_at: float | None = None
    rolled_back_by: str = ""

    @property
    def stands(self) -> bool:
        """Whether nobody took it back."""
        return self.rolled_back_revision is None


class PromotionHistory(Protocol):
    """What was made live. Every method raises StoreUnavailable."""

    async def history(self, model: str, *, before: int | None, most: int) -> Sequence[PromotionLine]:
        """The newest of a model's whose id is below `before` (None: of all), newest first."""
        ...

    async def standing(self) -> Mapping[str, PromotionLine]:
        """The newest of each model that nobody took back."""
        ...


class LiveFigureReader(Protocol):
    """What routers count of live requests. Every method raises StoreUnavailable."""

    async def now(self) -> float:
        """The store's time, seconds since the Unix epoch."""
        ...

    async def reading(self) -> LiveReading:
        """Counts of whoever counted something in the last minutes."""
        ...
