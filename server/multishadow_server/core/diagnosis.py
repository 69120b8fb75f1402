"""What is wrong with a comparison, named: the comparator, a shadow that is dead, one that drifts, one kind of request.

The limits are those of the alarms (`alarm_rules`), where there is one for the same: a report calls nothing a fault that
an alarm would let pass. What was proven to be systematic comes from the tests that gates look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core.advice import DEAD_AFTER, listed
from multishadow_server.core.alarm_rules import AS_TOLD, COMPARISON_CRASHES, NOT_ITS_OWN, AlarmLimits
from multishadow_server.core.findings import NoiseFloor, PairReport
from multishadow_server.core.rollup import Family
from multishadow_server.core.segment_report import Segment
from multishadow_server.core.statistics.drift import Alarm
from multishadow_server.core.week_counts import Bucket, Categories, categories, summed
from multishadow_server.core.week_words import minute, per_cent
from multishadow_server.core.withheld import CIRCUIT_OPEN

LIMITS = AlarmLimits()
# Versions that are meant to take over hardly ever differ on nearly all; comparators that read the wrong thing do.
NEARLY_ALL = 0.9
# A live version that differs from itself so often makes every figure beside it doubtful.
LOUD_NOISE = 0.1
IN_FLIGHT_LIMIT = "in_flight_limit"
MOST_SEGMENTS = 3
NOTEWORTHY_TIMEOUTS = 0.01


class Fault(StrEnum):
    """What can be wrong, the most fundamental first: what stands further up may be the cause of what follows."""

    COMPARATOR_FAILING = "comparator failing"
    COMPARATOR_DOUBTFUL = "comparator doubtful"
    SHADOW_DEAD = "shadow dead"
    SHADOW_SILENT = "shadow silent"
    DROPS = "copies dropped"
    DRIFT = "drift"
    SEGMENT = "one kind of request"
    TIMEOUTS = "timeouts"
    BURSTS = "bursts"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """One fault.

    Args:
        fault: which.
        versions: whose.
        said: what is wrong, in a sentence for everybody.
        meaning: what follows from it, or what may be behind it; may be empty.
        evidence: the numbers that it is seen by, and the rule.
        remedy: what to do.
    """

    fault: Fault
    versions: tuple[str, ...]
    said: str
    meaning: str = ""
    evidence: str
    remedy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A change of the divergence rate that rang.

    Args:
        at: start of the hour, seconds since the Unix epoch.
        until: its end.
        alarm: what rang.
    """

    at: int
    until: int
    alarm: Alarm


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """The longest time in which a candidate answered nothing.

    Args:
        since, until: seconds since the Unix epoch, to the bucket.
        calls: failed ones in it.
        over: whether it answered afterwards.
    """

    since: int
    until: int
    calls: int
    over: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """What is known of one candidate.

    Args:
        version: its name.
        categories: of the week.
        buckets: of the week.
        epoch_buckets: of the epoch so far.
        alerts: segments that e-BH made discoveries, of the epoch so far.
        bad: of the epoch so far; what the alerts are parts of.
        drift: the first change of the rate that rang in the epoch so far; None without.
    """

    version: str
    categories: Categories
    buckets: Sequence[Bucket]
    epoch_buckets: Sequence[Bucket]
    alerts: Sequence[Segment]
    bad: int
    drift: Drift | None


def diagnose(
    suspects: Sequence[Suspect],
    *,
    live: str,
    bucket_seconds: int,
    noise: NoiseFloor | None,
    pairs: Sequence[PairReport],
) -> tuple[Diagnosis, ...]:
    """What is wrong, the most fundamental first.

    Args:
        suspects: every candidate of an epoch.
        live: the live version.
        bucket_seconds: width of the epoch's time buckets.
        noise: how often the live version differs from itself, where that is measured.
        pairs: of the candidates; they tell of bursts.
    """
    found = [*_comparator(suspects, live, noise), *_bursts(pairs)]
    for suspect in suspects:
        outage = longest_outage(suspect.buckets, suspect.version, bucket_seconds)
        found += [
            *_dead(suspect, outage),
            *_silent(suspect, bucket_seconds),
            *_drops(suspect),
            *_drift(suspect, bucket_seconds),
            *_segments(suspect),
            *_timeouts(suspect, outage),
        ]
    order = list(Fault)
    return tuple(sorted(found, key=lambda each: order.index(each.fault)))


def longest_outage(buckets: Sequence[Bucket], version: str, bucket_seconds: int) -> Outage | None:
    """The longest outage in these buckets; one that is not over comes first."""
    found = outages(buckets, version, bucket_seconds)
    return max(found, key=lambda each: (not each.over, each.calls), default=None)


def outages(buckets: Sequence[Bucket], version: str, bucket_seconds: int) -> Sequence[Outage]:
    """Stretches of buckets with failed calls and without an answer, of `DEAD_AFTER` calls or more; oldest first."""
    stretches: list[Outage] = []
    since, until, calls = 0, 0, 0
    for bucket in buckets:
        seen = categories([bucket], version)
        tried = _tried(seen, summed([bucket], Family.DROPPED_REASON, version))
        if seen.answered:
            if calls:
                stretches.append(Outage(since=since, until=until, calls=calls, over=True))
            calls = 0
        elif tried:
            since = since if calls else bucket.starts_at
            until, calls = bucket.starts_at + bucket_seconds, calls + tried
    if calls:
        stretches.append(Outage(since=since, until=until, calls=calls, over=False))
    return [each for each in stretches if each.calls >= DEAD_AFTER]


def _tried(seen: Categories, dropped: Mapping[str, int]) -> int:
    """Calls that gave nothing, and those that were not made because so many gave nothing."""
    return seen.failed + dropped.get(CIRCUIT_OPEN, 0) + dropped.get(IN_FLIGHT_LIMIT, 0)


# --- the comparator -----------------------------------------------------------------------------------------------


def _comparator(suspects: Sequence[Suspect], live: str, noise: NoiseFloor | None) -> Iterator[Diagnosis]:
    failing = [suspect for suspect in suspects if _unreadable(suspect)]
    if failing:
        yield _failing(failing, alone=len(failing) < len([each for each in suspects if each.categories.answered]))
    loud = noise is not None and noise.n >= LIMITS.least_counted and noise.divergence.lower >= LOUD_NOISE
    if noise is not None and loud:
        yield Diagnosis(
            fault=Fault.COMPARATOR_DOUBTFUL,
            versions=(),
            said=(
                f"{live} differs from itself on {per_cent(noise.divergence.estimate)} of the requests that it was "
                "asked twice."
            ),
            meaning="The comparator calls different what is the same, or the model answers by chance; no candidate's "
            "divergence means anything until that is settled.",
            evidence=f"noise floor: {noise.diverged + noise.failed:,} of {noise.n:,}, at least "
            f"{per_cent(noise.divergence.lower)} proven; rule: at least {per_cent(LOUD_NOISE)} proven",
            remedy="look at agreeing and diverging pairs (`shadowctl review list`), then change the comparator "
            "(`ignored_fields`, `threshold`, `output`; `shadowctl calibrate` proposes a threshold)",
        )
    differing = [suspect for suspect in suspects if _differs_always(suspect)]
    if differing and not loud and len(differing) == len([each for each in suspects if each.categories.compared]):
        yield _differing(differing, live)


def _unreadable(suspect: Suspect) -> bool:
    answered = suspect.categories.answered
    crashed = sum(
        count
        for reason, count in summed(suspect.buckets, Family.UNCOMPARABLE_REASON, suspect.version).items()
        if reason in COMPARISON_CRASHES
    )
    crashing = crashed >= LIMITS.least_crashes and crashed >= LIMITS.crashes * answered
    share = suspect.categories.uncomparable >= LIMITS.uncomparable * answered
    return crashing or (answered >= LIMITS.least_counted and share)


def _failing(failing: Sequence[Suspect], *, alone: bool) -> Diagnosis:
    versions = tuple(suspect.version for suspect in failing)
    reasons: Counter[str] = Counter()
    for suspect in failing:
        reasons.update(summed(suspect.buckets, Family.UNCOMPARABLE_REASON, suspect.version))
    answered = sum(suspect.categories.answered for suspect in failing)
    count = sum(suspect.categories.uncomparable for suspect in failing)
    cause = (
        "Answers of other candidates can be compared, so look at what these answer first"
        if alone
        else "That holds for every candidate, so look at the comparator before you look at them"
    )
    return Diagnosis(
        fault=Fault.COMPARATOR_FAILING,
        versions=versions,
        said=(
            f"The comparator cannot read what it compares: {per_cent(count / max(answered, 1))} of the answers of "
            f"{listed(versions)} could not be compared with live's."
        ),
        meaning=f"{cause}. What is left says little about them.",
        evidence=f"{count:,} of {answered:,} answers uncomparable ({_ranked(reasons)}); rule: at least "
        f"{per_cent(LIMITS.uncomparable)}, or {per_cent(LIMITS.crashes)} comparisons that crashed",
        remedy="see that both versions give the same kind of answer and that the model's `comparator` (its `output`, "
        "for Open Inference Protocol models) names what is there; `shadowctl compare` lists the reasons",
    )


def _differs_always(suspect: Suspect) -> bool:
    seen = suspect.categories
    answered = seen.agreed + seen.slow + seen.disagreed
    return answered >= LIMITS.least_counted and seen.disagreed >= NEARLY_ALL * answered


def _differing(differing: Sequence[Suspect], live: str) -> Diagnosis:
    versions = tuple(suspect.version for suspect in differing)
    shares = ", ".join(
        f"{suspect.version} {suspect.categories.disagreed:,} of "
        f"{suspect.categories.agreed + suspect.categories.slow + suspect.categories.disagreed:,}"
        for suspect in differing
    )
    which = "it differs" if len(versions) == 1 else "they all differ"
    return Diagnosis(
        fault=Fault.COMPARATOR_DOUBTFUL,
        versions=versions,
        said=(f"{listed(versions)}: {which} from {live} on nearly every request."),
        meaning="A comparator that compares the wrong thing (a timestamp, a request id, texts too strictly) looks like "
        "this far more often than models do.",
        evidence=f"disagreeing answers: {shares}; rule: at least {per_cent(NEARLY_ALL)} of the answers of every one",
        remedy="look at some pairs (`shadowctl review list`, `shadowctl review show ID`); put what may differ into "
        "`ignored_fields`, and start the next experiment with `--noise-floor`, which tells the comparator from the "
        "candidates",
    )


# --- shadows ------------------------------------------------------------------------------------------------------


def _dead(suspect: Suspect, outage: Outage | None) -> Iterator[Diagnosis]:
    if outage is None:
        return
    version, seen = suspect.version, suspect.categories
    reasons = Counter(summed(suspect.buckets, Family.ERROR_REASON, version))
    reasons["timeout"] += seen.timeout
    when = f"from {minute(outage.since)} to {minute(outage.until)}" if outage.over else f"since {minute(outage.since)}"
    is_dead = f"{version} was dead {when}" if outage.over else f"{version} is dead"
    span = "in that time" if outage.over else ("all week" if not seen.answered else when)
    yield Diagnosis(
        fault=Fault.SHADOW_DEAD,
        versions=(version,),
        said=(f"{is_dead}: it answered none of {outage.calls:,} calls {span}."),
        meaning="Failed calls count as divergence, so its rate tells how long it was away, and not how it answers.",
        evidence=f"{outage.calls:,} calls without an answer ({_ranked(+reasons)}), {seen.answered:,} answers in the "
        f"week; rule: {DEAD_AFTER} failed calls with no answer among them",
        remedy=f"check that {version} runs and that its address is right (`shadowctl get versions`, `shadowctl "
        "probes`), then start anew, so that the outage does not count against it",
    )


def _silent(suspect: Suspect, bucket_seconds: int) -> Iterator[Diagnosis]:
    """No copies, while captures went on: nothing was observed of it, no failure and no drop."""
    captures = [(bucket, bucket.tables.get((Family.LIVE, ""), {}).get("answered", 0)) for bucket in suspect.buckets]
    seen = [bucket.starts_at for bucket in suspect.buckets if bucket.tables.get((Family.OUTCOME, suspect.version))]
    last = max(seen, default=None)
    missed = sum(count for bucket, count in captures if last is None or bucket.starts_at > last)
    if missed < LIMITS.least_copies:
        return
    since = "all week" if last is None else f"since {minute(last + bucket_seconds)}"
    yield Diagnosis(
        fault=Fault.SHADOW_SILENT,
        versions=(suspect.version,),
        said=f"{suspect.version} got no copy {since}, while {missed:,} requests were sampled: nobody asked it "
        "anything.",
        evidence=f"0 observations beside {missed:,} sampled requests; rule: {LIMITS.least_copies:.0f} of them or more",
        remedy="see what its flag says (`shadowctl get flags`), and that it was not paused or set to `off`",
    )


def _drops(suspect: Suspect) -> Iterator[Diagnosis]:
    reasons = Counter(
        {
            reason: count
            for reason, count in summed(suspect.buckets, Family.DROPPED_REASON, suspect.version).items()
            if reason not in NOT_ITS_OWN | AS_TOLD | {CIRCUIT_OPEN, IN_FLIGHT_LIMIT}
        }
    )
    seen, lost = suspect.categories, reasons.total()
    copies = seen.compared + seen.uncomparable + lost
    if copies >= LIMITS.least_counted and lost >= LIMITS.dropped * copies:
        yield Diagnosis(
            fault=Fault.DROPS,
            versions=(suspect.version,),
            said=f"{per_cent(lost / copies)} of the copies for {suspect.version} were lost before anybody was called.",
            evidence=f"{lost:,} of {copies:,} copies: {_ranked(reasons)}; rule: at least {per_cent(LIMITS.dropped)}",
            remedy="`shadowctl status` tells what falls behind: add workers, or sample less",
        )


def _timeouts(suspect: Suspect, outage: Outage | None) -> Iterator[Diagnosis]:
    seen = suspect.categories
    enough = seen.timeout >= DEAD_AFTER and seen.timeout >= NOTEWORTHY_TIMEOUTS * seen.compared
    if enough and outage is None:
        yield Diagnosis(
            fault=Fault.TIMEOUTS,
            versions=(suspect.version,),
            said=f"{suspect.version} did not answer in time on {per_cent(seen.timeout / seen.compared)} of the "
            "requests.",
            evidence=f"{seen.timeout:,} of {seen.compared:,} comparisons; rule: {per_cent(NOTEWORTHY_TIMEOUTS)} and "
            f"{DEAD_AFTER} calls",
            remedy="give it more replicas or a longer `timeout_ms`, and compare its latency (`shadowctl compare`)",
        )


# --- patterns -----------------------------------------------------------------------------------------------------


def _drift(suspect: Suspect, bucket_seconds: int) -> Iterator[Diagnosis]:
    drift = suspect.drift
    if drift is None:
        return
    # A version that is away diverges on everything, and not any more when it is back: no drift of how it answers.
    away = outages(suspect.epoch_buckets, suspect.version, bucket_seconds)
    if any(each.since < drift.until and drift.at <= each.until for each in away):
        return
    alarm, version = drift.alarm, suspect.version
    way = "more" if alarm.rising else "less"
    meaning = (
        "Something changed then: in the version, in what it reads, or in what callers send"
        if alarm.rising
        else "That is no good news by itself: a version that answers from a cache, or copies the live answer, looks "
        "like this"
    )
    yield Diagnosis(
        fault=Fault.DRIFT,
        versions=(version,),
        said=(
            f"{version} is drifting: from {minute(drift.at)} on it diverges {way} than before, on "
            f"{per_cent(alarm.then)} of requests after {per_cent(alarm.before)}."
        ),
        meaning=f"{meaning}.",
        evidence=f"e-detector over hours, both ways (`statistics/drift.py`): rang at {minute(drift.at)}; rule: "
        "evidence of 2160, about one false alarm in 90 days",
        remedy="find out what changed then (`shadowctl audit`, deployments, upstream data), then start anew: figures "
        "from before and after do not belong together",
    )


def _segments(suspect: Suspect) -> Iterator[Diagnosis]:
    """The strongest level of each feature on which it is worse than elsewhere."""
    worse: dict[str, Segment] = {}
    for segment in suspect.alerts:
        if segment.rest_rate is not None and segment.rate.estimate > segment.rest_rate:
            worse.setdefault(segment.feature, segment)
    for segment in list(worse.values())[:MOST_SEGMENTS]:
        bad = segment.diverged + segment.failed
        assert segment.rest_rate is not None
        where = f"{segment.feature} = {segment.level}"
        yield Diagnosis(
            fault=Fault.SEGMENT,
            versions=(suspect.version,),
            said=(
                f"{suspect.version} is bad on one kind of request: where {where} it diverges on "
                f"{per_cent(segment.rate.estimate)}, elsewhere on {per_cent(segment.rest_rate)}."
            ),
            meaning=f"{per_cent(bad / max(suspect.bad, 1))} of all its divergence is there.",
            evidence=f"{bad:,} of {segment.n:,} comparisons there, {suspect.bad - bad:,} elsewhere; ln evidence "
            f"{segment.log_evidence:.1f}, e-BH over all segments",
            remedy=f"`shadowctl segments {suspect.version}` shows all kinds; look at the cases below, and train or "
            "route for these requests",
        )


def _bursts(pairs: Iterable[PairReport]) -> Iterator[Diagnosis]:
    for pair in pairs:
        if pair.overdispersed and pair.dispersion is not None:
            yield Diagnosis(
                fault=Fault.BURSTS,
                versions=(pair.first, pair.second),
                said=f"{pair.first} and {pair.second} differ in bursts, not evenly.",
                meaning="Some hours hold far more of it than chance would put there, so figures of this pair are surer "
                "of themselves than they should be.",
                evidence=f"variance {pair.dispersion:.2g} times that of independent requests (`statistics/"
                "dispersion.py`); rule: above 1.5, and less likely by chance than 1 in 1,000",
                remedy="look for repeated or related requests (`shadowctl segments`), or rank by sessions",
            )


def _ranked(reasons: Mapping[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason or 'unknown'}" for reason, count in ordered[:5]) or "no reason was told"
