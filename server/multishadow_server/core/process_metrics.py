"""What routers and workers expose: their state in, samples of metrics out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from multishadow_server.core.alarm_rules import COMPARISON_CRASHES
from multishadow_server.core.dead_letters import INTERNAL_ERROR
from multishadow_server.core.latency_ladder import Distribution
from multishadow_server.core.live_counts import LiveTotal
from multishadow_server.core.metric_samples import ROUTER, WORKER, Sample, sample
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.observation import Outcome
from multishadow_server.core.shadow_counts import Seen

_COMPARED = {Outcome.OK: "agreed", Outcome.DIVERGED: "diverged", Outcome.UNCOMPARABLE: "uncomparable"}
_CALLED = {
    Outcome.OK: "answered",
    Outcome.DIVERGED: "answered",
    Outcome.UNCOMPARABLE: "answered",
    Outcome.ERROR: "error",
    Outcome.TIMEOUT: "timeout",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LogStanding:
    """How the capture log is, as the process was told last; see `LogState`."""

    lag: float
    fill: float
    messages: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagStanding:
    """How old the flags are that a process acts on, in seconds, their revision, and from when on they are stale."""

    revision: int
    age: float
    stale_after: float


def about_flags(flags: FlagStanding) -> Iterator[Sample]:
    """What a process that reads flags says of them."""
    yield sample("flags_revision", flags.revision)
    yield sample("flags_age_seconds", flags.age)
    yield sample("flags_stale", flags.age > flags.stale_after)


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterStanding:
    """How a router is.

    Args:
        counters: by which it reports itself.
        served: its live requests by model and version.
        flags: those that it decides by.
        share: of what flags sample that is captured.
        log: None when it did not tell.
        most_captures, most_bytes: that its buffer holds.
    """

    counters: Mapping[str, int]
    served: Iterable[tuple[tuple[str, str], LiveTotal]]
    flags: FlagStanding
    share: float
    log: LogStanding | None
    most_captures: int
    most_bytes: int


def of_router(router: RouterStanding) -> Iterator[Sample]:
    """What a router exposes."""
    yield from ROUTER.samples(router.counters)
    yield from about_flags(router.flags)
    yield from _served(router.served)
    yield sample("sampling_share_ratio", router.share)
    yield sample("buffer_captures_limit", router.most_captures)
    yield sample("buffer_bytes_limit", router.most_bytes)
    yield sample("log_reachable", router.log is not None)
    if router.log is not None:
        yield sample("log_messages", router.log.messages)
        yield sample("log_bytes", router.log.size)
        yield sample("log_fill_ratio", router.log.fill)
        yield sample("log_lag_seconds", router.log.lag)


def _served(served: Iterable[tuple[tuple[str, str], LiveTotal]]) -> Iterator[Sample]:
    for (model, version), total in served:
        outcomes = {
            "ok": total.requests - total.failed,
            "failed": total.failed - total.covered - total.timed_out,
            "timeout": total.timed_out,
            "covered": total.covered,
        }
        for outcome, count in outcomes.items():
            yield sample("live_requests_total", count, model=model, version=version, outcome=outcome)
        yield sample("live_latency_seconds", total.latencies, model=model, version=version)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStanding:
    """How a worker is.

    Args:
        counters: by which it reports itself.
        revision: of the flags.
        seen: what its shadows made of captures.
        latencies: how long they took.
        circuits: whether they are left in peace.
    """

    counters: Mapping[str, int]
    revision: int
    seen: Mapping[Seen, int]
    latencies: Mapping[tuple[str, str], Distribution]
    circuits: Mapping[tuple[str, str], bool]


def of_worker(worker: WorkerStanding) -> Iterator[Sample]:
    """What a worker exposes."""
    counters = worker.counters
    yield from WORKER.samples(counters)
    yield sample("flags_revision", worker.revision)
    yield sample("worker_lag_seconds", counters.get("lag_ms", 0) / 1000)
    strange = counters.get("log_drops.no_experiment", 0)
    yield sample("worker_reported_drops_total", counters.get("log_drops", 0) - strange, counted="yes")
    yield sample("worker_reported_drops_total", strange, counted="no")
    yield from _letters(counters)
    yield from _observed(worker.seen)
    for (model, version), latencies in worker.latencies.items():
        yield sample("shadow_latency_seconds", latencies, model=model, version=version)
    for (model, version), is_open in worker.circuits.items():
        yield sample("shadow_circuit_open", is_open, model=model, version=version)


def _letters(counters: Mapping[str, int]) -> Iterator[Sample]:
    lost = {"dead_letters.refused", "dead_letters.no_room"}
    yield sample("samples_not_stored_total", sum(counters.get(name, 0) for name in lost), kind="dead_letters")
    for name, count in counters.items():
        if name.startswith("dead_letters.") and name not in lost:
            yield sample("dead_letters_total", count, state=name.removeprefix("dead_letters."))


def _observed(seen: Mapping[Seen, int]) -> Iterator[Sample]:
    """Several metrics tell of one observation, and add up over what they do not tell of it."""
    counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    # A worker goes on counting meanwhile.
    for each, count in list(seen.items()):
        if each.version != NOISE:
            counts.update(dict.fromkeys(_to_be_told_of(each.model, each.version), 0))
        for name, labels in _told_of(each):
            counts[name, tuple(labels.items())] += count
    for (name, pairs), count in counts.items():
        yield sample(name, count, **dict(pairs))


def _to_be_told_of(model: str, version: str) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """What is exposed of a shadow as 0 before it happens: Prometheus takes no rise from the first value of a series."""
    whose = (("model", model), ("version", version))
    for outcome in dict.fromkeys(_CALLED.values()):
        yield "shadow_calls_total", (*whose, ("outcome", outcome))
    for outcome in _COMPARED.values():
        yield "comparisons_total", (*whose, ("outcome", outcome))
    for reason in sorted(COMPARISON_CRASHES | {INTERNAL_ERROR}):
        yield "comparator_failures_total", (*whose, ("reason", reason))


def _told_of(each: Seen) -> Iterable[tuple[str, Mapping[str, str]]]:
    if each.version == NOISE:
        yield "noise_floor_total", {"model": each.model, "outcome": each.outcome.value}
        return
    whose = {"model": each.model, "version": each.version}
    if each.outcome in _CALLED:
        yield "shadow_calls_total", {**whose, "outcome": _CALLED[each.outcome]}
    if each.outcome in _COMPARED:
        yield "comparisons_total", {**whose, "outcome": _COMPARED[each.outcome]}
    if each.outcome is Outcome.ERROR:
        yield "shadow_errors_total", {**whose, "code": each.reason}
    elif each.outcome is Outcome.UNCOMPARABLE:
        yield "uncomparable_total", {**whose, "reason": each.reason}
    elif each.outcome is Outcome.DROPPED:
        yield "copies_dropped_total", {**whose, "reason": each.reason}
    elif each.outcome is Outcome.DUPLICATE:
        yield "copies_duplicate_total", whose
    if each.reason in COMPARISON_CRASHES | {INTERNAL_ERROR}:
        yield "comparator_failures_total", {**whose, "reason": each.reason}
