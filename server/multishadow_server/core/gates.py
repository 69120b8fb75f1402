"""Gates: what has to hold before a candidate is promoted, each with its number, its bound and what would change it.

A gate is one of many that all must pass, so none of them needs a share of α: promoting wrongly takes a wrong pass of
the very gate that should have held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class GateName(StrEnum):
    """The gates, in the order in which they are shown.

    Attributes:
        MINIMUM_DURATION: the epoch has collected for as long as the model asks for, a week by default: it has every
            weekday.
        DIVERGENCE: the rate of divergence is proven below the model's limit, and has not changed over time.
        BEST_SET: none of the other candidates is proven better, and it is proven apart from, or equivalent to, all of
            them that may be best.
        QUALITY: labels prove that its accuracy is not below live's by more than the model allows, or somebody
            acknowledged that only agreement is known.
        LATENCY: the 99th percentile is at most the model's multiple of live's; advice while it is a shadow, binding in
            a rollout.
        FAILURES: the rate of errors and timeouts is proven below the model's limit.
        COMPLETENESS: almost all copies that were sampled to it ended in a comparison.
        SAMPLE_RATIO: it got, and kept, its share of the copies.
        DRIFT: its rate of divergence did not change from hour to hour, in either direction.
        SEGMENTS: no kind of request is proven to diverge more often than the others.
        DIVERGENT_SAMPLES: enough divergent comparisons are stored for people to look at.
        TOP_REVIEWED: somebody vouches that the worst divergences were looked at.
        COST: somebody vouches for what it costs.
        ROLLBACK_PLAN: somebody vouches that there is a way back, and who takes it.
    """

    MINIMUM_DURATION = "minimum_duration"
    DIVERGENCE = "divergence"
    BEST_SET = "best_set"
    QUALITY = "quality"
    LATENCY = "latency"
    FAILURES = "failures"
    COMPLETENESS = "completeness"
    SAMPLE_RATIO = "sample_ratio"
    DRIFT = "drift"
    SEGMENTS = "segments"
    DIVERGENT_SAMPLES = "divergent_samples"
    TOP_REVIEWED = "top_reviewed"
    COST = "cost"
    ROLLBACK_PLAN = "rollback_plan"


class Attestation(StrEnum):
    """What a person can vouch for."""

    AGREEMENT_ONLY = "agreement_only"
    TOP_REVIEWED = "top_reviewed"
    COST = "cost"
    ROLLBACK_PLAN = "rollback_plan"


class GateState(StrEnum):
    """`unknown`: neither proven nor refuted yet, or not done yet."""

    PASS = "pass"  # noqa: S105 -- no password
    FAIL = "fail"
    UNKNOWN = "unknown"


class Awaits(StrEnum):
    """What an unknown gate waits for.

    `NOTHING`: an alarm that has nothing to listen to yet; it holds nothing up until it rings.
    """

    EVIDENCE = "evidence"
    TIME = "time"
    PEOPLE = "people"
    NOTHING = "nothing"


class Verdict(StrEnum):
    """What all gates together say of a candidate.

    `PROMOTE`: all pass or are waived. `REJECT`: something is proven that more requests will not change. `HOLD`:
    something has to be repaired, done or waited for. `INCONCLUSIVE`: the evidence is not in yet.
    """

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_DATA = "NO_DATA"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What somebody put on record about a candidate in one epoch; nothing changes or removes it.

    Args:
        version: the candidate.
        subject: the gate that is waived, or what is attested.
        waiver: whether it is a waiver; an attestation otherwise.
        text: the reason, or what was found.
        by: who.
        at: when, seconds since the Unix epoch.
    """

    version: str
    subject: str
    waiver: bool
    text: str
    by: str
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One gate's finding.

    Args:
        name: which.
        state: see GateState.
        number: what was found, in words with its number.
        bound: what is asked for.
        remedy: what would change it; empty when it passes.
        awaits: what it waits for while it is unknown.
        final: whether, failing, it fails for good: more requests or repairs do not change it.
        advisory: shown, and holds nothing up.
        waiver: why it does not count, when somebody took that on themselves.
        attestation: who vouched for it.
    """

    name: GateName
    state: GateState
    number: str
    bound: str
    remedy: str = ""
    awaits: Awaits = Awaits.EVIDENCE
    final: bool = False
    advisory: bool = False
    waiver: Record | None = None
    attestation: Record | None = None

    @property
    def holds_up(self) -> bool:
        """Whether it stands in the way of a promotion."""
        silent = self.state is GateState.UNKNOWN and self.awaits is Awaits.NOTHING
        return self.state is not GateState.PASS and not silent and not self.advisory and self.waiver is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """All gates of one candidate.

    Args:
        version: the candidate.
        verdict: what they say together.
        gates: in the order of GateName.
    """

    version: str
    verdict: Verdict
    gates: tuple[Gate, ...]

    @property
    def holding(self) -> tuple[Gate, ...]:
        """The gates that stand in the way."""
        return tuple(gate for gate in self.gates if gate.holds_up)


def review(version: str, gates: Iterable[Gate], *, n: int, records: Sequence[Record]) -> Review:
    """Put waivers to their gates, and draw the verdict.

    Args:
        version: the candidate.
        gates: its findings.
        n: its comparisons that count.
        records: what was put on record in this epoch, of any candidate, oldest first; the newest waiver counts.
    """
    waivers = {record.subject: record for record in records if record.waiver and record.version == version}
    judged = tuple(replace(gate, waiver=waivers.get(gate.name)) for gate in gates)
    return Review(version=version, verdict=_verdict([gate for gate in judged if gate.holds_up], n), gates=judged)


def attestations(version: str, records: Sequence[Record]) -> Mapping[str, Record]:
    """What people vouched for about a candidate, by what it is; the newest of each."""
    return {record.subject: record for record in records if not record.waiver and record.version == version}


def _verdict(holding: Sequence[Gate], n: int) -> Verdict:
    if not n:
        return Verdict.NO_DATA
    failing = [gate for gate in holding if gate.state is GateState.FAIL]
    if failing:
        return Verdict.REJECT if any(gate.final for gate in failing) else Verdict.HOLD
    if any(gate.awaits is Awaits.EVIDENCE for gate in holding):
        return Verdict.INCONCLUSIVE
    return Verdict.HOLD if holding else Verdict.PROMOTE
