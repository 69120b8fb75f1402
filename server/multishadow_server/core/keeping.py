"""Which comparisons are stored for people to look at, so that their number does not grow with traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core.observation import BAD, Observation

HOUR_SECONDS = 3_600.0
# Late captures count in their own hour, so more than one is open at once; older ones are forgotten.
OPEN_HOURS = 4


class Kept(StrEnum):
    """Why a comparison is stored."""

    DIVERGED = "diverged"
    SAMPLE = "sample"
    SESSION = "session"


@dataclass(slots=True)
class _Hour:
    """What one epoch's hour has come to so far."""

    first_at: float
    divergent: int = 0
    rest: int = 0
    sampled: int = 0


class Keeper:
    """Chooses for one partition: every divergent comparison up to a quota, and a sample of the rest.

    Turns of a session that diverged count as divergent, once that is known: up to the same quota.

    The sample is drawn by selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S): a comparison is kept with
    probability (quota left) / (comparisons to come), which draws uniformly and never more than the quota. How many are
    to come is not known; it is reckoned from the hour so far. So the draw is uniform as far as traffic is even.

    Quotas hold per owner of a partition: one that is taken over within an hour starts them anew.

    Args:
        divergent_per_hour, sample_per_hour: this partition's quotas per epoch and hour.
    """

    def __init__(self, *, divergent_per_hour: int, sample_per_hour: int) -> None:
        self._divergent_quota = divergent_per_hour
        self._sample_quota = sample_per_hour
        self._hours: dict[tuple[int, int], _Hour] = {}

    def choose(
        self,
        epoch_id: int,
        *,
        received_at: float,
        observations: Sequence[Observation],
        draw: float,
        of_divergent_session: bool = False,
    ) -> Kept | None:
        """Whether to store one comparison, and why.

        Args:
            epoch_id: the epoch that it belongs to.
            received_at: seconds since the Unix epoch; chooses the hour.
            observations: what its shadows made of it.
            draw: uniform in [0, 1).
            of_divergent_session: whether another turn of its session was bad: then it is kept beside that one.
        """
        hour = self._hour(epoch_id, received_at)
        if any(observation.outcome in BAD for observation in observations):
            return self._choose_divergent(hour, Kept.DIVERGED)
        # Drawn first, whatever its session did: the sample of what agreed stays uniform.
        kept = self._choose_sample(hour, received_at, draw)
        return self._choose_divergent(hour, Kept.SESSION) if kept is None and of_divergent_session else kept

    def _choose_divergent(self, hour: _Hour, why: Kept) -> Kept | None:
        if hour.divergent >= self._divergent_quota:
            return None
        hour.divergent += 1
        return why

    def _choose_sample(self, hour: _Hour, received_at: float, draw: float) -> Kept | None:
        hour.rest += 1
        seen_for = max(1.0, received_at - hour.first_at)
        left = max(0.0, HOUR_SECONDS - (received_at % HOUR_SECONDS))
        to_come = 1 + hour.rest * left / seen_for
        if draw * to_come >= self._sample_quota - hour.sampled:
            return None
        hour.sampled += 1
        return Kept.SAMPLE

    def _hour(self, epoch_id: int, received_at: float) -> _Hour:
        key = (epoch_id, int(received_at // HOUR_SECONDS))
        hour = self._hours.get(key)
        if hour is None:
            oldest_open = key[1] - OPEN_HOURS
            self._hours = {other: kept for other, kept in self._hours.items() if other[1] > oldest_open}
            hour = self._hours[key] = _Hour(first_at=received_at)
        return hour
