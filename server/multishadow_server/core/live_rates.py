"""How many live requests a second versions answer, from counts that routers save every so often."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

# Routers save once a second, by clocks of their own: over a shorter time a rate would jump.
WINDOW_SECONDS = 10.0


class Counted(NamedTuple):
    """What one router counts under: its run, a model, a version, and the revision that chose the version."""

    model: str
    version: str
    revision: int
    run: str


class LiveRates:
    """Makes rates of counts that only grow. Points in time are seconds on any monotonic clock."""

    def __init__(self) -> None:
        self._last: dict[Counted, int] = {}
        self._totals: Counter[tuple[str, str]] = Counter()
        self._readings: deque[tuple[float, Counter[tuple[str, str]]]] = deque()

    def note(self, counts: Mapping[Counted, int], *, fresh: frozenset[Counted], now: float) -> None:
        """Take a reading.

        Args:
            counts: requests since the beginning of each count.
            fresh: those that began since the reading before, and so count from nothing.
            now: when it was taken.
        """
        for key, requests in counts.items():
            before = self._last.get(key, 0 if key in fresh and self._readings else requests)
            self._totals[key.model, key.version] += max(0, requests - before)
        self._last = dict(counts)
        self._readings.append((now, self._totals.copy()))
        while len(self._readings) > 2 and self._readings[1][0] <= now - WINDOW_SECONDS:
            self._readings.popleft()

    def per_second(self) -> Mapping[tuple[str, str], float]:
        """Live requests per second by (model, version), over the last seconds; none before the second reading."""
        if len(self._readings) < 2:
            return {}
        (began, then), (ended, now) = self._readings[0], self._readings[-1]
        seconds = max(ended - began, 1e-3)
        return {key: (requests - then[key]) / seconds for key, requests in now.items()}
