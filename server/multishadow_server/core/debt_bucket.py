"""A token bucket that gives on credit, for what must not be chosen by its size.

`rate.TokenBucket` asks whoever comes for all that they cost. Here a use is let through while there is a whole token,
and what it costs beyond that becomes a debt, which the next one waits for. So whether one is let through depends on
those before it and never on itself: large requests are not refused more often than small ones, and one that is larger
than the bucket gets through, too. In the long run the rate is kept all the same.
"""

from __future__ import annotations

import math

BURST_SECONDS = 1.0
# Tokens that came in by many small steps may miss a whole one by rounding.
_WHOLE = 1.0 - 1e-9


class DebtBucket:
    """Lets through `rate` units a second, and what one second saved up.

    Uses may be let through ahead of their time, up to a wait that the caller chooses. Points in time are seconds on any
    monotonic clock.

    Args:
        rate: units per second; 0 lets nothing through.
        now: when it begins, full.
    """

    def __init__(self, rate: float, *, now: float) -> None:
        self.rate = rate
        self._level = self._size
        self._at = now

    def set_rate(self, rate: float, *, now: float) -> None:
        """Go on at another rate; what is there stays, a debt too."""
        if rate != self.rate:
            self._fill(now)
            self.rate = rate
            self._level = min(self._level, self._size)

    def wait(self, now: float) -> float:
        """Seconds until the next use is due; 0: it is due; infinite: never at this rate."""
        self._fill(now)
        if self._level >= _WHOLE:
            return 0.0
        return (1.0 - self._level) / self.rate if self.rate else math.inf

    def debt(self, now: float) -> float:
        """Units that were let through ahead of their time; 0 when none were."""
        self._fill(now)
        return max(0.0, -self._level)

    def take(self, units: float) -> None:
        """Use so many; what is not there becomes a debt. To be called right after `wait`."""
        self._level -= units

    @property
    def _size(self) -> float:
        # A slow one must still hold the one token that it lets through.
        return max(self.rate * BURST_SECONDS, 1.0) if self.rate else 0.0

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._size, self._level + (now - self._at) * self.rate)
            self._at = now
