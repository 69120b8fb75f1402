"""Metrics: the catalogue, and what becomes of each role's state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from test_gates import reviewed
from test_rollout import rollout

from multishadow_server.adapters.deployment import Deployment, counted_up
from multishadow_server.adapters.prometheus_text import Exposition
from multishadow_server.core import latency, latency_ladder, metric_catalogue, metric_samples
from multishadow_server.core.alarms import Alarm, AlarmKey, AlarmKind
from multishadow_server.core.control_metrics import CandidateStanding, ControlStanding, Drift, Standing, of_control
from multishadow_server.core.dead_letters import LetterState
from multishadow_server.core.gate_findings import apparatus
from multishadow_server.core.latency_ladder import RUNGS
from multishadow_server.core.live_counts import MOST_REVISIONS, LiveTally, Share
from multishadow_server.core.metric_samples import Sample, Translation, sample
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.process_metrics import (
    FlagStanding,
    LogStanding,
    RouterStanding,
    WorkerStanding,
    of_router,
    of_worker,
)
from multishadow_server.core.report import build
from multishadow_server.core.rollout import RolloutState
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.shadow_counts import ShadowTally
from multishadow_server.settings import Settings
from scraping import Scraped, described, read
from sightings import rollup_of

FLAGS = FlagStanding(revision=7, age=0.5, stale_after=10.0)
ROUTER = RouterStanding(
    counters={"requests": 5, "captured": 3, "dropped.log_full": 2, "sampled": 6, "flag_reads_late": 4},
    served=(),
    flags=FLAGS,
    share=0.25,
    log=LogStanding(lag=12.5, fill=0.5, messages=4, size=1_000),
    most_captures=10,
    most_bytes=100,
)
WORKER = WorkerStanding(counters={}, revision=7, seen={}, latencies={}, circuits={})


async def scraped(role: str, samples: Iterable[Sample]) -> Scraped:
    kept = list(samples)
    return read((await Exposition(role, lambda: kept).text()).decode())


def test_names_follow_the_conventions_and_say_which_path_they_are_of() -> None:
    assert len(metric_catalogue.BY_NAME) == len(metric_catalogue.METRICS)
    for metric in metric_catalogue.METRICS:
        assert metric.name.startswith("multishadow_"), metric
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric
        assert metric.help.endswith("."), metric
        assert metric.roles, metric
        assert set(metric.roles) <= {"router", "worker", "control"}, metric
        assert ("role" in metric.labels) == bool(metric.path), metric
        # What a caller sends never becomes a time series.
        assert not {"request_id", "session_id", "attribute"} & set(metric.labels), metric
        # An OpenMetrics family of a counter has no suffix, and must not meet another one.
        assert metric.name.removesuffix("_total") not in metric_catalogue.BY_NAME or metric.kind != "counter", metric


@pytest.mark.parametrize(
    ("role", "translation"),
    [("router", metric_samples.ROUTER), ("worker", metric_samples.WORKER), ("control", metric_samples.CONTROL)],
)
def test_counters_become_metrics_that_the_role_has(role: str, translation: Translation) -> None:
    targets = [name for name, _ in (*translation.plain.values(), *translation.by_reason.values())]
    assert {f"multishadow_{name}" for name in targets} <= described(role).keys()


@pytest.mark.parametrize("role", ["router", "worker", "control"])
async def test_what_is_exposed_is_exactly_the_catalogue_also_before_anything_is_known(role: str) -> None:
    assert (await scraped(role, ())).families == described(role)


async def test_a_value_that_the_catalogue_does_not_have_is_refused() -> None:
    with pytest.raises(LookupError, match="multishadow_shadow_calls_total"):
        await scraped("router", [sample("shadow_calls_total", 1)])
    with pytest.raises(LookupError, match="has the labels"):
        await scraped("router", [sample("captures_dropped_total", 1, why="x")])


async def test_whatever_a_label_holds_is_read_as_it_was_written() -> None:
    strange = 'a "quoted" \\ name\nof two lines'
    found = await scraped("router", [sample("captures_dropped_total", 1, reason=strange)])
    assert found.value("captures_dropped_total", role="shadow", reason=strange) == 1


async def test_a_router_tells_of_its_path_to_the_log() -> None:
    found = await scraped("router", of_router(ROUTER))
    assert found.value("router_requests_total", role="live") == 5
    assert found.value("captures_dropped_total", role="shadow", reason="log_full") == 2
    assert found.value("sampling_requests_total", role="shadow", decision="sampled") == 6
    # What was not counted yet is 0, so that a first time is seen as a rise.
    assert found.value("sampling_requests_total", role="shadow", decision="write") == 0
    assert found.value("sampling_share_ratio", role="shadow") == 0.25
    assert found.value("flag_reads_unanswered_total", reason="late") == 4
    assert found.value("log_lag_seconds", role="shadow") == 12.5
    assert found.value("flags_stale") == 0
    assert found.value("build_info", program="0.1.0") == 1


async def test_flags_that_were_never_read_are_infinitely_old_and_a_log_that_is_away_tells_nothing() -> None:
    flags = replace(FLAGS, age=math.inf)
    found = await scraped("router", of_router(replace(ROUTER, flags=flags, log=None)))
    assert found.value("flags_age_seconds") == math.inf
    assert found.value("flags_stale") == 1
    assert found.value("log_reachable", role="shadow") == 0
    assert found.value("log_lag_seconds", role="shadow") is None


async def test_live_requests_are_told_by_who_was_chosen_and_never_fall_when_revisions_are_forgotten() -> None:
    tally = LiveTally()
    for revision in range(2 * MOST_REVISIONS):
        tally.note(Share("spam", "A", revision), seconds=0.004)
        tally.changed()
    last = Share("spam", "A", 2 * MOST_REVISIONS)
    tally.note(last, seconds=0.004, failed=True)
    tally.note(last, seconds=9.0, failed=True, timed_out=True)
    tally.note(last, seconds=0.004, failed=True, covered=True)
    found = await scraped("router", of_router(replace(ROUTER, served=tally.totals())))
    who = {"role": "live", "model": "spam", "version": "A"}
    told = {outcome: found.value("live_requests_total", **who, outcome=outcome) for outcome in
            ("ok", "failed", "timeout", "covered")}  # fmt: skip
    assert told == {"ok": 2 * MOST_REVISIONS, "failed": 1, "timeout": 1, "covered": 1}
    assert found.value("live_latency_seconds_bucket", **who, le="0.0025") == 0
    assert found.value("live_latency_seconds_bucket", **who, le="0.005") == 2 * MOST_REVISIONS
    # The timeout is beyond every bound, and in no sum.
    assert found.value("live_latency_seconds_bucket", **who, le="60.0") == 2 * MOST_REVISIONS
    assert found.value("live_latency_seconds_count", **who) == 2 * MOST_REVISIONS + 1
    assert found.value("live_latency_seconds_sum", **who) == pytest.approx(0.004 * 2 * MOST_REVISIONS, rel=0.01)
    # More is counted after a look, too.
    tally.note(last, seconds=0.004)
    assert dict(tally.totals())["spam", "A"].requests == 2 * MOST_REVISIONS + 4


def test_bins_lie_on_the_ladder_where_their_latencies_do() -> None:
    seconds = np.random.default_rng(7).lognormal(-4, 2, 5_000)
    bins = {float(edge): n for edge, n in latency.histogram(seconds).items()}
    ladder = latency_ladder.of_bins({**bins, math.inf: 3})
    assert sum(ladder.counts) == 5_003
    assert ladder.seconds == pytest.approx(seconds.sum(), rel=0.005)
    below = np.cumsum(ladder.counts)[:-1]
    for bound, count in zip(RUNGS, below, strict=True):
        assert (seconds <= bound / 1.01).sum() <= count <= (seconds <= bound * 1.01).sum()


def seen(version: str, outcome: Outcome, *, reason: str = "", latency: float | None = None) -> Observation:
    return Observation(version=version, outcome=outcome, reason=reason, latency=latency)


async def test_a_worker_tells_what_shadows_did_without_their_refusals_looking_quick() -> None:
    tally = ShadowTally()
    for observation in (
        seen("A", Outcome.OK, latency=0.02),
        seen("A", Outcome.DIVERGED, latency=0.2),
        seen("A", Outcome.UNCOMPARABLE, reason="comparison_failed", latency=0.02),
        seen("A", Outcome.UNCOMPARABLE, reason="kinds", latency=0.02),
        seen("A", Outcome.ERROR, reason="UNAVAILABLE", latency=0.0001),
        seen("A", Outcome.TIMEOUT),
        seen("A", Outcome.DROPPED, reason="paused"),
        seen("A", Outcome.DROPPED, reason="internal_error"),
        seen("A", Outcome.DUPLICATE),
        seen(NOISE, Outcome.DIVERGED, latency=0.1),
    ):
        tally.note("spam", observation)
    state = replace(WORKER, seen=tally.seen(), latencies=tally.latencies(), circuits={("spam", "A"): True})
    found = await scraped("worker", of_worker(state))
    who = {"role": "shadow", "model": "spam", "version": "A"}
    assert found.value("shadow_calls_total", **who, outcome="answered") == 4
    assert found.value("shadow_calls_total", **who, outcome="error") == 1
    assert found.value("shadow_calls_total", **who, outcome="timeout") == 1
    assert found.value("shadow_errors_total", **who, code="UNAVAILABLE") == 1
    assert found.value("comparisons_total", **who, outcome="agreed") == 1
    assert found.value("comparisons_total", **who, outcome="uncomparable") == 2
    assert found.total("comparator_failures_total", **who) == 2
    assert found.value("copies_dropped_total", **who, reason="paused") == 1
    assert found.value("copies_duplicate_total", **who) == 1
    assert found.value("noise_floor_total", role="shadow", model="spam", outcome="diverged") == 1
    assert found.value("shadow_latency_seconds_count", **who) == 5
    assert found.value("shadow_latency_seconds_bucket", **who, le="0.001") == 0
    assert found.value("shadow_latency_seconds_bucket", **who, le="60.0") == 4
    assert found.value("shadow_circuit_open", **who) == 1


async def test_a_workers_counters_are_told_apart_by_what_became_of_what() -> None:
    counters = {"captures": 9, "captures.observed": 8, "captures.no_experiment": 1, "lag_ms": 1_500, "log_drops": 5,
                "log_drops.no_experiment": 2, "dead_letters.waiting": 3, "dead_letters.refused": 1,
                "dead_letters.no_room": 1}  # fmt: skip
    found = await scraped("worker", of_worker(replace(WORKER, counters=counters)))
    assert found.value("shadow_captures_total", role="shadow", fate="observed") == 8
    assert found.value("worker_lag_seconds", role="shadow") == 1.5
    assert found.value("worker_reported_drops_total", role="shadow", counted="yes") == 3
    assert found.total("dead_letters_total") == 3
    assert found.value("samples_not_stored_total", role="shadow", kind="dead_letters") == 2


def alarm(kind: AlarmKind, model: str, subject: str, *, acknowledged: bool = False) -> Alarm:
    known = 2.0 if acknowledged else None
    return Alarm(id=1, key=AlarmKey(kind, model, subject), detail="", raised_at=1, seen_at=1, acknowledged_at=known)


def standing(**more: object) -> ControlStanding:
    values: dict[str, object] = {"now": 10_000.0}
    found = Standing(**{**values, **more})  # type: ignore[arg-type]  # fields by name
    return ControlStanding(counters={"auth.forbidden": 2}, flags=FLAGS, standing=found, age=3.0, failures=1)


async def test_control_without_a_reading_tells_what_it_knows_itself() -> None:
    state = replace(standing(), standing=None, age=math.inf)
    found = await scraped("control", of_control(state))
    assert found.value("standing_known") == 0
    assert found.value("standing_failures_total") == 1
    assert found.value("standing_age_seconds") is None
    assert found.value("auth_refused_total", why="forbidden") == 2


async def test_alarms_are_counted_by_kind_and_version_and_never_by_process() -> None:
    alarms = [
        alarm(AlarmKind.SHADOW_SILENT, "spam", "A"),
        alarm(AlarmKind.PROBE_FAILING, "spam", "A/greeting"),
        alarm(AlarmKind.PROBE_FAILING, "spam", "A/farewell"),
        alarm(AlarmKind.LAG, "", "worker-17"),
        alarm(AlarmKind.DROPS, "", "router-4", acknowledged=True),
        alarm(AlarmKind.DROPS, "spam", "B"),
    ]
    found = await scraped("control", of_control(standing(alarms=alarms)))
    on = {
        tuple(dict(labels)[name] for name in ("kind", "model", "version", "acknowledged")): value
        for (name, labels), value in found.values.items()
        if name == "multishadow_alarms"
    }
    assert on == {
        ("shadow_silent", "spam", "A", "false"): 1,
        ("probe_failing", "spam", "A", "false"): 2,
        ("lag", "", "", "false"): 1,
        ("drops", "", "", "true"): 1,
        ("drops", "spam", "B", "false"): 1,
    }


async def test_a_candidate_is_told_by_its_bounds_its_gates_and_which_way_it_drifts() -> None:
    counts = rollup_of(("A", "B"), {"oo": 900, "bo": 60, "ob": 40})
    reports = {
        each.version: each for each in build(counts, model="spam", live="base", candidates=("A", "B")).candidates
    }
    skewed = reviewed({"oo": 900, "bu": 600, "ou": 500}, "B")
    candidates = [
        CandidateStanding(model="spam", report=reports["A"], review=reviewed(), drift=None),
        CandidateStanding(model="spam", report=reports["B"], review=skewed, drift=Drift.FALLING),
    ]
    found = await scraped("control", of_control(standing(candidates=candidates)))
    a, b = ({"role": "shadow", "model": "spam", "version": version} for version in "AB")
    assert found.value("experiment_divergence_ratio", **a) == 0.06
    lower, upper = (found.value(f"experiment_divergence_{end}_ratio", **a) for end in ("lower", "upper"))
    assert lower is not None
    assert upper is not None
    assert 0 < lower < 0.06 < upper < 1
    assert found.value("experiment_completeness_ratio", **a) == 1
    assert found.value("experiment_gates", **a, state="fail") == 0
    assert found.value("experiment_sample_ratio_mismatch", **a) == 0
    assert found.value("experiment_sample_ratio_mismatch", **b) == 1
    assert found.value("experiment_drift", **a, direction="falling") == 0
    assert found.value("experiment_drift", **b, direction="falling") == 1
    assert found.value("experiment_drift", **b, direction="rising") == 0


@pytest.mark.parametrize(("before", "then", "rising"), [(50, 400, True), (400, 20, False)])
def test_a_changed_hour_says_which_way_it_changed(before: int, then: int, rising: bool) -> None:
    def hour(bad: int) -> Rollup:
        cells = {Cell(Family.OUTCOME, "A", "diverged"): bad, Cell(Family.OUTCOME, "A", "ok"): 1_000 - bad}
        return Rollup(cells)

    buckets = {3_600 * place: hour(bad).tables() for place, bad in enumerate([before] * 6 + [then])}
    alarm = apparatus.drift_alarm(buckets, "A", bucket_seconds=3_600)
    assert alarm is not None
    assert alarm.rising is rising
    del buckets[3_600 * 6]
    assert apparatus.drift_alarm(buckets, "A", bucket_seconds=3_600) is None


async def test_a_rollout_whose_stage_is_over_and_goes_on_is_held() -> None:
    entered = rollout(entered_at=9_200.0)
    assert entered.dwell_ends_at == 10_100.0
    states = {}
    for name, now, state in (
        ("on time", 10_000.0, RolloutState.RUNNING),
        ("being looked at", 10_105.0, RolloutState.RUNNING),
        ("over", 10_400.0, RolloutState.RUNNING),
        ("paused", 10_400.0, RolloutState.PAUSED),
    ):
        found = await scraped("control", of_control(standing(now=now, rollouts=[replace(entered, state=state)])))
        who = {"role": "live", "model": "spam", "version": "A"}
        told = [each for each in ("running", "held", "paused") if found.value("rollout_state", **who, state=each)]
        states[name] = (told, found.value("rollout_overdue_seconds", **who))
        assert found.value("rollout_share_ratio", **who) == 0.25
    assert states == {
        "on time": (["running"], 0),
        "being looked at": (["running"], 5),
        "over": (["held"], 300),
        "paused": (["paused"], 300),
    }


async def test_control_tells_who_is_live_which_processes_run_and_what_lies_in_the_dead_letters() -> None:
    letters = {("spam", "A", LetterState.PARKED): 4}
    state = standing(live={"spam": "base"}, letters=letters, processes={"router": 2})
    found = await scraped("control", of_control(state))
    assert found.value("live_version_info", role="live", model="spam", version="base") == 1
    assert found.value("processes", process="router") == 2
    assert found.value("dead_letters_stored", role="shadow", model="spam", version="A", state="parked") == 4


def test_processes_of_one_machine_count_their_ports_up() -> None:
    assert [counted_up("127.0.0.1:9100", place) for place in range(3)] == [
        "127.0.0.1:9100",
        "127.0.0.1:9101",
        "127.0.0.1:9102",
    ]
    assert counted_up("127.0.0.1:0", 2) == "127.0.0.1:0"
    assert counted_up("somewhere", 2) == "somewhere"


def test_every_process_of_serve_has_metrics_of_its_own_and_keeps_them_when_it_starts_again() -> None:
    settings = Settings(metrics_listen="127.0.0.1:9100")
    deployment = Deployment(settings, routers=2, workers=2, report=print)
    names = ["router-1", "router-2", "worker-1", "worker-2"]
    listening = [deployment._program(name, settings).environment["MULTISHADOW_METRICS_LISTEN"] for name in names]
    assert listening == [f"127.0.0.1:{port}" for port in (9100, 9101, 9102, 9103)]
    assert "MULTISHADOW_METRICS_LISTEN" not in deployment._program("router-1", Settings()).environment
