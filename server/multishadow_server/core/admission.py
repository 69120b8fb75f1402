"""Which copies a version that must not get all of them gets.

A bucket alone would choose by the moment of arrival: two candidates with buckets of different rates could get nearly
disjoint requests, and whole sessions would be torn. So what is steadily too much is left out by a draw first, the same
draw for every version of a model: who may be asked a tenth gets the tenth with the smallest draws, and who may be asked
a fifth gets these and as many more. The candidates stay comparable on the same requests, and no answer, nor the size of
a request, has a say. The bucket then keeps the rate in the short run, and lets bursts wait for a bounded time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from multishadow_server.core.debt_bucket import DebtBucket
from multishadow_server.core.withheld import BANDWIDTH

# What comes in is known from so many uses at the rate that is allowed, or from these seconds: the more, the less chance
# has a say, and the later a change is noticed.
KNOWN_FROM = 20
SHORTEST_MEMORY, LONGEST_MEMORY = 2.0, 60.0
# Requests differ in size, so that the same seconds say less of bytes.
BYTES_MEMORY = 10.0
# What is but a little too much comes and goes: that is the bucket's.
TOO_MUCH = 1.2
# Were the draw to let through all of the rate, the bucket would choose again.
AIM = 0.95
# The draw makes room for what the bucket let through ahead of its time, within about so long.
REPAID_SECONDS = 5.0
LONGEST_WAIT = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a copy may be sent: after `wait` seconds, or not at all, for the reason in `refused`."""

    wait: float = 0.0
    refused: str = ""


_AT_ONCE = Verdict()


class Admission:
    """Keeps one version's rates. Points in time are seconds on any monotonic clock, and never go back."""

    def __init__(self) -> None:
        self._gauges: dict[str, _Gauge] = {}

    def set_rates(self, rates: Mapping[str, float], *, now: float) -> None:
        """What may be asked from now on, by the reason that refusals give; `bandwidth` in bytes, others in requests."""
        for reason in self._gauges.keys() - rates.keys():
            del self._gauges[reason]
        for reason, rate in rates.items():
            if reason in self._gauges:
                self._gauges[reason].bucket.set_rate(rate, now=now)
            else:
                self._gauges[reason] = _Gauge(rate, in_bytes=reason == BANDWIDTH, now=now)

    def ask(self, *, size: int, draw: float, now: float) -> Verdict:
        """Whether a copy may be sent; one that may, counts.

        Args:
            size: of the request, in bytes.
            draw: uniform in [0, 1), of the session or the request; the same for all versions of the model.
            now: the time.
        """
        for gauge in self._gauges.values():
            gauge.note(size, now)
        tightest, share = None, 1.0
        for reason, gauge in self._gauges.items():
            if (its := gauge.share(now)) < share:
                tightest, share = reason, its
        if tightest is not None and draw >= share:
            return Verdict(refused=tightest)
        longest, wait = None, 0.0
        for reason, gauge in self._gauges.items():
            if (its := gauge.bucket.wait(now)) > wait:
                longest, wait = reason, its
        if longest is not None and wait > LONGEST_WAIT:
            return Verdict(refused=longest)
        for gauge in self._gauges.values():
            gauge.bucket.take(gauge.units(size))
        return Verdict(wait=wait) if wait else _AT_ONCE


class _Gauge:
    """One rate, and what would be sent if there were none: an average that forgets exponentially."""

    def __init__(self, rate: float, *, in_bytes: bool, now: float) -> None:
        self.bucket = DebtBucket(rate, now=now)
        self._in_bytes = in_bytes
        self._began = self._at = now
        self._sum = 0.0

    def units(self, size: int) -> int:
        return size if self._in_bytes else 1

    def note(self, size: int, now: float) -> None:
        """A copy would be sent."""
        self._sum = self._faded(now) + self.units(size)
        self._at = now

    def share(self, now: float) -> float:
        """Share of what comes in that the rate has room for; 1 when it has room for all."""
        wanted, rate = self._wanted(now), self.bucket.rate
        if wanted <= TOO_MUCH * rate:
            return 1.0
        return max(0.0, AIM * rate - self.bucket.debt(now) / REPAID_SECONDS) / wanted

    def _wanted(self, now: float) -> float:
        """Units per second."""
        seen = self._memory * -math.expm1(-(now - self._began) / self._memory)
        # A beginning counts as longer than it is, or a first batch would look like a flood.
        return self._faded(now) / max(seen, self._memory / 2)

    def _faded(self, now: float) -> float:
        return self._sum * math.exp(-(now - self._at) / self._memory)

    @property
    def _memory(self) -> float:
        if self._in_bytes:
            return BYTES_MEMORY
        rate = self.bucket.rate
        return min(max(SHORTEST_MEMORY, KNOWN_FROM / rate), LONGEST_MEMORY) if rate else SHORTEST_MEMORY
