"""What raises an alarm: facts in, findings out. See `alarms` for how findings become alarms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from multishadow_server.core import watch_readings
from multishadow_server.core.alarms import AlarmKey, AlarmKind, Finding
from multishadow_server.core.experiment import Epoch, about
from multishadow_server.core.observation import Outcome
from multishadow_server.core.probe_state import ProbeOutcome, ProbeState
from multishadow_server.core.process_standing import Process
from multishadow_server.core.process_standing import missing as missing_processes
from multishadow_server.core.rollup import Family
from multishadow_server.core.watch_readings import Reading
from multishadow_server.core.withheld import BY_CHANCE, PAUSED, WRITES

ANSWERED = (Outcome.OK, Outcome.DIVERGED, Outcome.UNCOMPARABLE)
# A version is not to blame for these.
NOT_ITS_OWN = frozenset({"window_closed", "internal_error", "unknown_version"})
# Nor does anybody need to hear that rates and pauses do what they were made for.
AS_TOLD = BY_CHANCE | {PAUSED, WRITES}
COMPARISON_CRASHES = frozenset({"comparison_failed", "comparison_timeout"})


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmLimits:
    """From where on something is an alarm, and (`_clear`) down to where it stays one.

    Args:
        silent_after: seconds that a shadow may answer nothing.
        least_calls: failed calls that it takes to call a version silent.
        least_copies: copies that must be missing before it is called silent although nobody saw a call.
        window: seconds that shares are taken over.
        least_counted: observations without which a share says nothing.
        uncomparable, uncomparable_clear: share of answers that cannot be compared.
        least_crashes: comparisons that failed or took too long, and `crashes` the share of all answers.
        dropped, dropped_clear: share of copies.
        lag, lag_clear: age in seconds of the oldest capture that a worker has under way.
        stale_after: age of a router's flags in seconds; half of it clears.
        missing_after: seconds without a report after which a process is missing.
        probe_failures: askings that fail one after the other.
    """

    silent_after: float = 15.0
    least_calls: int = 3
    least_copies: float = 30.0
    window: float = 60.0
    least_counted: int = 20
    uncomparable: float = 0.2
    uncomparable_clear: float = 0.1
    least_crashes: int = 3
    crashes: float = 0.01
    dropped: float = 0.05
    dropped_clear: float = 0.02
    lag: float = 60.0
    lag_clear: float = 30.0
    stale_after: float = 10.0
    missing_after: float = 10.0
    probe_failures: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Everything that the rules look at.

    Args:
        now: seconds since the Unix epoch; the store's, as are all times here.
        epochs: those that are open.
        addresses: of versions, by (model, version).
        shares: which share of live requests a version should get copies of, in (0, 1], by (model, version); left out
            where its flag does not tell.
        present: what is counted now.
        recent: the newest reading that is at least `silent_after` old; None when there is none.
        window: likewise for `window`, or as old as there is.
        probes: how versions stand with the model's present probes.
        processes: what processes said last.
        held: alarms that are on.
        acknowledged: since when somebody knows of those of them that somebody knows of.
    """

    now: float
    epochs: Sequence[Epoch] = ()
    addresses: Mapping[tuple[str, str], str] = field(default_factory=dict)
    shares: Mapping[tuple[str, str], float] = field(default_factory=dict)
    present: Reading
    recent: Reading | None = None
    window: Reading | None = None
    probes: Sequence[ProbeState] = ()
    processes: Sequence[Process] = ()
    held: Collection[AlarmKey] = frozenset()
    acknowledged: Mapping[AlarmKey, float] = field(default_factory=dict)


Growth = Counter[tuple[str, str]]


def findings(facts: Facts, limits: AlarmLimits) -> list[Finding]:
    """What is wrong now, at most one finding for each key."""
    found: dict[AlarmKey, Finding] = {}
    for rule in (_silent, _comparators, _version_drops, _router_drops, _probes, _workers, _routers, _missing):
        for finding in rule(facts, limits):
            found.setdefault(finding.key, finding)
    return list(found.values())


# --- shadows ------------------------------------------------------------------------------------------------------


def _silent(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    if facts.recent is None:
        yield from _unknown(facts, AlarmKind.SHADOW_SILENT)
        return
    growth = watch_readings.grown(facts.recent, facts.present, facts.epochs)
    seconds = facts.present.at - facts.recent.at
    for (model, version), counts in growth.items():
        key = AlarmKey(AlarmKind.SHADOW_SILENT, model, version)
        if _outcomes(counts, *ANSWERED):
            continue
        if (calls := _failed_calls(counts)) and sum(calls.values()) >= limits.least_calls:
            why = _listed(calls)
            where = facts.addresses.get((model, version), "")
            yield Finding(
                key=key,
                detail=f"{version} at {where} answered none of {sum(calls.values()):,} calls in {seconds:.0f} s: {why}",
            )
        elif (detail := _nothing_observed(facts, limits, growth, model=model, version=version)) is not None:
            yield Finding(key=key, detail=detail)
        else:
            # Without calls nobody can tell that it is back.
            yield Finding(key=key, known=False)


def _nothing_observed(
    facts: Facts, limits: AlarmLimits, growth: Mapping[tuple[str, str], Growth], *, model: str, version: str
) -> str | None:
    """Words for copies that should be there, and of which nothing is heard at all; None when none are missed.

    Whatever becomes of a copy is an observation, so only a model that has none for any candidate is suspicious. A
    smaller share says less: a session is sampled whole or not at all, so routers must have captured something, too.
    """
    assert facts.recent is not None
    if any(family == Family.OUTCOME for (of, _), counts in growth.items() if of == model for family, _ in counts):
        return None
    if not _collecting(facts, model, version) or _worst_lag(facts, limits) >= limits.silent_after:
        return None
    if not any(process.role == "worker" for process in _alive(facts, limits)):
        return None
    share = facts.shares.get((model, version), 0.0)
    routers = watch_readings.counted_by_routers(facts.recent, facts.present).values()
    if share < 1 and not any(counts["captured"] for counts in routers):
        return None
    # Routers do not say whose they were, so all of them are taken for this model's: less is expected, never more.
    left_out = sum(counts[name] for counts in routers for name in watch_readings.LEFT_OUT)
    requests = watch_readings.requests_between(facts.recent, facts.present, model)
    expected = requests * share - left_out
    if expected < limits.least_copies:
        return None
    return (
        f"{version} should have got about {expected:,.0f} copies of {requests:,} live requests "
        f"({_ago(facts, facts.recent)}), and nothing was observed of any: no failure, no drop"
    )


def _collecting(facts: Facts, model: str, version: str) -> bool:
    """Whether an epoch counted it during all of the time."""
    assert facts.recent is not None
    return any(
        epoch.model == model
        and version in epoch.candidates
        and epoch.opened_at <= facts.recent.at
        # A window that opened a moment ago was closed for most of the time.
        and epoch.collects_at(facts.recent.at)
        and epoch.collects_at(facts.now)
        for epoch in facts.epochs
    )


def _failed_calls(counts: Growth) -> Counter[str]:
    """Calls that gave no answer, and those that were not made because too many of them hung, by reason."""
    calls = Counter({level: n for (family, level), n in counts.items() if family == Family.ERROR_REASON})
    calls["timeout"] += _outcomes(counts, Outcome.TIMEOUT)
    calls["in_flight_limit"] += counts[Family.DROPPED_REASON, "in_flight_limit"]
    return +calls


def _comparators(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    if facts.window is None:
        yield from _unknown(facts, AlarmKind.COMPARATOR_FAILING)
        return
    for (model, version), counts in watch_readings.grown(facts.window, facts.present, facts.epochs).items():
        key = AlarmKey(AlarmKind.COMPARATOR_FAILING, model, version)
        answered = _outcomes(counts, *ANSWERED) + counts[Family.DROPPED_REASON, "internal_error"]
        reasons = Counter({level: n for (family, level), n in counts.items() if family == Family.UNCOMPARABLE_REASON})
        reasons["internal_error"] += counts[Family.DROPPED_REASON, "internal_error"]
        bad, crashed = reasons.total(), sum(reasons[name] for name in (*COMPARISON_CRASHES, "internal_error"))
        held = key in facts.held
        crashing = crashed >= (1 if held else limits.least_crashes) and crashed >= limits.crashes * answered
        most = limits.uncomparable_clear if held else limits.uncomparable
        if crashing or (answered >= limits.least_counted and bad >= most * answered):
            detail = f"{bad:,} of {answered:,} answers of {version} could not be compared: {_listed(+reasons)}"
            yield Finding(key=key, detail=f"{detail} ({_ago(facts, facts.window)})")
        elif answered < limits.least_counted:
            yield Finding(key=key, known=False)


def _version_drops(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    if facts.window is None:
        yield from _unknown(facts, AlarmKind.DROPS)
        return
    for (model, version), counts in watch_readings.grown(facts.window, facts.present, facts.epochs).items():
        key = AlarmKey(AlarmKind.DROPS, model, version)
        reasons = Counter(
            {
                level: n
                for (family, level), n in counts.items()
                if family == Family.DROPPED_REASON and level not in NOT_ITS_OWN | AS_TOLD
            }
        )
        copies = _outcomes(counts, *ANSWERED, Outcome.ERROR, Outcome.TIMEOUT) + reasons.total()
        yield from _share_dropped(facts, limits, key, reasons, copies=copies, what=f"copies for {version}")


def _router_drops(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    """What a router drops while the log is away is in no rollup before it is back."""
    if facts.window is None:
        return
    for instance, counts in watch_readings.counted_by_routers(facts.window, facts.present).items():
        key = AlarmKey(AlarmKind.DROPS, "", instance)
        reasons = Counter(
            {name.removeprefix("dropped."): n for name, n in counts.items() if name.startswith("dropped.") and n}
        )
        captures = counts["captured"] + reasons.total()
        yield from _share_dropped(facts, limits, key, reasons, copies=captures, what=f"captures of {instance}")


def _share_dropped(
    facts: Facts, limits: AlarmLimits, key: AlarmKey, reasons: Counter[str], *, copies: int, what: str
) -> Iterator[Finding]:
    assert facts.window is not None
    dropped = reasons.total()
    most = limits.dropped_clear if key in facts.held else limits.dropped
    if copies < limits.least_counted:
        yield Finding(key=key, known=False)
    elif dropped >= most * copies:
        detail = f"{dropped:,} of {copies:,} {what} were dropped: {_listed(reasons)}"
        yield Finding(key=key, detail=f"{detail} ({_ago(facts, facts.window)})")


# --- probes -------------------------------------------------------------------------------------------------------


def _probes(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    for state in facts.probes:
        subject = f"{state.version}/{state.probe}"
        yield from _changed(facts, state, AlarmKey(AlarmKind.ANSWER_CHANGED, state.model, subject))
        wrong = AlarmKey(AlarmKind.KNOWN_ANSWER_WRONG, state.model, subject)
        if state.outcome is ProbeOutcome.WRONG:
            why = state.detail or state.reason
            told = f"{state.version} at {state.address} does not give the known answer (`live` here): {why}"
            yield Finding(key=wrong, detail=told)
        elif state.outcome is ProbeOutcome.FAILING:
            yield Finding(key=wrong, known=False)
            if state.failures >= limits.probe_failures:
                yield Finding(
                    key=AlarmKey(AlarmKind.PROBE_FAILING, state.model, subject),
                    detail=f"{state.version} at {state.address} failed {state.failures:,} times in a row: "
                    f"{state.reason} {state.detail}".rstrip(),
                )


def _changed(facts: Facts, state: ProbeState, key: AlarmKey) -> Iterator[Finding]:
    """Another implementation answers; until the evidence of the old one is ended, or somebody knows."""
    if state.changed_at is None or not state.unsettled:
        return
    mixed = [
        epoch
        for epoch in facts.epochs
        if epoch.model == state.model
        and state.version in {epoch.live, *epoch.candidates}
        and epoch.opened_at <= state.changed_at
    ]
    newer = any(
        epoch.model == state.model
        and state.version in {epoch.live, *epoch.candidates}
        and epoch.opened_at > state.changed_at
        for epoch in facts.epochs
    )
    if not mixed and (newer or facts.acknowledged.get(key, 0.0) >= state.changed_at):
        return
    times = "" if state.changes == 1 else f" {state.changes:,} times by now (two builds behind one address?)"
    detail = f"{state.version} answers {state.probe} differently at the same address {state.address}{times}"
    if mixed:
        numbers = ", ".join(f"{epoch.number} of experiment {epoch.experiment_id}" for epoch in mixed)
        detail += f": the evidence of epoch {numbers} mixes two implementations; `shadowctl stop` and `shadowctl start`"
    else:
        detail += "; no experiment counts it now: `shadowctl alarms ack` when it was meant"
    yield Finding(key=key, detail=detail)


# --- processes ----------------------------------------------------------------------------------------------------


def _workers(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    for process in _alive(facts, limits):
        key = AlarmKey(AlarmKind.LAG, "", process.instance)
        lag = process.counters.get("lag_ms", 0) / 1000
        if process.role == "worker" and lag >= (limits.lag_clear if key in facts.held else limits.lag):
            yield Finding(key=key, detail=f"{process.instance} works on requests of {about(lag)} ago, and is behind")


def _routers(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    for process in _alive(facts, limits):
        key = AlarmKey(AlarmKind.FLAGS_STALE, "", process.instance)
        age = process.counters.get("flag_age_ms", 0) / 1000
        stale = limits.stale_after / 2 if key in facts.held else limits.stale_after
        if process.role == "router" and age >= stale:
            yield Finding(
                key=key,
                detail=f"{process.instance} has not confirmed its flags for {age:.0f} s; from "
                f"{limits.stale_after:g} s on it keeps the last live version and shadows nothing",
            )


def _missing(facts: Facts, limits: AlarmLimits) -> Iterator[Finding]:
    kinds = {"router": AlarmKind.ROUTER_MISSING, "worker": AlarmKind.WORKER_MISSING}
    for role, kind in kinds.items():
        own = [process for process in facts.processes if process.role == role]
        for process in missing_processes(own, now=facts.now, after=limits.missing_after):
            quiet = about(facts.now - process.seen_at)
            yield Finding(
                key=AlarmKey(kind, "", process.instance),
                detail=f"{role} {process.instance} on {process.host} was last heard of {quiet} ago",
            )
    collecting = [
        epoch
        for epoch in facts.epochs
        if epoch.collects_at(facts.now) and facts.now - epoch.opened_at > limits.missing_after
    ]
    if collecting and not any(process.role == "worker" for process in facts.processes):
        models = ", ".join(sorted({epoch.model for epoch in collecting}))
        yield Finding(
            key=AlarmKey(AlarmKind.WORKER_MISSING, "", "any"),
            detail=f"an experiment runs ({models}), and there is no worker that would call its shadows",
        )


def _alive(facts: Facts, limits: AlarmLimits) -> list[Process]:
    return [process for process in facts.processes if facts.now - process.seen_at <= limits.missing_after]


def _worst_lag(facts: Facts, limits: AlarmLimits) -> float:
    return max((process.counters.get("lag_ms", 0) / 1000 for process in _alive(facts, limits)), default=0.0)


# --- words --------------------------------------------------------------------------------------------------------


def _outcomes(counts: Growth, *outcomes: Outcome) -> int:
    return sum(counts[Family.OUTCOME, outcome] for outcome in outcomes)


def _unknown(facts: Facts, kind: AlarmKind) -> Iterator[Finding]:
    """Without a former reading, alarms of this kind stay as they are."""
    yield from (Finding(key=key, known=False) for key in facts.held if key.kind is kind)


def _listed(reasons: Mapping[str, int]) -> str:
    ordered: Iterable[tuple[str, int]] = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {reason}" for reason, n in ordered)


def _ago(facts: Facts, reading: Reading) -> str:
    return f"in {facts.present.at - reading.at:.0f} s"
