"""Labels, reviews and calibration through `shadowctl`, a real control and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_shadowctl import Result, environment, run

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.service.ports import Flush, KeptAnswers, StoredComparison
from running_control import control_address
from store_fixtures import capture, opened

MODEL = "model: mail\nlabels: {delay: 0, keep: 7d}\nversions:\n"
REFERENCE = "the parcel will arrive on friday morning"


@pytest.fixture
async def running(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async with control_address(database_url) as address:
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        yield


async def shadowctl(*arguments: str) -> Result:
    return await asyncio.to_thread(run, arguments)


async def begin(tmp_path: Path, database_url: str) -> Epoch:
    """Register a model whose answers are kept, start an experiment on A, and return its epoch."""
    file = tmp_path / "model.yaml"
    file.write_text(MODEL + "  - {name: base, address: '127.0.0.1:1'}\n  - {name: A, address: '127.0.0.1:1'}\n")
    applied = await shadowctl("apply", "-f", str(file))
    assert applied.code == 0, applied.err
    assert (await shadowctl("start", "A", "--bucket", "1s", "--for", "1h")).code == 0
    async with opened(database_url) as engine:
        (epoch,) = (await PostgresControl(engine).read()).epochs
    return epoch


def text(words: str) -> bytes:
    return prediction_pb2.PredictResponse(text=words).SerializeToString()


async def commit(database_url: str, epoch: Epoch, number: int, words: str, similarity: float, *, offset: int) -> None:
    """Requests on which live said the reference and A these words."""
    outcome = Outcome.OK if similarity >= 0.85 else Outcome.DIVERGED
    seen = Observation(version="A", outcome=outcome, similarity=similarity, response=text(words))
    captures = [
        capture(
            request_id=f"{outcome}-{place}",
            model="mail",
            request=prediction_pb2.PredictRequest(model="mail", text="when?").SerializeToString(),
            response=text(REFERENCE),
            revision=epoch.from_revision,
            received_at=epoch.opened_at - 60,
        )
        for place in range(number)
    ]
    answers = [KeptAnswers(epoch_id=epoch.id, capture=each, observations=[seen]) for each in captures]
    kept = "sample" if outcome is Outcome.OK else "diverged"
    stored = [
        StoredComparison(epoch_id=epoch.id, capture=each, observations=[seen], kept_because=kept)
        for each in captures[:20]
    ]
    bucket = epoch.bucket_start(epoch.opened_at - 60)
    rollups = {(epoch.id, bucket): Rollup({Cell(Family.OUTCOME, "A", outcome): number})}
    async with opened(database_url) as engine:
        await PostgresObservations(engine).commit(
            Flush(
                log_id="log",
                partition=0,
                previous_offset=offset,
                offset=offset + 1,
                rollups=rollups,
                comparisons=stored,
                answers=answers,
            )
        )


@pytest.mark.usefixtures("running")
async def test_labels_reviews_and_a_threshold_from_them(tmp_path: Path, database_url: str) -> None:
    epoch = await begin(tmp_path, database_url)
    await commit(database_url, epoch, 900, REFERENCE, 1.0, offset=0)
    await commit(database_url, epoch, 40, "no idea", 0.1, offset=1)

    assert (await shadowctl("calibrate")).code == 1, "nobody has told any answers apart"
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label\n" + "".join(f"ok-{n},{REFERENCE}\n" for n in range(900)) + "nobody,x\n")
    imported = await shadowctl("label", "import", str(file))
    assert (imported.code, imported.out.splitlines()[0]) == (0, "mail: 900 counted, 1 waiting")
    added = await shadowctl("label", "add", "diverged-0", REFERENCE)
    assert added.out == "mail: the label of diverged-0 counted\n"
    again = await shadowctl("label", "import", str(file), "-o", "json")
    assert again.document["receptions"] == {"duplicate": 901}
    status = (await shadowctl("label", "status", "-o", "json")).document
    assert (status["counted"], status["waiting"], status["duplicate"]) == (901, 1, 901)

    quality = (await shadowctl("compare", "-o", "json")).document["quality"]
    (a,) = quality["candidates"]
    assert (quality["labelled"], quality["live_right"], a["n"], a["right"], a["only_live_right"]) == (
        901,
        901,
        901,
        900,
        1,
    )
    assert "Accuracy" in (await shadowctl("compare")).out

    listed = (await shadowctl("review", "list", "A", "--most", "20", "-o", "json")).document["comparisons"]
    assert len(listed) == 20
    shown = await shadowctl("review", "show", str(listed[0]["id"]))
    assert "base (live)" in shown.out
    assert REFERENCE in " ".join(shown.out.split())
    assert "no idea" in shown.out
    for line in listed:
        said = await shadowctl("review", "record", str(line["id"]), "A", "live-better")
        assert said.code == 0, said.err
    assert "A: people who looked said 20 live better." in (await shadowctl("compare")).out
    assert (await shadowctl("review", "record", str(listed[0]["id"]), "A", "nicer")).code == 2

    assert "The present threshold 0.85 is the one to keep." in (await shadowctl("calibrate")).out
    proposal = await shadowctl("calibrate", "--missed", "3%", "-o", "json")
    assert proposal.code == 0, proposal.err
    assert proposal.document["proposed"] == 0.5
    assert proposal.document["told_divergent"] == 21
    applied = await shadowctl("calibrate", "--missed", "3%", "--apply")
    assert "Applied: threshold: 0.85 → 0.5" in applied.out
    assert (await shadowctl("compare", "-o", "json")).document["epoch"] == 2


@pytest.mark.usefixtures("running")
async def test_what_is_not_proven_is_not_proposed(tmp_path: Path, database_url: str) -> None:
    epoch = await begin(tmp_path, database_url)
    await commit(database_url, epoch, 50, REFERENCE, 1.0, offset=0)
    for number in range(20):
        await shadowctl("label", "add", f"ok-{number}", REFERENCE)
    found = await shadowctl("calibrate", "--apply")
    assert found.code == 3
    assert "No threshold is proven yet; it stays at 0.85" in found.out
    assert (await shadowctl("compare", "-o", "json")).document["epoch"] == 1
