"""What became of a candidate's copies in one epoch, in a handful of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core.observation import BAD, COUNTED, Outcome
from multishadow_server.core.rollup import Family, Tables


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeCounts:
    """Copies of one candidate, by what became of them.

    Args:
        version: the candidate.
        counted: that ended in a comparison, an error or a timeout.
        bad: of these, those that diverged or failed.
        uncomparable, dropped: that did not end so.
        duplicates: that were not sent, as one of the same input counts already; they are no loss.
    """

    version: str
    counted: int = 0
    bad: int = 0
    uncomparable: int = 0
    dropped: int = 0
    duplicates: int = 0

    @property
    def divergence(self) -> float | None:
        """Share of those that count that diverged or failed; None without any. A report has its interval."""
        return self.bad / self.counted if self.counted else None

    @property
    def completeness(self) -> float | None:
        """Share of the copies that count; None without any."""
        every = self.counted + self.uncomparable + self.dropped
        return self.counted / every if every else None


def of_candidates(tables: Tables, candidates: Sequence[str]) -> tuple[OutcomeCounts, ...]:
    """The counts of each candidate, from an epoch's tables."""
    found = []
    for version in candidates:
        outcomes: Mapping[str, int] = tables.get((Family.OUTCOME, version), {})
        found.append(
            OutcomeCounts(
                version=version,
                counted=sum(outcomes.get(outcome, 0) for outcome in COUNTED),
                bad=sum(outcomes.get(outcome, 0) for outcome in BAD),
                uncomparable=outcomes.get(Outcome.UNCOMPARABLE, 0),
                dropped=outcomes.get(Outcome.DROPPED, 0),
                duplicates=outcomes.get(Outcome.DUPLICATE, 0),
            )
        )
    return tuple(found)
