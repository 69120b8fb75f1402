"""How much may be asked in a time: a token bucket."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBucket:
    """Fills steadily, holds a second's worth.

    Args:
        rate: tokens that it gains in a second, and the most that it holds.
        tokens: how many it held at `at`.
        at: when that was, seconds of any clock that only goes forward.
    """

    rate: float
    tokens: float
    at: float

    def filled(self, now: float) -> TokenBucket:
        """The bucket at a later time."""
        return replace(self, tokens=min(self.rate, self.tokens + self.rate * max(0.0, now - self.at)), at=now)

    def take(self, cost: float, now: float) -> tuple[TokenBucket, float]:
        """Take so many tokens.

        Who asks for more than it can ever hold pays with all of it.

        Returns:
            What remains, and 0; or, when there are too few, the bucket and the seconds until there are enough.
        """
        bucket = self.filled(now)
        cost = min(cost, self.rate)
        if cost > bucket.tokens:
            return bucket, (cost - bucket.tokens) / self.rate
        return replace(bucket, tokens=bucket.tokens - cost), 0.0
