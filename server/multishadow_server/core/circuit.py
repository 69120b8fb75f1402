"""Not asking again and again what does not answer."""

from __future__ import annotations

FAILURES_TO_OPEN = 3
FIRST_RETRY = 0.5
LONGEST_RETRY = 5.0


class Circuit:
    """Open after some failures in a row; then one attempt at a time is let through, ever more seldom, until one works.

    Points in time are seconds on any monotonic clock.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._retry_at = 0.0
        self._delay = FIRST_RETRY

    @property
    def is_open(self) -> bool:
        """Whether nobody should wait for an attempt."""
        return self._failures >= FAILURES_TO_OPEN

    def worked(self) -> None:
        """An attempt worked: all is well again."""
        self._failures = 0
        self._delay = FIRST_RETRY

    def failed(self, now: float) -> None:
        """An attempt failed."""
        self._failures += 1
        if self._failures == FAILURES_TO_OPEN:
            self._retry_at = now + FIRST_RETRY

    def takes_attempt(self, now: float) -> bool:
        """Whether it is time for another attempt, although it is open; the next one has to wait longer."""
        if now < self._retry_at:
            return False
        self._retry_at = now + self._delay
        self._delay = min(2 * self._delay, LONGEST_RETRY)
        return True
