"""How the versions that serve fare: every live request, counted where it is answered.

A router counts by model, by the version that the flags chose, and by the revision that chose it. So a stage of a
rollout, which is a revision, is told apart exactly, and so are the requests of a router that did not hear of it yet.
Whoever answers in place of a version that is away does not get its requests: they are the chosen version's failures
(intention to treat), or a version that is down would look like the one that covers for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from multishadow_server.core import latency, latency_ladder
from multishadow_server.core.latency_ladder import Distribution

# Revisions that a router keeps counting for: requests under way belong to the revision that they began by.
MOST_REVISIONS = 256


class Share(NamedTuple):
    """Whose requests: those of a model that a version was chosen for by a revision of the flags."""

    model: str
    version: str
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveCounts:
    """What became of live requests.

    Args:
        requests: that the version was chosen for, and whose caller waited for the answer.
        failed: the version itself failed these.
        covered: of the failed ones, an older live version answered.
        latencies: answers by bin of `latency`; timeouts are `inf`, other failures are left out, as they may be quick.
    """

    requests: int = 0
    failed: int = 0
    covered: int = 0
    latencies: Mapping[str, int] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Requests that the version itself answered."""
        return self.requests - self.failed

    def __add__(self, other: LiveCounts) -> LiveCounts:
        return LiveCounts(
            requests=self.requests + other.requests,
            failed=self.failed + other.failed,
            covered=self.covered + other.covered,
            latencies=Counter(self.latencies) + Counter(other.latencies),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveTotal:
    """What became of all live requests that a version was chosen for, by whatever revision; see LiveCounts.

    `timed_out` of the failed ones took too long; they are in `latencies`, too, beyond its last rung.
    """

    requests: int = 0
    failed: int = 0
    covered: int = 0
    timed_out: int = 0
    latencies: Distribution = field(default_factory=Distribution)

    def grown(self, before: LiveTotal, after: LiveTotal) -> LiveTotal:
        """With what one of its parts has grown by."""
        return LiveTotal(
            requests=self.requests + after.requests - before.requests,
            failed=self.failed + after.failed - before.failed,
            covered=self.covered + after.covered - before.covered,
            timed_out=self.timed_out + after.timed_out - before.timed_out,
            latencies=self.latencies + after.latencies - before.latencies,
        )


class _Count:
    """Counts of one share, as they grow."""

    __slots__ = ("changed", "covered", "failed", "latencies", "requests", "told")

    def __init__(self) -> None:
        self.requests = self.failed = self.covered = 0
        self.latencies: dict[float, int] = {}
        self.changed = False
        # As it was when it was asked for the total last.
        self.told = LiveTotal()

    def total(self) -> LiveTotal:
        return LiveTotal(
            requests=self.requests,
            failed=self.failed,
            covered=self.covered,
            timed_out=self.latencies.get(math.inf, 0),
            latencies=latency_ladder.of_bins(self.latencies),
        )

    def value(self) -> LiveCounts:
        return LiveCounts(
            requests=self.requests,
            failed=self.failed,
            covered=self.covered,
            latencies={
                latency.TIMED_OUT if math.isinf(edge) else str(int(edge)): n for edge, n in self.latencies.items()
            },
        )


class _Sum:
    """A version's requests over all revisions. Of hundreds of them one or two still grow: only those are looked at."""

    def __init__(self) -> None:
        self._parts: list[_Count] = []
        self._total = LiveTotal()

    def begin(self, part: _Count) -> None:
        self._parts.append(part)

    def total(self) -> LiveTotal:
        for part in self._parts:
            if part.requests != part.told.requests:
                now = part.total()
                self._total, part.told = self._total.grown(part.told, now), now
        return self._total

    def forget(self, part: _Count) -> None:
        """It grows no more, and stays in the total."""
        self.total()
        self._parts.remove(part)


class LiveTally:
    """One router's counts since it began. They only grow, so that saving them again is no harm.

    Attributes:
        late: requests that ended so long after their revision that they are counted nowhere.
    """

    def __init__(self) -> None:
        self._counts: dict[Share, _Count] = {}
        self._oldest = 0
        self._sums: dict[tuple[str, str], _Sum] = {}
        self.late = 0

    def note(
        self, share: Share, *, seconds: float, failed: bool = False, timed_out: bool = False, covered: bool = False
    ) -> None:
        """Count one request.

        Args:
            share: whose it is.
            seconds: how long the version took.
            failed: whether the version itself failed.
            timed_out: whether it failed by taking too long.
            covered: whether another version answered instead.
        """
        count = self._counts.get(share)
        if count is None:
            if share.revision < self._oldest:
                self.late += 1
                return
            count = self._begin(share)
        count.requests += 1
        count.changed = True
        if failed:
            count.failed += 1
            count.covered += covered
            if not timed_out:
                return
        edge = math.inf if timed_out else latency.bin_of(seconds)
        count.latencies[edge] = count.latencies.get(edge, 0) + 1

    def changed(self) -> Mapping[Share, LiveCounts]:
        """Counts since the beginning, of every share that was counted for since this was asked last."""
        counts = {share: count for share, count in self._counts.items() if count.changed}
        for count in counts.values():
            count.changed = False
        return {share: count.value() for share, count in counts.items()}

    def totals(self) -> Iterator[tuple[tuple[str, str], LiveTotal]]:
        """Counts since the beginning by model and version; revisions that were forgotten are in them.

        Each is added up when it is asked for, so that whoever has callers may attend to them in between.
        """
        for key, each in list(self._sums.items()):
            yield key, each.total()

    def not_saved(self, shares: Iterable[Share]) -> None:
        """Have `changed` give these again: they could not be saved."""
        for share in shares:
            if share in self._counts:
                self._counts[share].changed = True

    def _begin(self, share: Share) -> _Count:
        revisions = sorted({known.revision for known in self._counts} | {share.revision})
        if len(revisions) > MOST_REVISIONS:
            self._forget(before=revisions[-MOST_REVISIONS])
        count = self._counts[share] = _Count()
        self._sums.setdefault((share.model, share.version), _Sum()).begin(count)
        return count

    def _forget(self, *, before: int) -> None:
        """A share that is begun anew would overwrite what was saved of it, so forgotten revisions stay forgotten."""
        for share in [share for share, count in self._counts.items() if share.revision < before and not count.changed]:
            self._sums[share.model, share.version].forget(self._counts.pop(share))
        self._oldest = max(self._oldest, before)
