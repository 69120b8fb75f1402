"""What raises an alarm, keeps it and clears it: facts in, findings out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from multishadow_server.core import alarm_rules, alarms, watch_readings, windows
from multishadow_server.core.alarm_rules import AlarmLimits, Facts
from multishadow_server.core.alarms import REMEDIES, Alarm, AlarmKey, AlarmKind, Finding
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator
from multishadow_server.core.probe_state import ProbeOutcome, ProbeState
from multishadow_server.core.process_standing import Process, missing
from multishadow_server.core.watch_readings import BucketCell, Reading

NOW = 1_795_435_200.0  # a Monday, 12:00 UTC
BUCKET = int(NOW)
LIMITS = AlarmLimits()
SILENT = AlarmKey(AlarmKind.SHADOW_SILENT, "spam", "A")
COMPARATOR = AlarmKey(AlarmKind.COMPARATOR_FAILING, "spam", "A")
DROPS = AlarmKey(AlarmKind.DROPS, "spam", "A")


def epoch(**more: Any) -> Epoch:
    fields: dict[str, Any] = {
        "id": 1,
        "experiment_id": 7,
        "model": "spam",
        "number": 2,
        "live": "base",
        "candidates": ("A", "B"),
        "comparator": Comparator(),
        "from_revision": 1,
        "until_revision": None,
        "opened_at": NOW - 3_600,
        "reason": "started",
        "bucket_seconds": 3_600,
    }
    return Epoch(**(fields | more))


def reading(counts: Mapping[str, int] | None = None, *, ago: float = 0.0, **more: Any) -> Reading:
    """Counts of A, as `family level`."""
    cells = {BucketCell(1, BUCKET, *_cell(name)): n for name, n in (counts or {}).items()}
    return Reading(at=NOW - ago, oldest={1: BUCKET - 3_600}, cells=cells, **more)


def _cell(name: str) -> tuple[str, str, str]:
    family, level = name.split()
    return family, "A", level


def facts(now: Mapping[str, int], then: Mapping[str, int] | None = None, **more: Any) -> Facts:
    """What was counted now, and twenty seconds (a minute) ago."""
    fields: dict[str, Any] = {
        "now": NOW,
        "epochs": (epoch(),),
        "addresses": {("spam", "A"): "10.0.0.7:9000"},
        "present": reading(now),
        "recent": reading(then, ago=20),
        "window": reading(then, ago=60),
        "processes": (process("worker"),),
    }
    return Facts(**(fields | more))


def process(role: str, instance: str = "", *, seen: float = 0.5, started: float = 900, **counters: int) -> Process:
    return Process(
        role=role,
        instance=instance or f"{role}-1",
        host="host-a",
        started_at=NOW - started,
        seen_at=NOW - seen,
        counters=counters,
    )


def found(given: Facts, limits: AlarmLimits = LIMITS) -> dict[AlarmKey, str]:
    return {each.key: each.detail for each in alarm_rules.findings(given, limits) if each.known}


def unknown(given: Facts) -> set[AlarmKey]:
    return {each.key for each in alarm_rules.findings(given, LIMITS) if not each.known}


# --- a shadow that went silent ------------------------------------------------------------------------------------


def test_a_shadow_that_answers_none_of_its_calls_is_silent_and_the_reasons_are_told() -> None:
    now = {"outcome ok": 50, "outcome error": 12, "error_reason UNAVAILABLE": 12, "outcome timeout": 3}
    assert found(facts(now, {"outcome ok": 50}))[SILENT] == (
        "A at 10.0.0.7:9000 answered none of 15 calls in 20 s: 12 UNAVAILABLE, 3 timeout"
    )


def test_one_answer_of_whatever_kind_is_no_silence() -> None:
    for outcome in ("ok", "diverged", "uncomparable"):
        now = {"outcome error": 12, "error_reason INTERNAL": 12, f"outcome {outcome}": 1}
        assert SILENT not in found(facts(now))
        assert SILENT not in unknown(facts(now))


def test_calls_that_hang_until_none_can_be_made_are_silence_too() -> None:
    assert "4 in_flight_limit" in found(facts({"outcome dropped": 4, "dropped_reason in_flight_limit": 4}))[SILENT]


def test_without_calls_nobody_can_tell_whether_a_silent_shadow_is_back() -> None:
    assert SILENT in unknown(facts({"outcome ok": 50}, {"outcome ok": 50}))
    held = replace(facts({}), recent=None, held={SILENT})
    assert SILENT in unknown(held)


def test_an_epoch_that_has_just_begun_is_given_its_time() -> None:
    young = replace(facts({"outcome ok": 0}), epochs=(epoch(opened_at=NOW - 1),))
    assert SILENT not in found(young)


def missing_copies(**more: Any) -> Facts:
    fields: dict[str, Any] = {
        "shares": {("spam", "A"): 1.0},
        "present": reading(requests={"spam": 1_100}, routers={("router-1", "captured"): 90}),
        "recent": reading(ago=20, requests={"spam": 1_000}, routers={("router-1", "captured"): 50}),
    }
    return facts({}, **(fields | more))


def test_live_requests_that_nobody_observes_anything_of_are_silence_although_no_call_failed() -> None:
    assert found(missing_copies())[SILENT] == (
        "A should have got about 100 copies of 100 live requests (in 20 s), and nothing was observed of any: "
        "no failure, no drop"
    )


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("few requests", {"present": reading(requests={"spam": 1_020})}),
        ("no share known", {"shares": {}}),
        ("workers behind", {"processes": (process("worker", lag_ms=20_000),)}),
        ("no worker", {"processes": ()}),
        ("an epoch that began meanwhile", {"epochs": (epoch(opened_at=NOW - 10),)}),
        (
            "a share of sessions, and routers that captured nothing",
            {
                "shares": {("spam", "A"): 0.5},
                "present": reading(requests={"spam": 1_100}, routers={("router-1", "captured"): 50}),
            },
        ),
        *(
            (
                f"requests that are counted as {name}",
                {
                    "present": reading(
                        requests={"spam": 1_100}, routers={("router-1", "captured"): 90, ("router-1", name): 75}
                    )
                },
            )
            for name in ("live_failures", "writes.not_shadowed", "sampling.passed_over")
        ),
        ("a window that opened meanwhile", {"epochs": (epoch(windows=(windows.parse("12:00-13:00 UTC"),)),)}),
        ("a drop that was observed", {"present": reading({"outcome dropped": 1}, requests={"spam": 1_100})}),
    ],
)
def test_copies_are_not_missed_where_something_else_may_be_the_reason(why: str, more: Mapping[str, Any]) -> None:
    assert SILENT not in found(missing_copies(**more)), why


# --- comparators and drops ----------------------------------------------------------------------------------------


def test_answers_that_cannot_be_compared_are_an_alarm_of_the_comparator() -> None:
    now = {"outcome ok": 70, "outcome uncomparable": 30, "uncomparable_reason type_mismatch": 30}
    assert found(facts(now))[COMPARATOR] == ("30 of 100 answers of A could not be compared: 30 type_mismatch (in 60 s)")


def test_a_comparator_that_crashes_is_one_long_before_that() -> None:
    now = {
        "outcome ok": 97,
        "outcome uncomparable": 2,
        "uncomparable_reason comparison_failed": 2,
        "outcome dropped": 1,
        "dropped_reason internal_error": 1,
    }
    assert "2 comparison_failed, 1 internal_error" in found(facts(now))[COMPARATOR]
    assert DROPS not in found(facts(now)), "what we failed at is not a drop of the version's"


def test_shares_between_the_two_limits_keep_an_alarm_on_and_raise_none() -> None:
    now = {"outcome ok": 85, "outcome uncomparable": 15, "uncomparable_reason empty_text": 15}
    assert COMPARATOR not in found(facts(now))
    assert COMPARATOR in found(replace(facts(now), held={COMPARATOR}))
    few = {"outcome ok": 97, "outcome dropped": 3, "dropped_reason buffer_full": 3}
    assert DROPS not in found(facts(few))
    assert DROPS in found(replace(facts(few), held={DROPS}))


def test_a_handful_of_answers_tells_no_share() -> None:
    now = {"outcome uncomparable": 19, "uncomparable_reason empty_text": 19}
    assert COMPARATOR in unknown(facts(now))
    assert COMPARATOR not in found(facts(now))


def test_what_was_counted_before_the_first_reading_does_not_count() -> None:
    bad = {"outcome uncomparable": 500, "uncomparable_reason empty_text": 500}
    assert COMPARATOR not in found(facts(bad | {"outcome ok": 100}, bad))


def test_dropped_copies_are_told_by_reason_and_hours_that_ended_are_no_reason() -> None:
    now = {"outcome ok": 80, "outcome dropped": 40, "dropped_reason too_large": 20, "dropped_reason window_closed": 20}
    assert found(facts(now))[DROPS] == "20 of 100 copies for A were dropped: 20 too_large (in 60 s)"


@pytest.mark.parametrize("reason", ["paused", "rate_limit", "bandwidth", "budget", "writes"])
def test_a_version_that_is_paused_or_kept_to_its_rate_is_no_alarm(reason: str) -> None:
    withheld = {"outcome dropped": 90, f"dropped_reason {reason}": 90}
    assert not found(facts(withheld, shares={("spam", "A"): 1.0}))
    assert not found(facts(withheld | {"outcome ok": 30}))
    assert DROPS in unknown(facts(withheld)), "what is left tells no share"


def test_a_circuit_that_is_open_is_an_alarm() -> None:
    now = {"outcome error": 2, "error_reason INTERNAL": 2, "outcome dropped": 90, "dropped_reason circuit_open": 90}
    assert "90 circuit_open" in found(facts(now))[DROPS]
    assert SILENT in unknown(facts(now)), "what is not called cannot tell that it is back"


def test_what_a_router_drops_while_nothing_reaches_the_log_is_seen_from_its_own_counters() -> None:
    before = reading(ago=60, routers={("router-1", "captured"): 100, ("router-1", "dropped.buffer_full"): 5})
    after = reading(routers={("router-1", "captured"): 110, ("router-1", "dropped.buffer_full"): 95})
    key = AlarmKey(AlarmKind.DROPS, "", "router-1")
    assert found(facts({}, window=before, present=after))[key] == (
        "90 of 100 captures of router-1 were dropped: 90 buffer_full (in 60 s)"
    )


# --- probes -------------------------------------------------------------------------------------------------------


def standing(**more: Any) -> ProbeState:
    fields: dict[str, Any] = {
        "model": "spam",
        "version": "A",
        "probe": "hello",
        "fingerprint": "f",
        "address": "10.0.0.7:9000",
        "outcome": ProbeOutcome.OK,
        "asked_at": NOW,
        "since": NOW,
    }
    return ProbeState(**(fields | more))


CHANGED = AlarmKey(AlarmKind.ANSWER_CHANGED, "spam", "A/hello")


def test_an_answer_that_changed_in_a_running_epoch_says_whose_evidence_is_mixed_and_what_to_do() -> None:
    given = facts({}, probes=(standing(changed_at=NOW - 5, changes=1),))
    assert found(given)[CHANGED] == (
        "A answers hello differently at the same address 10.0.0.7:9000: the evidence of epoch 2 of experiment 7 mixes "
        "two implementations; `shadowctl stop` and `shadowctl start`"
    )
    assert CHANGED in found(replace(given, acknowledged={CHANGED: NOW}, held={CHANGED})), "knowing does not unmix it"


def test_the_live_version_mixes_evidence_as_well_as_a_candidate() -> None:
    given = facts({}, probes=(standing(version="base", changed_at=NOW - 5, changes=3),))
    assert "3 times by now" in found(given)[AlarmKey(AlarmKind.ANSWER_CHANGED, "spam", "base/hello")]


def test_an_experiment_that_began_after_the_change_mixes_nothing() -> None:
    given = facts({}, probes=(standing(changed_at=NOW - 5, changes=1),), epochs=(epoch(opened_at=NOW - 4),))
    assert CHANGED not in found(given)


def test_a_change_that_no_experiment_counts_is_over_when_somebody_knows_of_it() -> None:
    given = facts({}, probes=(standing(changed_at=NOW - 5, changes=1),), epochs=())
    assert "`shadowctl alarms ack`" in found(given)[CHANGED]
    assert CHANGED not in found(replace(given, held={CHANGED}, acknowledged={CHANGED: NOW - 1}))
    assert CHANGED in found(replace(given, held={CHANGED}, acknowledged={CHANGED: NOW - 6})), "it changed again since"


def test_a_change_that_was_settled_is_no_alarm_any_more_whatever_experiments_come_and_go() -> None:
    settled = standing(changed_at=NOW - 5, changes=1, settled_at=NOW - 5)
    for epochs in ((), (epoch(),), (epoch(opened_at=NOW),)):
        assert CHANGED not in found(facts({}, probes=(settled,), epochs=epochs))
    assert CHANGED in found(facts({}, probes=(replace(settled, changed_at=NOW - 4),)))


def test_a_wrong_answer_and_a_version_that_does_not_answer_are_two_alarms() -> None:
    wrong = AlarmKey(AlarmKind.KNOWN_ANSWER_WRONG, "spam", "A/hello")
    failing = AlarmKey(AlarmKind.PROBE_FAILING, "spam", "A/hello")
    given = facts({}, probes=(standing(outcome=ProbeOutcome.WRONG, detail="ham instead of spam"),))
    assert found(given)[wrong] == "A at 10.0.0.7:9000 does not give the known answer (`live` here): ham instead of spam"
    down = standing(outcome=ProbeOutcome.FAILING, reason="UNAVAILABLE", detail="refused", failures=2)
    assert found(facts({}, probes=(down,))) == {
        failing: "A at 10.0.0.7:9000 failed 2 times in a row: UNAVAILABLE refused"
    }
    assert wrong in unknown(facts({}, probes=(down,))), "what does not answer may still be wrong"
    assert not found(facts({}, probes=(replace(down, failures=1),))), "one failure is no alarm"


# --- processes ----------------------------------------------------------------------------------------------------


def test_a_worker_that_is_behind_is_an_alarm_until_it_has_really_caught_up() -> None:
    key = AlarmKey(AlarmKind.LAG, "", "worker-1")
    assert key in found(facts({}, processes=(process("worker", lag_ms=61_000),)))
    between = facts({}, processes=(process("worker", lag_ms=40_000),))
    assert key not in found(between)
    assert key in found(replace(between, held={key}))


def test_a_router_whose_flags_are_old_is_told() -> None:
    key = AlarmKey(AlarmKind.FLAGS_STALE, "", "router-1")
    given = facts({}, processes=(process("worker"), process("router", flag_age_ms=12_000)))
    assert "not confirmed its flags for 12 s" in found(given)[key]


def test_a_process_that_fell_silent_is_missed_unless_another_began_in_its_place() -> None:
    key = AlarmKey(AlarmKind.ROUTER_MISSING, "", "router-1")
    dead, worker = process("router", seen=30), process("worker")
    assert "was last heard of 30 s ago" in found(facts({}, processes=(worker, dead)))[key]
    replacement = process("router", "router-2", started=25)
    assert key not in found(facts({}, processes=(worker, dead, replacement)))
    older = process("router", "router-2", started=900)
    assert key in found(facts({}, processes=(worker, dead, older)))


def test_each_replacement_makes_up_for_one_process_only() -> None:
    dead = [process("worker", f"w{n}", seen=60 + n) for n in range(3)]
    fresh = [process("worker", f"f{n}", started=10) for n in range(2)]
    assert [each.instance for each in missing([*fresh, *dead], now=NOW, after=10)] == ["w0"]


def test_an_experiment_without_any_worker_is_an_alarm() -> None:
    key = AlarmKey(AlarmKind.WORKER_MISSING, "", "any")
    assert key in found(facts({}, processes=()))
    assert key not in found(facts({}, processes=(), epochs=()))
    assert key not in found(facts({}, processes=(), epochs=(epoch(opened_at=NOW - 5),))), "workers need a moment, too"


# --- raised, kept, cleared ----------------------------------------------------------------------------------------


def alarm(key: AlarmKey, *, seen: float) -> Alarm:
    return Alarm(id=1, key=key, detail="", raised_at=NOW - 100, seen_at=NOW - seen)


def test_an_alarm_is_raised_at_once_and_cleared_only_after_a_while_of_quiet() -> None:
    assert alarms.turn([], [Finding(key=DROPS)], now=NOW, clear_after=10).raised == (Finding(key=DROPS),)
    assert not alarms.turn([alarm(DROPS, seen=9)], [], now=NOW, clear_after=10).cleared
    assert alarms.turn([alarm(DROPS, seen=10)], [], now=NOW, clear_after=10).cleared == (alarm(DROPS, seen=10),)


def test_what_cannot_be_told_raises_nothing_and_clears_nothing() -> None:
    held = [Finding(key=DROPS, known=False)]
    assert not alarms.turn([], held, now=NOW, clear_after=10).raised
    turn = alarms.turn([alarm(DROPS, seen=500)], held, now=NOW, clear_after=10)
    assert not turn.cleared
    assert turn.found == ((alarm(DROPS, seen=500), held[0]),)


def test_an_alarm_that_is_found_again_is_the_same_alarm() -> None:
    turn = alarms.turn([alarm(DROPS, seen=1)], [Finding(key=DROPS, detail="more")], now=NOW, clear_after=10)
    assert (turn.raised, turn.cleared) == ((), ())


def test_every_kind_says_what_to_do() -> None:
    assert REMEDIES.keys() == set(AlarmKind)


# --- readings -----------------------------------------------------------------------------------------------------


def test_a_reading_looks_at_recent_buckets_only_and_at_few() -> None:
    hourly = watch_readings.buckets_of(epoch(), now=NOW, back=60)
    assert hourly == (BUCKET - 3_600, BUCKET)
    assert len(watch_readings.buckets_of(epoch(bucket_seconds=1), now=NOW, back=20_000)) == 200


def test_buckets_that_the_first_reading_did_not_look_at_do_not_count() -> None:
    old = BucketCell(1, BUCKET - 7_200, "outcome", "A", "ok")
    after = Reading(at=NOW, oldest={1: BUCKET - 7_200}, cells={old: 10_000})
    assert not watch_readings.grown(reading(ago=20), after, [epoch()])["spam", "A"]


def test_a_router_that_began_anew_counts_from_nothing() -> None:
    before, after = reading(routers={("r", "captured"): 900}), reading(routers={("r", "captured"): 12})
    assert watch_readings.counted_by_routers(before, after)["r"]["captured"] == 12
