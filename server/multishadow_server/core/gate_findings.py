"""What each gate finds in an epoch's counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from multishadow_server.core.advice import listed
from multishadow_server.core.experiment import in_words
from multishadow_server.core.findings import CandidateReport, Report, State
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Attestation, Awaits, Gate, GateName, GateState, Record
from multishadow_server.core.observation import BAD, COUNTED, Outcome
from multishadow_server.core.reviews import TOP
from multishadow_server.core.rollup import Family, Tables, pair_subject
from multishadow_server.core.segment_report import SegmentReport
from multishadow_server.core.statistics import drift, quantiles, sample_ratio, sequences
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.statistics.non_inferiority import LabelledPair
from multishadow_server.core.statistics.sample_ratio import RatioCheck

HOUR = 3_600
MOST_NAMED = 3
_ATTEST = "`shadowctl attest {version} {what} --note TEXT`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What the gates of one candidate look at.

    Args:
        report: on all candidates of the epoch.
        candidate: the one in question.
        tables: the epoch's counts.
        hours: the same by the start of the time bucket, seconds since the Unix epoch, oldest first.
        bucket_seconds: the buckets' width.
        candidates: the epoch's, in its order.
        collected_for: seconds since the epoch's first capture, see `experiment.collected_for`.
        shares: share of requests that each candidate should get copies of, by name; None when that is not known, or
            was changed within the epoch.
        labels: the candidate beside the live version on labelled requests that are old enough.
        segments: the candidate by kinds of request.
        divergent_samples: stored comparisons in which the candidate diverged or failed.
        reviewed: how many of the ten least similar of them have a verdict of a person.
        serving: whether it answers callers already, in a rollout.
        attested: what people vouched for, by what it is.
    """

    report: Report
    candidate: CandidateReport
    tables: Tables
    hours: Mapping[int, Tables]
    bucket_seconds: int
    candidates: Sequence[str]
    collected_for: float
    shares: Mapping[str, float] | None
    labels: LabelledPair
    segments: SegmentReport
    divergent_samples: int
    reviewed: int
    serving: bool
    attested: Mapping[str, Record]

    @property
    def log_threshold(self) -> float:
        """Ln of the evidence that proves one of k candidates' figures."""
        return math.log(max(len(self.candidates), 1) / self.report.alpha)


def find(found: Findings, limits: GateLimits) -> Iterator[Gate]:
    """Every gate of a candidate, in the order of GateName."""
    yield _minimum_duration(found, limits)
    yield _divergence(found, limits)
    yield _best_set(found)
    yield _quality(found, limits)
    yield _latency(found, limits)
    yield _failures(found, limits)
    yield _completeness(found, limits)
    yield _sample_ratio(found)
    yield _drift(found)
    yield _segments(found)
    yield _divergent_samples(found, limits)
    yield _top_reviewed(found)
    yield _recorded(found, GateName.COST, Attestation.COST, "what the candidate costs to run")
    yield _recorded(found, GateName.ROLLBACK_PLAN, Attestation.ROLLBACK_PLAN, "who rolls back, when and how")


def _minimum_duration(found: Findings, limits: GateLimits) -> Gate:
    missing = limits.minimum_duration - found.collected_for
    return Gate(
        name=GateName.MINIMUM_DURATION,
        state=GateState.PASS if missing <= 0 else GateState.UNKNOWN,
        number=_span(found.collected_for),
        bound=f"at least {in_words(limits.minimum_duration)}",
        remedy="" if missing <= 0 else f"{_span(missing, up=True)} more",
        awaits=Awaits.TIME,
    )


def _divergence(found: Findings, limits: GateLimits) -> Gate:
    name, bound = GateName.DIVERGENCE, f"proven below {_percent(limits.divergence)}"
    rate = found.candidate.divergence
    if rate is None:
        return _not_compared(name, bound)
    number = f"{_percent(rate.estimate)}, between {_at_least(rate.lower)} and {_at_most(rate.upper)}"
    if found.candidate.rate_moved:
        # A mean of before and after a change proves nothing: an outage ends, and a candidate that broke is broken.
        return Gate(
            name=name,
            state=GateState.UNKNOWN if rate.lower < limits.divergence else GateState.FAIL,
            number=f"{number}; it changed over time",
            bound=bound,
            remedy="find out what changed, then start anew",
            awaits=Awaits.PEOPLE,
        )
    if rate.upper < limits.divergence:
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    if rate.lower < limits.divergence:
        return Gate(name=name, state=GateState.UNKNOWN, number=number, bound=bound, remedy="more requests")
    final = found.candidate.band_proven is Band.DO_NOT_ROLL_OUT
    return Gate(
        name=name, state=GateState.FAIL, number=number, bound=bound, remedy=_of_divergence(final=final), final=final
    )


def _of_divergence(*, final: bool) -> str:
    return "another candidate" if final else "find out what diverges; if it is meant to, waive this with the reason"


def _best_set(found: Findings) -> Gate:
    name, bound = GateName.BEST_SET, "the best, or proven equivalent to the best"
    version = found.candidate.version
    best = [candidate.version for candidate in found.report.candidates if candidate.in_best_set]
    if not found.candidate.ranked:
        return _not_compared(name, bound)
    number = f"best set: {listed(best)}"
    if version not in best:
        return Gate(
            name=name,
            state=GateState.FAIL,
            number=number,
            bound=bound,
            remedy=f"promote {listed(best, 'or')} instead",
            # Who lost by an outage may win without it.
            final=not found.candidate.rate_moved,
        )
    if len(found.candidates) == 1 or found.report.state is State.DECIDED:
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    return Gate(name=name, state=GateState.UNKNOWN, number=number, bound=bound, remedy=_more_requests(found))


def _more_requests(found: Findings) -> str:
    """What decides the candidate's open pairs."""
    needed = [
        pair.requests_needed
        for pair in found.report.pairs
        if found.candidate.version in (pair.first, pair.second) and pair.requests_needed is not None
    ]
    return f"roughly {max(needed):,} more requests at the present rates" if needed else "more requests"


def _quality(found: Findings, limits: GateLimits) -> Gate:
    name, margin = GateName.QUALITY, 100 * limits.inferiority
    bound = f"proven less than {margin:g} pp below live, or acknowledged as agreement only"
    acknowledged = found.attested.get(Attestation.AGREEMENT_ONLY)
    labels = found.labels
    number = (
        f"accuracy {100 * labels.difference:+.2f} pp to live on {labels.n:,} labelled requests"
        if labels.n
        else "no labels"
    )
    if labels.n and labels.log_worse(limits.inferiority) >= found.log_threshold:
        remedy = "a candidate that is right more often"
        return Gate(name=name, state=GateState.FAIL, number=number, bound=bound, remedy=remedy, final=True)
    proven = labels.n and labels.log_not_worse(limits.inferiority) >= found.log_threshold
    if proven or acknowledged:
        return Gate(
            name=name,
            state=GateState.PASS,
            number=number if proven or not acknowledged else f"{number}; agreement only",
            bound=bound,
            attestation=None if proven else acknowledged,
        )
    attest = _ATTEST.format(version=found.candidate.version, what=Attestation.AGREEMENT_ONLY)
    return Gate(
        name=name,
        state=GateState.UNKNOWN,
        number=number,
        bound=bound,
        remedy=f"more labels, or {attest}",
        awaits=Awaits.EVIDENCE if labels.n else Awaits.PEOPLE,
    )


def _latency(found: Findings, limits: GateLimits) -> Gate:
    name, version = GateName.LATENCY, found.candidate.version
    tables, threshold = found.tables, math.log(2 / found.report.alpha)
    timed = tables.get((Family.LATENCY, version), {})
    own = quantiles.p99(timed, log_threshold=threshold)
    live = quantiles.p99(tables.get((Family.LIVE_LATENCY, version), {}), log_threshold=threshold)
    state = GateState.UNKNOWN
    if own[1] <= limits.latency_ratio * live[0] and math.isfinite(own[1]):
        state = GateState.PASS
    elif own[0] > limits.latency_ratio * live[1]:
        state = GateState.FAIL
    remedy = {
        GateState.PASS: "",
        GateState.FAIL: "make it faster, or give it more replicas",
        GateState.UNKNOWN: "more requests",
    }
    return Gate(
        name=name,
        state=state,
        number=f"p99 {_milliseconds(own)} beside live's {_milliseconds(live)}" if timed else "no answer was timed yet",
        bound=f"at most {limits.latency_ratio:g} times live's p99",
        remedy=remedy[state],
        # A shadow is called by a worker, on other machines and under other load than a live version is.
        advisory=not found.serving,
    )


def _failures(found: Findings, limits: GateLimits) -> Gate:
    name, bound = GateName.FAILURES, f"proven below {_percent(limits.failures)}"
    candidate = found.candidate
    if not candidate.n:
        return _not_compared(name, bound)
    failed = candidate.errors + candidate.timeouts
    lower, upper = sequences.rate(
        bad=np.array([float(failed)]), n=np.array([float(candidate.n)]), log_threshold=found.log_threshold
    )
    number = f"{failed:,} of {candidate.n:,} calls failed, at most {_at_most(float(upper[0]))} proven"
    if upper[0] < limits.failures:
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    failing = bool(lower[0] >= limits.failures)
    return Gate(
        name=name,
        state=GateState.FAIL if failing else GateState.UNKNOWN,
        number=number,
        bound=bound,
        remedy="repair what fails, then start anew" if failing else "more requests",
    )


def _completeness(found: Findings, limits: GateLimits) -> Gate:
    name, bound = GateName.COMPLETENESS, f"at least {_percent(limits.completeness)} of the copies"
    if not found.candidate.n + found.candidate.uncomparable + found.candidate.dropped:
        return _not_compared(name, bound)
    complete = found.candidate.completeness >= limits.completeness
    return Gate(
        name=name,
        state=GateState.PASS if complete else GateState.FAIL,
        number=f"{_at_least(found.candidate.completeness)} ended in a comparison",
        bound=bound,
        remedy="" if complete else "see why copies are dropped or uncomparable; `shadowctl compare` names the reasons",
    )


def _sample_ratio(found: Findings) -> Gate:
    name, bound = GateName.SAMPLE_RATIO, f"e < 1000, or a gap of at most {_percent(sample_ratio.SMALLEST_GAP)}"
    if not found.candidate.n:
        return _not_compared(name, bound)
    if len(found.candidates) < 2:
        number = "one candidate: no other to hold its share against"
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    stages = {"assigned": _assignment(found), "stored": _storing(found)}
    ringing = [stage for stage, check in stages.items() if check is not None and check.rings]
    numbers = "; ".join(
        f"{stage}: {'not to be tested' if check is None else _ratio(check)}" for stage, check in stages.items()
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
    return sample_ratio.check([own, requests - own], [share, 1 - share])


def _storing(found: Findings) -> RatioCheck | None:
    """Of the copies of all candidates that are compared, those that were counted: each should keep the same share.

    Who has no comparison at all is beside nobody in any of them, and says nothing of the others' samples.
    """
    kept = _kept(found)
    version = found.candidate.version
    if len(kept) < 2 or version not in kept:
        return None
    counted, copies = kept[version]
    return sample_ratio.check(
        [counted, sum(count for count, _ in kept.values()) - counted],
        [copies, sum(count for _, count in kept.values()) - copies],
    )


def _kept(found: Findings) -> Mapping[str, tuple[int, int]]:
    """By candidate that is compared: its comparisons that count, and its copies but for repeated inputs."""
    outcomes = {version: found.tables.get((Family.OUTCOME, version), {}) for version in found.candidates}
    kept = {
        version: (
            sum(counts.get(outcome, 0) for outcome in COUNTED),
            sum(counts.values()) - counts.get(Outcome.DUPLICATE, 0),
        )
        for version, counts in outcomes.items()
    }
    return {version: numbers for version, numbers in kept.items() if numbers[0]}


def _most_lost(found: Findings) -> str:
    """Whose copies end in a comparison least often; the alarm rings for everybody who is held against them."""
    kept = _kept(found)
    return min(kept, key=lambda version: kept[version][0] / kept[version][1])


def _copies(found: Findings) -> Mapping[str, int]:
    """How many requests each candidate was meant to get a copy of."""
    tables = found.tables
    return {version: sum(tables.get((Family.OUTCOME, version), {}).values()) for version in found.candidates}


def _ratio(check: RatioCheck) -> str:
    e = math.exp(min(check.log_evidence, 700.0))
    return f"gap {_percent(check.gap)}, e = {'∞' if math.isinf(check.log_evidence) else format(e, '.3g')}"


def _drift(found: Findings) -> Gate:
    name, bound = GateName.DRIFT, "evidence below 2160: about one false alarm in 90 days"
    hours = _hours(found)
    alarm, evidence = drift.first_alarm([bad for bad, _ in hours.values()], [n for _, n in hours.values()])
    if alarm is None:
        strongest = (
            f"strongest evidence {math.exp(evidence):.3g} in {len(hours)} hours"
            if math.isfinite(evidence)
            else "no second hour yet"
        )
        return Gate(name=name, state=GateState.PASS, number=strongest, bound=bound)
    way = "rose" if alarm.rising else "fell"
    return Gate(
        name=name,
        state=GateState.FAIL,
        number=f"hour {alarm.hour + 1} ({_moment(list(hours)[alarm.hour])}): divergence {way} "
        f"from {_percent(alarm.before)} to {_percent(alarm.then)}",
        bound=bound,
        remedy="find out what changed then; start anew, so that its figures do not mix with those before",
    )


def _hours(found: Findings) -> Mapping[int, tuple[int, int]]:
    """(bad, n) of the candidate by the start of the hour, or of the bucket where those are longer, oldest first."""
    period = max(HOUR, found.bucket_seconds)
    hours: dict[int, tuple[int, int]] = {}
    for bucket, tables in sorted(found.hours.items()):
        outcomes, start = tables.get((Family.OUTCOME, found.candidate.version), {}), bucket // period * period
        bad, n = hours.get(start, (0, 0))
        hours[start] = (
            bad + sum(outcomes.get(outcome, 0) for outcome in BAD),
            n + sum(outcomes.get(outcome, 0) for outcome in COUNTED),
        )
    return hours


def _segments(found: Findings) -> Gate:
    known = found.segments.segments
    worse = [
        each for each in known if each.alert and each.rest_rate is not None and each.rate.estimate > each.rest_rate
    ]
    named = ", ".join(
        f"{each.feature} {each.level}: {_percent(each.rate.estimate)} beside {_percent(each.rest_rate or 0.0)}"
        for each in worse[:MOST_NAMED]
    )
    more = f" and {len(worse) - MOST_NAMED} more" if len(worse) > MOST_NAMED else ""
    version = found.candidate.version
    return Gate(
        name=GateName.SEGMENTS,
        state=GateState.FAIL if worse else GateState.PASS,
        number=named + more if worse else f"none of {len(known):,}" if known else "no kinds of request seen yet",
        bound="no kind of request proven to diverge more than the rest",
        remedy=f"see `shadowctl segments {version}`, and find out why there" if worse else "",
    )


def _divergent_samples(found: Findings, limits: GateLimits) -> Gate:
    bad = found.candidate.n - found.candidate.agreed
    # Who is proven safe may never diverge so often; then all that diverged must be there.
    safe = found.candidate.band is Band.SAFE
    needed = min(limits.divergent_samples, bad) if safe else limits.divergent_samples
    enough = found.divergent_samples >= needed
    return Gate(
        name=GateName.DIVERGENT_SAMPLES,
        state=GateState.PASS if enough else GateState.UNKNOWN,
        number=f"{found.divergent_samples:,} stored" + (f" of {bad:,} that diverged" if safe else ""),
        bound=f"at least {limits.divergent_samples:,}" + (", or all that diverged" if safe else ""),
        remedy="" if enough else "more requests",
    )


def _top_reviewed(found: Findings) -> Gate:
    needed = min(TOP, found.divergent_samples)
    attestation = found.attested.get(Attestation.TOP_REVIEWED)
    done = attestation is not None or (found.candidate.n > 0 and found.reviewed >= needed)
    attest = _ATTEST.format(version=found.candidate.version, what=Attestation.TOP_REVIEWED)
    return Gate(
        name=GateName.TOP_REVIEWED,
        state=GateState.PASS if done else GateState.UNKNOWN,
        number=f"{found.reviewed} of {needed} reviewed",
        bound=f"the {TOP} least similar, or all there are, or an attestation",
        remedy="" if done else f"`shadowctl review list {found.candidate.version}`, or {attest}",
        awaits=Awaits.PEOPLE,
        attestation=attestation,
    )


def _recorded(found: Findings, name: GateName, what: Attestation, bound: str) -> Gate:
    attestation = found.attested.get(what)
    attest = _ATTEST.format(version=found.candidate.version, what=what)
    return Gate(
        name=name,
        state=GateState.PASS if attestation else GateState.UNKNOWN,
        number=attestation.text if attestation else "not recorded",
        bound=bound,
        remedy="" if attestation else attest,
        awaits=Awaits.PEOPLE,
        attestation=attestation,
    )


def _not_compared(name: GateName, bound: str) -> Gate:
    return Gate(
        name=name,
        state=GateState.UNKNOWN,
        number="nothing compared",
        bound=bound,
        remedy="requests that can be compared",
    )


def _span(seconds: float, *, up: bool = False) -> str:
    """In steps that fit its size, so that it reads well; what is missing is rounded up."""
    step = next((step for step in (86_400, 3_600, 60) if seconds >= 2 * step), 1)
    steps = math.ceil(seconds / step) if up else seconds // step
    return in_words(float(max(0, steps) * step))


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _milliseconds(bounds: tuple[float, float]) -> str:
    lower, upper = (1000 * bound for bound in bounds)
    return f"{_three_digits(lower)}–{_three_digits(upper)} ms"


def _three_digits(number: float) -> str:
    if math.isinf(number):
        return "∞"
    return f"{number:.3g}" if number < 999.5 else f"{float(f'{number:.3g}'):,.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _at_least(share: float) -> str:
    """Rounded down: nothing claims more than was proven. What a float may be off by is no step."""
    return f"{math.floor(share * 10_000 + 1e-9) / 100:g} %"


def _at_most(share: float) -> str:
    return f"{math.ceil(share * 10_000 - 1e-9) / 100:g} %"
