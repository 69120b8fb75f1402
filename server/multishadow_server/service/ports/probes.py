"""Where it is kept how versions stand with probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from multishadow_server.core.probe_state import ProbeChange, ProbeState


class ProbeKey(NamedTuple):
    """One version and one probe of its model."""

    model: str
    version: str
    probe: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeClaim:
    """The right to ask once, in one period, whoever else may want to.

    Args:
        key: who is asked what.
        at: when it was taken, seconds since the Unix epoch by the store's clock.
        state: how the version stands; None when it was never asked.
    """

    key: ProbeKey
    at: float
    state: ProbeState | None


class ProbeStore(Protocol):
    """Where it is kept how versions stand with probes. Every method raises StoreUnavailable."""

    async def idle(self) -> Mapping[ProbeKey, float]:
        """For how long nobody took it upon themselves to ask, in seconds; without those that nobody ever did."""
        ...

    async def claim(self, key: ProbeKey, *, every: float) -> ProbeClaim | None:
        """Take it upon oneself to ask now; None when somebody did within `every` seconds. One of several gets it."""
        ...

    async def record(self, claim: ProbeClaim, state: ProbeState, changes: Sequence[ProbeChange]) -> None:
        """Keep how it stands now, unless somebody has asked again since; of the history, the newest lines stay."""
        ...

    async def states(self, model: str = "", *, answers: bool = False) -> Sequence[ProbeState]:
        """How versions stand: of one model or of all; with their answers only where that is asked for."""
        ...

    async def settle(self, key: ProbeKey, changed_at: float) -> None:
        """Changes of the answer up to this one, by its `changed_at`, are settled."""
        ...

    async def changes(
        self, model: str, *, version: str = "", probe: str = "", most: int
    ) -> Sequence[tuple[ProbeKey, ProbeChange]]:
        """What became of probes, newest first."""
        ...
