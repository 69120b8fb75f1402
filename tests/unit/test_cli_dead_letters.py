"""`shadowctl deadletter`: what it asks, shows, and ends with."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from test_cli_commands import Result, Shadowctl, shadowctl

import control_fixtures as reports
from control_fixtures import NOON, CannedControl, at, models
from multishadow.v1 import control_pb2
from multishadow.v1 import deadletters_pb2 as pb
from multishadow_client.cli import dead_letter_commands, dead_letter_terms, manifest
from multishadow_client.cli.exit_code import Mistake

__all__ = ["shadowctl"]  # a fixture

LETTER = pb.DeadLetter(
    id=4711, model="spam", version="A", request_id="r-1", state="parked", attempts=6, outcome="error",
    reason="UNAVAILABLE", detail="connection refused", received_at=at(NOON), created_at=at(NOON), changed_at=at(NOON),
    expires_at=at(NOON), epoch_id=3,
)  # fmt: skip


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["ListDeadLetters"] = pb.ListDeadLettersResponse(dead_letters=[LETTER], next_before_id=4711)
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "140")
        monkeypatch.setattr(dead_letter_commands, "_LOOK_SECONDS", 0.01)
        yield canned


def retried(
    control: CannedControl, shadowctl: Shadowctl, *looks: dict[str, int], count: int = 2, impossible: int = 0
) -> Result:
    """Retry two letters of which each look finds so many in each state."""
    control.answers["RetryDeadLetters"] = pb.RetryDeadLettersResponse(retry="abc", count=count, impossible=impossible)
    left = list(looks)

    def counts(_: pb.CountDeadLettersRequest) -> pb.CountDeadLettersResponse:
        states = left.pop(0) if len(left) > 1 else left[0]
        return pb.CountDeadLettersResponse(
            counts=[pb.DeadLetterCount(model="spam", version="A", state=state, count=n) for state, n in states.items()]
        )

    control.answers["CountDeadLetters"] = counts
    return shadowctl("deadletter", "retry", "4711", "4712", "--within", "1s")


def test_a_list_says_what_failed_how_and_how_to_go_on(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = shadowctl("deadletter", "list", "--model", "spam", "--version", "A", "--state", "parked", "--since", "2h")
    assert re.search(r"4711 +spam\.A +parked +6 +error UNAVAILABLE", result.out)
    assert "--before 4711" in result.err
    (asked,) = control.asked(pb.ListDeadLettersRequest)
    assert (asked.filter.model, asked.filter.version, asked.filter.state) == ("spam", "A", "parked")
    assert asked.filter.HasField("since")


def test_one_is_shown_with_its_payload(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["GetDeadLetter"] = pb.GetDeadLetterResponse(
        dead_letter=LETTER, request=b"question\x00\xff", live_version="base", revision=5
    )
    result = shadowctl("deadletter", "show", "4711")
    assert result.code == 0
    for said in ("connection refused", "base, revision 5", "question\\x00\\xff", "10 bytes"):
        assert said in result.out
    document = json.loads(shadowctl("deadletter", "show", "4711", "-o", "json").out)
    assert base64.b64decode(document["request"]) == b"question\x00\xff"


def test_a_retry_waits_until_all_were_answered(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = retried(control, shadowctl, {"waiting": 2}, {"waiting": 1, "answered": 1}, {"answered": 2})
    assert result.code == 0
    assert "2 tried again: 2 answered, 0 failed again" in result.out
    assert "1 answered, 0 failed again, 1 to go" in result.err
    assert list(control.asked(pb.RetryDeadLettersRequest)[0].filter.ids) == [4711, 4712]


def test_a_retry_that_fails_again_ends_with_1(control: CannedControl, shadowctl: Shadowctl) -> None:
    assert retried(control, shadowctl, {"answered": 1, "parked": 1}).code == 1


def test_a_retry_of_what_cannot_be_tried_ends_with_1(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = retried(control, shadowctl, {}, count=0, impossible=2)
    assert (result.code, "2 cannot be tried" in result.out) == (1, True)


def test_a_retry_that_still_waits_ends_with_3(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = retried(control, shadowctl, {"answered": 1, "waiting": 1})
    assert (result.code, "1 still wait for a worker" in result.out) == (3, True)


def test_a_purge_goes_on_until_nothing_is_left(control: CannedControl, shadowctl: Shadowctl) -> None:
    parts = [pb.PurgeDeadLettersResponse(purged=500, more=True), pb.PurgeDeadLettersResponse(purged=3)]
    control.answers["PurgeDeadLetters"] = lambda _: parts.pop(0)
    result = shadowctl("deadletter", "purge", "--all", "--state", "answered", "--yes", "-o", "json")
    assert (result.code, json.loads(result.out)) == (0, {"purged": 503, "missing": 0})


def test_a_purge_that_nobody_can_be_asked_about_is_refused(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["CountDeadLetters"] = pb.CountDeadLettersResponse()
    result = shadowctl("deadletter", "purge", "4711")
    assert (result.code, "--yes" in result.err) == (2, True)
    assert not control.asked(pb.PurgeDeadLettersRequest)


@pytest.mark.parametrize("arguments", [(), ("4711", "--all"), ("4711", "--state", "parked")])
def test_which_ones_are_meant_must_be_said(
    control: CannedControl, shadowctl: Shadowctl, arguments: tuple[str, ...]
) -> None:
    result = shadowctl("deadletter", "retry", *arguments)
    assert (result.code, "--all" in result.err) == (2, True)
    assert not control.requests


# --- the model's setting ------------------------------------------------------------------------------------------


def policy(tmp_path: Path, text: str) -> control_pb2.DeadLetterPolicy:
    file = tmp_path / "model.yaml"
    file.write_text(f"model: spam\ndead_letters: {text}\n")
    return manifest.read(file)[0].request.dead_letters


def test_a_model_file_says_when_failed_calls_are_tried_again(tmp_path: Path) -> None:
    found = policy(tmp_path, "{retries: 3, backoff: 500ms..5m, for: [timeout, UNAVAILABLE], keep: 2d, max: 500}")
    assert found == control_pb2.DeadLetterPolicy(
        retries=3, first_backoff_seconds=0.5, longest_backoff_seconds=300, reasons=["timeout", "UNAVAILABLE"],
        keep_seconds=172_800, max_letters=500,
    )  # fmt: skip
    assert policy(tmp_path, "none") == control_pb2.DeadLetterPolicy(retries=0)
    with pytest.raises(Mistake, match=r"'soon' is no backoff: .* e\.g\. 1s\.\.5m"):
        policy(tmp_path, "{backoff: soon}")


@pytest.mark.parametrize(("typed", "seconds"), [("1s..5m", (1, 300)), ("250ms .. 1h", (0.25, 3600)), ("30s", (30, 30))])
def test_a_backoff_is_read(typed: str, seconds: tuple[float, float]) -> None:
    assert dead_letter_terms.backoff(typed) == seconds


@pytest.mark.parametrize("typed", ["", "5", "1s..", "..5m", "1s...5m", "-1s"])
def test_what_is_no_backoff_is_refused(typed: str) -> None:
    with pytest.raises(typer.BadParameter):
        dead_letter_terms.backoff(typed)


def test_models_are_listed_with_what_becomes_of_failed_calls(control: CannedControl, shadowctl: Shadowctl) -> None:
    found = models(spam=["base"])
    found.models[0].dead_letters.CopyFrom(
        control_pb2.DeadLetterPolicy(
            retries=5, first_backoff_seconds=0.25, longest_backoff_seconds=300, reasons=["timeout"]
        )
    )
    control.answers["ListModels"] = found
    assert "spam: dead letters: 5 retries after 250ms..5m for timeout" in shadowctl("get", "models").out
