"""Answers that a real worker keeps, and the labels that are held against them through a real control."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from google.protobuf.struct_pb2 import Value

from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.postgres import PostgresControl
from multishadow_server.core.labels import LARGEST_ANSWERS
from multishadow_server.core.model import LabelTerms
from multishadow_server.settings import Settings
from running_control import Control, asked, control_address
from shadowed_traffic import MODEL, Stage, append, staged, working
from store_fixtures import opened, rows
from version_servers import answering, diverges_on, diverging, labelled
from waiting import until


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=4,
        worker_linger=0.05,
        report_interval=0.05,
    )


async def keep_answers(database_url: str) -> int:
    """Ask for the model's answers to be kept; labels are due at once. Returns the revision."""
    async with opened(database_url) as engine, PostgresControl(engine).change("ada") as change:
        terms = LabelTerms(delay=0, keep=86_400)
        await change.put_model(replace(change.configuration.models[MODEL], labels=terms))
        return change.revision


def kept(settings: Settings) -> int:
    return int(rows(str(settings.database_url), "SELECT count(*) FROM answer")[0][0])


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        yield client


def message(value: str) -> Value:
    return Value(string_value=value)


async def tally(control: Control) -> dict[str, int]:
    found = await control.stub.GetLabelTally(pb.GetLabelTallyRequest(model=MODEL))
    return {field.name: number for field, number in found.ListFields() if isinstance(number, int)}


async def labelled_cells(stage: Stage) -> dict[tuple[str, str], int]:
    return dict(await stage.counts.family("label"))


async def test_labels_reach_the_counts_of_the_requests_that_a_worker_saw(settings: Settings, control: Control) -> None:
    async with staged(settings, {"A": answering(), "B": diverging(0.3)}) as stage, working(settings):
        revision = await keep_answers(str(settings.database_url))
        sent = stage.captures(40, revision=revision)
        early = await control.stub.RecordLabel(
            pb.RecordLabelRequest(model=MODEL, request_id=sent[0].request_id, value=message("yes"), actor="ada")
        )
        assert early.reception == "waiting"
        await append(stage.log, sent)
        await stage.counts.reach(80)
        assert kept(settings) == 40

        async def stream() -> AsyncIterator[pb.ImportLabelsRequest]:
            for capture in sent[1:]:
                yield pb.ImportLabelsRequest(model=MODEL, request_id=capture.request_id, value=message("yes"))

        imported = await control.stub.ImportLabels(stream())
        assert dict(imported.receptions) == {"counted": 39}

        async def all_counted() -> bool:
            return await tally(control) == {"counted": 40}

        await until(all_counted)
        wrong = sum(diverges_on(capture.request_id, 0.3) for capture in sent)
        assert await labelled_cells(stage) == {
            ("base", "o"): 40,
            ("A", "o"): 40,
            ("B", "o"): 40 - wrong,
            ("B", "b"): wrong,
        }


async def test_a_model_that_does_not_ask_for_labels_keeps_no_answers(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await append(stage.log, stage.captures(10))
        await stage.counts.reach(10)
        assert kept(settings) == 0


async def test_answers_that_are_too_large_are_counted_and_not_kept(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        revision = await keep_answers(str(settings.database_url))
        huge = labelled("y" * LARGEST_ANSWERS).SerializeToString()
        await append(stage.log, stage.captures(3, prefix="huge", revision=revision, response=huge), per_message=1)
        await append(stage.log, stage.captures(2, revision=revision))
        await stage.counts.reach(5)
        assert kept(settings) == 2
        await until(lambda: stage.counter("answers.too_large", equals=3))
