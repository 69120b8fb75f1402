"""One capture goes to its shadows: who is called, and what each made of it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fakes import EqualBytes, ScriptedGateway
from multishadow_server.core import windows
from multishadow_server.core.capture import Capture
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.protocols import PREDICT_STREAM
from multishadow_server.service.in_flight import CallSlots
from multishadow_server.service.ports import Answer
from multishadow_server.service.shadowing import Fate, Shadowed, Shadowing

AGREES = Answer(status_code=0, response=b"yes", latency=0.02)
CAPTURE = Capture(
    request_id="r-1",
    session_id="",
    model="spam",
    method="/p.S/M",
    attributes={},
    request=b"question",
    metadata=(),
    live="base",
    shadows=("A", "B"),
    revision=5,
    response=b"yes",
    status_code=0,
    status_message="",
    live_latency=0.01,
    received_at=1000.0,
)


def an_epoch(*candidates: str, number: int = 1, first: int = 5, until: int | None = None) -> Epoch:
    return Epoch(
        id=number,
        experiment_id=1,
        model="spam",
        number=number,
        live="base",
        candidates=candidates,
        comparator=Comparator(),
        from_revision=first,
        until_revision=until,
        opened_at=0.0,
        reason="",
        bucket_seconds=3600,
    )


def a_configuration(*epochs: Epoch, revision: int = 9, names: tuple[str, ...] = ("base", "A", "B")) -> Configuration:
    versions = tuple(Version(model="spam", name=name, address=f"at-{name}", timeout=2.0) for name in names)
    return Configuration(revision=revision, models={"spam": Model(name="spam", versions=versions)}, epochs=epochs)


async def shadow(
    capture: Capture, configuration: Configuration, gateway: ScriptedGateway | None = None
) -> tuple[Shadowed, ScriptedGateway]:
    gateway = gateway or ScriptedGateway(lambda _: AGREES)
    shadowing = Shadowing(gateway=gateway, comparer=EqualBytes(), slots=CallSlots())
    return await shadowing.shadow(capture, configuration), gateway


async def observed(answer: Answer) -> Observation:
    """What a single shadow with this answer is counted as."""
    result, _ = await shadow(
        replace(CAPTURE, shadows=("A",)), a_configuration(an_epoch("A", "B")), ScriptedGateway(lambda _: answer)
    )
    (observation,) = result.observations
    return observation


async def test_every_shadow_is_called_with_its_own_time_limit_and_observed() -> None:
    before = time.monotonic()
    result, gateway = await shadow(CAPTURE, a_configuration(an_epoch("A", "B")))
    assert result.fate is Fate.OBSERVED
    assert [observation.version for observation in result.observations] == ["A", "B"]
    assert sorted(address for address, _, _ in gateway.calls) == ["at-A", "at-B"]
    assert all(deadline is not None and 1.5 < deadline - before < 10 for _, _, deadline in gateway.calls)


@pytest.mark.parametrize(
    ("answer", "outcome", "reason", "similarity"),
    [
        (AGREES, Outcome.OK, "", 1.0),
        (replace(AGREES, response=b"no"), Outcome.DIVERGED, "", 0.0),
        (replace(AGREES, response=b""), Outcome.UNCOMPARABLE, "not_set", None),
        (Answer(status_code=4, latency=2.0), Outcome.TIMEOUT, "", 0.0),
        (Answer(status_code=13, latency=0.1), Outcome.ERROR, "INTERNAL", 0.0),
        (Answer(status_code=14, latency=0.1), Outcome.ERROR, "UNAVAILABLE", 0.0),
        (Answer(status_code=99, latency=0.1), Outcome.ERROR, "UNKNOWN", 0.0),
    ],
)
async def test_an_answer_is_one_of_the_taxonomys_outcomes(
    answer: Answer, outcome: Outcome, reason: str, similarity: float | None
) -> None:
    observation = await observed(answer)
    assert (observation.outcome, observation.reason, observation.similarity) == (outcome, reason, similarity)


async def test_a_timeout_has_no_latency_and_an_answer_has_its_own() -> None:
    assert (await observed(Answer(status_code=4, latency=2.0))).latency is None
    assert (await observed(AGREES)).latency == 0.02


async def test_a_long_status_message_is_cut() -> None:
    observation = await observed(Answer(status_code=13, status_message="x" * 5000))
    assert 0 < len(observation.detail) <= 300


async def test_a_capture_that_live_failed_calls_nobody() -> None:
    result, gateway = await shadow(replace(CAPTURE, status_code=13), a_configuration(an_epoch("A", "B")))
    assert result.fate is Fate.LIVE_FAILED
    assert not gateway.calls


async def test_without_an_experiment_nobody_is_called() -> None:
    result, gateway = await shadow(CAPTURE, a_configuration())
    assert (result.fate, result.epoch) == (Fate.NO_EXPERIMENT, None)
    assert not gateway.calls


async def test_a_capture_belongs_to_the_epoch_of_its_decision_and_not_to_the_present_one() -> None:
    configuration = a_configuration(an_epoch("A", until=8), an_epoch("B", number=2, first=8))
    old, _ = await shadow(replace(CAPTURE, revision=7), configuration)
    new, _ = await shadow(replace(CAPTURE, revision=8), configuration)
    assert old.epoch is not None
    assert new.epoch is not None
    assert (old.epoch.id, new.epoch.id) == (1, 2)


NOON = 1_795_435_200.0  # Monday 2026-11-23 12:00 UTC
IN_WINDOW = replace(an_epoch("A", "B"), windows=(windows.parse("11:00-13:00"),))


async def shadow_at(now: float, received_at: float, epoch: Epoch) -> tuple[Shadowed, ScriptedGateway]:
    gateway = ScriptedGateway(lambda _: AGREES)
    shadowing = Shadowing(gateway=gateway, comparer=EqualBytes(), slots=CallSlots(), clock=lambda: now)
    return await shadowing.shadow(replace(CAPTURE, received_at=received_at), a_configuration(epoch)), gateway


async def test_a_request_outside_the_windows_is_no_part_of_the_experiment() -> None:
    result, gateway = await shadow_at(NOON, NOON - 2 * 3_600, IN_WINDOW)
    assert (result.fate, result.epoch) == (Fate.NO_EXPERIMENT, None)
    assert not gateway.calls


async def test_a_request_after_the_time_box_is_no_part_of_the_experiment_though_its_flags_still_say_so() -> None:
    ended = replace(an_epoch("A", "B"), ends_at=NOON)
    assert (await shadow_at(NOON, NOON, ended))[0].fate is Fate.NO_EXPERIMENT
    assert (await shadow_at(NOON, NOON - 1, ended))[0].fate is Fate.OBSERVED


async def test_a_worker_that_comes_when_the_window_has_closed_calls_nobody() -> None:
    closed = NOON + 3_600
    in_time, gateway = await shadow_at(closed + 59, closed - 1, IN_WINDOW)
    assert [each.outcome for each in in_time.observations] == [Outcome.OK, Outcome.OK]
    assert len(gateway.calls) == 2
    too_late, gateway = await shadow_at(closed + 60, closed - 1, IN_WINDOW)
    assert [(each.outcome, each.reason) for each in too_late.observations] == [
        (Outcome.DROPPED, "window_closed"),
        (Outcome.DROPPED, "window_closed"),
    ]
    assert not gateway.calls


async def test_a_machine_that_does_not_know_a_windows_time_zone_calls_nobody_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    elsewhere = replace(an_epoch("A", "B"), windows=(windows.parse("sat Mars/Olympus"),))
    result, gateway = await shadow_at(NOON, NOON, elsewhere)
    assert result.fate is Fate.NO_EXPERIMENT
    assert not gateway.calls
    assert '"Mars/Olympus" is no time zone' in caplog.text


async def test_a_configuration_older_than_the_decision_assigns_nothing() -> None:
    result, gateway = await shadow(replace(CAPTURE, revision=10), a_configuration(an_epoch("A", "B"), revision=9))
    assert result.fate is Fate.NO_EXPERIMENT
    assert not gateway.calls


async def test_shadows_that_are_no_candidates_are_neither_called_nor_counted_against_anybody() -> None:
    result, gateway = await shadow(CAPTURE, a_configuration(an_epoch("B")))
    assert [observation.version for observation in result.observations] == ["B"]
    assert result.strangers == 1
    assert [address for address, _, _ in gateway.calls] == ["at-B"]


async def test_a_candidate_that_is_no_version_any_more_is_dropped_with_that_reason() -> None:
    result, _ = await shadow(CAPTURE, a_configuration(an_epoch("A", "B"), names=("base", "A")))
    dropped = result.observations[1]
    assert (dropped.outcome, dropped.reason, dropped.similarity) == (Outcome.DROPPED, "unknown_version", None)


async def test_a_shadow_named_twice_is_called_once() -> None:
    result, gateway = await shadow(replace(CAPTURE, shadows=("A", "A")), a_configuration(an_epoch("A")))
    assert len(result.observations) == len(gateway.calls) == 1


async def test_a_capture_that_breaks_our_code_is_dropped_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def break_on_a(address: str) -> Answer:
        if address == "at-A":
            raise ValueError("metadata of an impossible kind")
        return AGREES

    result, _ = await shadow(CAPTURE, a_configuration(an_epoch("A", "B")), ScriptedGateway(break_on_a))
    assert [(item.outcome, item.reason) for item in result.observations] == [
        (Outcome.DROPPED, "internal_error"),
        (Outcome.OK, ""),
    ]
    assert "could not be shadowed" in caplog.text


async def test_a_copy_is_marked_whatever_the_caller_had_marked() -> None:
    metadata = (("x-tenant", "t1"), ("x-shadow-deployment", "no"), ("x-multishadow-request-id", "forged"))
    _, gateway = await shadow(replace(CAPTURE, shadows=("A",), metadata=metadata), a_configuration(an_epoch("A", "B")))
    (_, sent, _) = gateway.calls[0]
    assert sent == (("x-tenant", "t1"), ("x-shadow-deployment", "true"), ("x-multishadow-request-id", "r-1"))


async def test_a_streamed_request_is_streamed_to_shadows_too_and_compared_whole() -> None:
    streamed = replace(CAPTURE, method=PREDICT_STREAM, live_first_latency=0.01, shadows=("A",))
    gateway = ScriptedGateway(lambda _: replace(AGREES, first_latency=0.005))
    result, _ = await shadow(streamed, a_configuration(an_epoch("A")), gateway)
    (seen,) = result.observations
    assert (seen.outcome, seen.first_latency, gateway.streamed) == (Outcome.OK, 0.005, [PREDICT_STREAM])


async def test_a_stream_that_its_timeout_ends_keeps_the_time_of_its_first_message() -> None:
    seen = await observed(Answer(status_code=4, latency=2.0, first_latency=0.3))
    assert (seen.outcome, seen.latency, seen.first_latency) == (Outcome.TIMEOUT, None, 0.3)


async def test_a_shadow_is_asked_by_the_name_that_its_server_knows() -> None:
    configuration = a_configuration(an_epoch("A"))
    model = configuration.models["spam"]
    renamed = tuple(replace(version, served_name="own") for version in model.versions)
    configuration = replace(configuration, models={"spam": replace(model, versions=renamed)})
    _, gateway = await shadow(replace(CAPTURE, shadows=("A",)), configuration)
    assert gateway.requests == [CAPTURE.request + b"\x0a\x03own"]
