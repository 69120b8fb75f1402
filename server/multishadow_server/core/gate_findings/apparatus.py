"""Gates on the apparatus: do copies arrive, in the shares that they should, and do the hours agree with each other?"""

from __future__ import annotations

import math
from collections.abc import Mapping

from multishadow_server.core.gate_findings import wording
from multishadow_server.core.gate_findings.findings import Findings
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Gate, GateName, GateState
from multishadow_server.core.observation import BAD, COUNTED, Outcome
from multishadow_server.core.rollup import Family, Tables, pair_subject
from multishadow_server.core.statistics.drift import Alarm, first_alarm
from multishadow_server.core.statistics.sample_ratio import SMALLEST_GAP, RatioCheck, check
from multishadow_server.core.withheld import BY_CHANCE, ON_PURPOSE

HOUR = 3_600


def completeness(found: Findings, limits: GateLimits) -> Gate:
    """Whether nearly all copies ended in a comparison, but for those that limits left out by chance."""
    name, bound = GateName.COMPLETENESS, f"at least {wording.percent(limits.completeness)} of the copies"
    candidate = found.candidate
    withheld = sum(count for reason, count in candidate.dropped_by_reason.items() if reason in BY_CHANCE)
    meant = candidate.n + candidate.uncomparable + candidate.dropped - withheld
    if not meant:
        return wording.not_compared(name, bound)
    share = candidate.n / meant
    complete = share >= limits.completeness
    beside = f"; limits left out {withheld:,} more, by chance" if withheld else ""
    return Gate(
        name=name,
        state=GateState.PASS if complete else GateState.FAIL,
        number=f"{wording.at_least(share)} ended in a comparison{beside}",
        bound=bound,
        remedy="" if complete else "see why copies are dropped or uncomparable; `shadowctl compare` names the reasons",
    )


def sample_ratio(found: Findings) -> Gate:
    """Whether copies were assigned and stored in the shares that they should have been."""
    name, bound = GateName.SAMPLE_RATIO, f"e < 1000, or a gap of at most {wording.percent(SMALLEST_GAP)}"
    if not found.candidate.n:
        return wording.not_compared(name, bound)
    if len(found.candidates) < 2:
        number = "one candidate: no other to hold its share against"
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    stages = {"assigned": _assignment(found), "stored": _storing(found)}
    ringing = [stage for stage, checked in stages.items() if checked is not None and checked.rings]
    numbers = "; ".join(
        f"{stage}: {'not to be tested' if checked is None else _ratio(checked)}" for stage, checked in stages.items()
    )
    remedies = {
        "assigned": "see that all routers follow the flags (`shadowctl status`)",
        "stored": f"see why copies for {_most_lost(found)} are lost more often than others",
    }
    return Gate(
        name=name,
        state=GateState.FAIL if ringing else GateState.PASS,
        number=numbers,
        bound=bound,
        remedy="; ".join(remedies[stage] for stage in ringing),
    )


def _assignment(found: Findings) -> RatioCheck | None:
    """Requests that the candidate got a copy of, and did not, among those that anybody did.

    Samples nest: they are a share f/f_max of the largest sample.
    """
    copies = _copies(found)
    if found.shares is None:
        return None
    first, second = found.candidates[:2]
    statuses = found.tables.get((Family.PAIR, pair_subject(first, second)), {})
    requests, own = sum(statuses.values()), copies[found.candidate.version]
    largest = max(found.shares.values())
    share = found.shares[found.candidate.version] / largest if largest else 0.0
    return check([own, requests - own], [share, 1 - share])


def _storing(found: Findings) -> RatioCheck | None:
    """Of the copies of all candidates that are compared, those that were counted: each should keep the same share.

    Who has no comparison at all is beside nobody in any of them, and says nothing of the others' samples.
    """
    kept = _kept(found)
    version = found.candidate.version
    if len(kept) < 2 or version not in kept:
        return None
    counted, copies = kept[version]
    return check(
        [counted, sum(count for count, _ in kept.values()) - counted],
        [copies, sum(count for _, count in kept.values()) - copies],
    )


def _kept(found: Findings) -> Mapping[str, tuple[int, int]]:
    """By candidate that is compared: its comparisons that count, and its copies that were meant to be sent.

    Repeated inputs are not, nor is what was withheld on purpose: that is no fault of storing.
    """
    outcomes = {version: found.tables.get((Family.OUTCOME, version), {}) for version in found.candidates}
    kept = {
        version: (
            sum(counts.get(outcome, 0) for outcome in COUNTED),
            sum(counts.values()) - counts.get(Outcome.DUPLICATE, 0) - _withheld(found, version),
        )
        for version, counts in outcomes.items()
    }
    return {version: numbers for version, numbers in kept.items() if numbers[0]}


def _withheld(found: Findings, version: str) -> int:
    reasons = found.tables.get((Family.DROPPED_REASON, version), {})
    return sum(count for reason, count in reasons.items() if reason in ON_PURPOSE)


def _most_lost(found: Findings) -> str:
    """Whose copies end in a comparison least often; the alarm rings for everybody who is held against them."""
    kept = _kept(found)
    return min(kept, key=lambda version: kept[version][0] / kept[version][1])


def _copies(found: Findings) -> Mapping[str, int]:
    """How many requests each candidate was meant to get a copy of."""
    tables = found.tables
    return {version: sum(tables.get((Family.OUTCOME, version), {}).values()) for version in found.candidates}


def _ratio(checked: RatioCheck) -> str:
    e = math.exp(min(checked.log_evidence, 700.0))
    return f"gap {wording.percent(checked.gap)}, e = {'∞' if math.isinf(checked.log_evidence) else format(e, '.3g')}"


def drift(found: Findings) -> Gate:
    """Whether some hour diverges from the hours before it, either way."""
    name, bound = GateName.DRIFT, "evidence below 2160: about one false alarm in 90 days"
    hours = _hours(found)
    alarm, evidence = first_alarm([bad for _, bad, _ in hours], [n for _, _, n in hours])
    if alarm is None and not math.isfinite(evidence):
        remedy = "requests in a second hour; until then there is nothing to compare hours by"
        return wording.nothing_yet(name, bound, number="no second hour yet", remedy=remedy)
    if alarm is None:
        strongest = f"strongest evidence {math.exp(evidence):.3g} in {len(hours)} hours"
        return Gate(name=name, state=GateState.PASS, number=strongest, bound=bound)
    # The time, and not the place in the row: nights without requests, and windows, would have people count.
    hour = wording.moment(hours[alarm.hour][0])
    way = "rose" if alarm.rising else "fell"
    before, then = wording.percent(alarm.before), wording.percent(alarm.then)
    return Gate(
        name=name,
        state=GateState.FAIL,
        number=f"{hour}: divergence {way} from {before} to {then}",
        bound=bound,
        remedy="find out what changed then; start anew, so that its figures do not mix with those before",
    )


def drift_alarm(buckets: Mapping[int, Tables], version: str, *, bucket_seconds: int) -> Alarm | None:
    """The hour that is unlike those before it, for whoever has no use for the gate's words; None without one.

    Args:
        buckets: counts of outcomes by the start of the time bucket, seconds since the Unix epoch.
        version: the candidate.
        bucket_seconds: the buckets' width.
    """
    hours = _hours_of(buckets, version, bucket_seconds)
    return first_alarm([bad for _, bad, _ in hours], [n for _, _, n in hours])[0]


def _hours(found: Findings) -> list[tuple[int, int, int]]:
    return _hours_of(found.hours, found.candidate.version, found.bucket_seconds)


def _hours_of(buckets: Mapping[int, Tables], version: str, bucket_seconds: int) -> list[tuple[int, int, int]]:
    """(start, bad, n) of the candidate for each hour, or for each bucket where those are longer, oldest first."""
    period = max(HOUR, bucket_seconds)
    hours: dict[int, tuple[int, int]] = {}
    for bucket, tables in sorted(buckets.items()):
        outcomes, start = tables.get((Family.OUTCOME, version), {}), bucket // period * period
        bad, n = hours.get(start, (0, 0))
        hours[start] = (
            bad + sum(outcomes.get(outcome, 0) for outcome in BAD),
            n + sum(outcomes.get(outcome, 0) for outcome in COUNTED),
        )
    return [(start, bad, n) for start, (bad, n) in hours.items()]
