"""Privacy terms through `shadowctl`, a real control and a real PostgreSQL."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_shadowctl import environment
from test_shadowctl_quality import shadowctl

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.service.ports import Flush, StoredComparison
from running_control import control_address
from store_fixtures import capture, everything, opened, rows

SECRET = "alice@example.com"
VERSIONS = "versions: [{name: base, address: '127.0.0.1:1'}, {name: A, address: '127.0.0.1:1'}]\n"


@pytest.fixture
async def running(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async with control_address(database_url) as address:
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.yaml"


def one_line(words: str) -> str:
    """Without the breaks of a narrow terminal."""
    return " ".join(words.split())


async def apply(file: Path, privacy: str, more: str = "") -> tuple[int, str]:
    file.write_text(f"model: mail\n{VERSIONS}privacy: {privacy}\n{more}")  # noqa: ASYNC240  a line
    done = await shadowctl("apply", "-f", str(file))
    return done.code, one_line(done.out or done.err)


async def store(database_url: str, *sessions: str) -> None:
    """A divergent comparison of each of these sessions, as a worker stored them before there were any terms."""
    async with opened(database_url) as engine:
        (epoch,) = (await PostgresControl(engine).read()).epochs
        answer = prediction_pb2.PredictResponse(text=f"write to {SECRET}").SerializeToString()
        seen = Observation(version="A", outcome=Outcome.DIVERGED, similarity=0.1, response=answer)
        request = prediction_pb2.PredictRequest(model="mail", text=f"I am {SECRET}").SerializeToString()
        samples = [
            StoredComparison(
                epoch_id=epoch.id,
                capture=capture(
                    model="mail",
                    request_id=f"r-{session}",
                    session_id=session,
                    attributes={},
                    request=request,
                    response=answer,
                    received_at=time.time() - 3600,
                ),
                observations=[seen],
                kept_because="diverged",
            )
            for session in sessions
        ]
        await PostgresObservations(engine).commit(
            Flush(log_id="log", partition=0, previous_offset=0, offset=1, comparisons=samples)
        )


def audited(database_url: str) -> list[tuple[str, str]]:
    return [
        (action, json.dumps(detail))
        for action, detail in rows(database_url, "SELECT action, detail FROM audit_log ORDER BY id")
        if action not in {"apply_model", "start_experiment"}
    ]


@pytest.mark.usefixtures("running")
async def test_what_is_wrong_with_terms_is_told_with_its_place(file: Path) -> None:
    for privacy, said in (
        ("{redact: {paths: ['$.input.x']}}", "privacy.redact.paths[0]: '$.input.x' is in another notation"),
        (
            "{redact: {custom: [{name: own, regex: '(?=x)'}]}}",
            "custom[0] (own).regex: '(?=x)' is no regex",
        ),
        ("{redact: {patterns: [ssn]}}", "there is no pattern 'ssn'; allowed are email, card, key, phone"),
        ("{payloads: secret}", "model.yaml:3:21: payloads are stored full, redacted, hashed, or none of them"),
        ("{keep_bytes: lots}", "model.yaml:3:23: a size must stand here, e.g. 2GiB"),
        ("{keep: 30s}", "privacy.keep: 30 s is out of range"),
        ("{redact: {custom: [{name: own}]}}", "a custom pattern needs 'regex'"),
    ):
        code, output = await apply(file, privacy)
        assert code == 2
        assert said in output
    code, output = await apply(file, "{payloads: none}", "labels: {delay: 0, keep: 7d}\n")
    assert (code, "say labels: off, or payloads: redacted" in output) == (2, True)


@pytest.mark.usefixtures("running")
async def test_terms_are_shown_applied_to_what_is_stored_and_erased_by(file: Path, database_url: str) -> None:
    assert (await apply(file, "{payloads: full}"))[0] == 0
    assert (await shadowctl("start", "A", "--for", "1h")).code == 0
    await store(database_url, "user-1", "user-2", "user-3")
    assert (await shadowctl("privacy", "apply")).out.startswith("mail: of 0 stored comparisons")
    _, said = await apply(file, "{redact: {patterns: [email]}, keep: 14d, keep_bytes: 2GiB}")
    assert "payloads full → payloads redacted; hiding email; kept for 14 d; at most 2,147,483,648 bytes" in said
    listed = one_line((await shadowctl("get", "models")).out)
    assert "mail: payloads redacted; hiding email; kept for 14 d; at most 2.0 GiB" in listed
    shown = await shadowctl("privacy", "show")
    assert "3 rows were stored by looser terms: shadowctl privacy apply mail" in one_line(shown.out)
    assert "The capture log cannot be asked" in one_line(shown.out)
    assert SECRET.encode() in everything(database_url)
    applied = await shadowctl("privacy", "apply", "--reason", "ticket 12")
    assert "mail: of 3 stored comparisons and answers, 3 were stored anew" in one_line(applied.out)
    assert SECRET.encode() not in everything(database_url)
    document = (await shadowctl("privacy", "show", "-o", "json")).document
    assert [(each["what"], each["payloads"], each["rows"]) for each in document["stored"]] == [
        ("comparisons", "redacted", 3)
    ]

    assert (await shadowctl("privacy", "purge", "--before", "yesterday")).code == 2
    assert (await shadowctl("privacy", "purge", "--before", "1d", "--session", "x")).code == 2
    refused = await shadowctl("privacy", "purge", "--session", "user-1")
    assert (refused.code, "pass --yes to go without asking" in one_line(refused.err)) == (2, True)
    would = await shadowctl("privacy", "purge", "--session", "user-1", "--dry-run")
    assert "1 comparisons, 0 answers, 0 labels and 0 dead letters would be erased; nothing was" in one_line(would.out)
    # Under other terms the same session may be stored as its hash; it is found all the same.
    assert (await apply(file, "{payloads: none}"))[0] == 0
    assert "3 were stored anew" in (await shadowctl("privacy", "apply")).out
    erased = await shadowctl("privacy", "purge", "--session", "user-1", "--yes", "--reason", "request 7")
    assert "1 comparisons, 0 answers, 0 labels and 0 dead letters are erased" in one_line(erased.out)
    assert "0 comparisons" in (await shadowctl("privacy", "purge", "--before", "1d", "--yes")).out
    assert "1 comparisons" in (await shadowctl("privacy", "purge", "--request", "r-user-2", "--yes")).out
    assert "0 comparisons" in (await shadowctl("privacy", "purge", "--before", "2000-01-01", "--yes")).out
    assert rows(database_url, "SELECT request_id FROM comparison") == [("r-user-3",)]
    lines = audited(database_url)
    assert [action for action, _ in lines] == ["apply_privacy"] * 2 + ["purge_begun", "purge"] * 4
    assert "request 7" in lines[2][1]
    # What is erased must not live on in what nothing is ever taken out of.
    assert [detail for _, detail in lines if "user-1" in detail or "user-2" in detail] == []


@pytest.mark.usefixtures("running")
async def test_what_needs_payloads_says_that_there_are_none(file: Path, database_url: str) -> None:
    assert (await apply(file, "{payloads: hashed}"))[0] == 0
    assert (await shadowctl("start", "A", "--for", "1h")).code == 0
    await store(database_url, "user-1")
    await shadowctl("privacy", "apply")
    ((comparison,),) = rows(database_url, "SELECT id FROM comparison")
    shown = await shadowctl("review", "show", str(comparison))
    assert "request payload not stored (privacy: hashed); hmac-sha256:" in one_line(shown.out)
    recorded = await shadowctl("review", "record", str(comparison), "A", "live-better")
    assert recorded.code == 1
    assert "were not stored (privacy: hashed), so nobody can have looked at them here" in one_line(recorded.err)
    calibrated = await shadowctl("calibrate")
    assert calibrated.code == 1
    assert "(privacy.payloads: hashed); say payloads: redacted while you calibrate" in one_line(calibrated.err)
