"""How the versions that serve fare just now: what grew between two readings of their counts.

These are figures of production, of answers that callers got. They never stand beside figures of shadows on one axis or
in one total: a shadow's latency is measured by a worker, on a copy, and nobody waits for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from multishadow_server.core import latency
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.live_rates import Counted


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveReading:
    """Everything that routers count of live requests, as it stood at one time.

    Args:
        at: when it was read, seconds since the Unix epoch by the store's clock.
        counts: since each count began.
        began: when that was, likewise.
    """

    at: float
    counts: Mapping[Counted, LiveCounts] = field(default_factory=dict)
    began: Mapping[Counted, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveFigures:
    """What callers got of one version in a stretch of time.

    Args:
        counts: of that time.
        seconds: how long it was.
    """

    counts: LiveCounts
    seconds: float

    @property
    def per_second(self) -> float:
        """Requests per second that the version was chosen for."""
        return self.counts.requests / max(self.seconds, 1e-3)

    @property
    def failed(self) -> float | None:
        """Share of them that it failed; None without any."""
        return self.counts.failed / self.counts.requests if self.counts.requests else None

    @property
    def p50(self) -> float | None:
        """Median latency in seconds; inf when half timed out, None without answers."""
        return latency.percentile(self.counts.latencies, 50)

    @property
    def p99(self) -> float | None:
        """99th percentile of the latency, likewise."""
        return latency.percentile(self.counts.latencies, 99)


def between(before: LiveReading | None, after: LiveReading) -> Mapping[tuple[str, str], LiveFigures]:
    """Figures by (model, version) of the time between two readings; without a former one, since the counts began.

    A count that the former reading lacks counts whole where it began since then. Otherwise it had rested for so long
    that it was not read, and what it has is of another time.
    """
    grown: dict[tuple[str, str], LiveCounts] = {}
    since: dict[tuple[str, str], float] = {}
    for key, counts in after.counts.items():
        of = (key.model, key.version)
        began = after.began.get(key, after.at)
        since[of] = min(since.get(of, after.at), began) if before is None else before.at
        if before is None or (key not in before.counts and began >= before.at):
            new = counts
        else:
            new = _difference(counts, before.counts.get(key, counts))
        grown[of] = grown.get(of, LiveCounts()) + new
    return {of: LiveFigures(counts=counts, seconds=after.at - since[of]) for of, counts in grown.items()}


def _difference(after: LiveCounts, before: LiveCounts) -> LiveCounts:
    """Counts only grow; `Counter` leaves out what did not."""
    return LiveCounts(
        requests=max(0, after.requests - before.requests),
        failed=max(0, after.failed - before.failed),
        covered=max(0, after.covered - before.covered),
        latencies=Counter(after.latencies) - Counter(before.latencies),
    )
