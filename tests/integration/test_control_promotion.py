"""Promotion and rollback through the control API, on a real store."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
import psycopg
import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core.flags import may_claim
from multishadow_server.core.routing import Claim
from running_control import Control, asked, control_address, refused
from store_fixtures import rows

VERSIONS = ("base", "A", "B", "C")


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        yield client


async def test_a_promotion_flips_one_flag(control: Control, database_url: str) -> None:
    await control.apply("base", "A", "B")
    await control.start("A", "B", percent=25)
    promoted = await control.promote("A", reason="it diverges least")
    assert (promoted.version, promoted.previous_version, promoted.changed) == ("A", "base", True)
    written = rows(database_url, f"SELECT key, reason FROM flag_revision WHERE revision = {promoted.revision}")
    assert written == [("spam.A", "it diverges least")]
    assert await control.live() == "A"
    assert await control.flags() == {"base": "live", "A": "live", "B": "shadow 25 %"}


async def test_promoting_what_is_live_changes_nothing(control: Control, database_url: str) -> None:
    await control.apply("base", "A")
    first = await control.promote("A")
    again = await control.promote("A")
    assert (again.changed, again.revision, again.previous_version) == (False, first.revision, "A")
    # Nor does it have to prove anything: its server and its gates are not asked.
    assert not (await control.promote("A", force=False)).changed
    assert rows(database_url, "SELECT count(*) FROM promotion") == [(1,)]


async def test_promoting_an_older_version_takes_two_revisions(control: Control, database_url: str) -> None:
    await control.apply("base", "A", "B")
    await control.promote("B")
    await control.promote("A")
    assert await control.live() == "A"
    assert await control.flags() == {"base": "live", "A": "live", "B": "off"}
    written = rows(database_url, "SELECT revision, key FROM flag_revision WHERE revision > 2 ORDER BY revision")
    assert written == [(3, "spam.A"), (4, "spam.B")]
    undone = await control.rollback()
    assert (undone.version, undone.rolled_back_version) == ("B", "A")
    assert await control.live() == "B"


async def test_rollbacks_go_back_promotion_by_promotion(control: Control) -> None:
    await control.apply("base", "A", "B")
    await control.promote("A")
    await control.promote("B")
    assert await control.flags() == {"base": "off", "A": "live", "B": "live"}
    assert (await control.rollback()).version == "A"
    assert await control.flags() == {"base": "live", "A": "live", "B": "off"}
    assert (await control.rollback()).version == "base"
    assert await control.flags() == {"base": "live", "A": "off", "B": "off"}
    async with refused(
        StatusCode.FAILED_PRECONDITION, "no promotion of spam is left", "live is base", "promote VERSION` (base, A, B)"
    ):
        await control.rollback()


async def test_a_rollout_in_stages_is_one_promotion(control: Control) -> None:
    await control.apply("base", "A")
    await control.start("A", percent=25)
    for percent in (5, 25, 100):
        promoted = await control.promote("A", percent=percent)
        assert (promoted.changed, promoted.previous_version) == (True, "base")
    assert await control.live() == "A"
    assert (await control.rollback()).version == "base"
    assert await control.flags() == {"base": "live", "A": "shadow 25 %"}
    async with refused(StatusCode.FAILED_PRECONDITION, "no promotion of spam is left"):
        await control.rollback()


async def test_a_stage_leaves_the_model_served_by_the_one_before(control: Control) -> None:
    await control.apply("base", "A", "B")
    await control.promote("A", percent=5)
    assert await control.live() == "base"
    assert await control.flags() == {"base": "live", "A": "live 5 % (else shadow)", "B": "off"}
    async with refused(StatusCode.FAILED_PRECONDITION, "the newer A of spam claims `live`"):
        await control.promote("base", percent=50)
    await control.promote("B")
    async with refused(StatusCode.FAILED_PRECONDITION, "the newer B of spam claims `live`"):
        await control.promote("A", percent=25)
    for percent in (0.0, 101.0, float("nan")):
        async with refused(StatusCode.INVALID_ARGUMENT, "percent"):
            await control.promote("A", percent=percent)


async def test_a_version_that_nothing_listens_for_does_not_go_live_unless_forced(control: Control) -> None:
    await control.apply("base", "A", address="unix:/nowhere/spam.sock")
    async with refused(
        StatusCode.FAILED_PRECONDITION, "A does not answer at unix:/nowhere/spam.sock", "nothing changed", "force"
    ):
        await control.promote("A", force=False)
    assert await control.live() == "base"
    assert (await control.promote("A", force=True)).changed


async def test_a_port_that_something_else_listens_on_does_not_pass_for_a_version(control: Control) -> None:
    silent = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with silent:
        host, port = silent.sockets[0].getsockname()
        await control.apply("base", "A", address=f"{host}:{port}")
        async with refused(StatusCode.FAILED_PRECONDITION, "A does not answer"):
            await control.promote("A", force=False)


async def test_the_former_live_version_can_become_a_candidate_and_still_be_rolled_back_to(control: Control) -> None:
    await control.apply("base", "A", "B")
    await control.promote("A")
    await control.start("base", "B", percent=25)
    assert await control.flags() == {"base": "shadow 25 %", "A": "live", "B": "shadow 25 %"}
    assert (await control.rollback()).version == "base"
    assert await control.flags() == {"base": "live", "A": "off", "B": "shadow 25 %"}


async def test_a_rollback_needs_no_statistics_and_no_version_server(control: Control, database_url: str) -> None:
    await control.apply("base", "A", address="unix:/nowhere/spam.sock")
    await control.start("A")
    await control.promote("A")
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE rollup RENAME TO rollup_lost")
        connection.execute("ALTER TABLE comparison RENAME TO comparison_lost")
    async with refused(StatusCode.FAILED_PRECONDITION, "schema"):
        await control.compare()
    assert (await control.rollback()).version == "base"
    assert await control.live() == "base"


async def test_promotion_and_rollback_are_audited_with_their_actor(control: Control, database_url: str) -> None:
    await control.apply("base", "A")
    await control.promote("A", reason="better")
    await control.rollback()
    lines = rows(database_url, "SELECT actor, action, subject, detail ->> 'reason' FROM audit_log ORDER BY id")
    assert lines[1:] == [("ada", "promote", "spam.A", "better"), ("ada", "rollback", "spam", "")]


async def test_somebody_who_gives_no_name_is_known_by_their_address(control: Control, database_url: str) -> None:
    await control.stub.ApplyModel(pb.ApplyModelRequest(model="spam"))
    ((actor,),) = rows(database_url, "SELECT actor FROM audit_log")
    assert "127.0.0.1" in actor


async def test_everybody_promoting_at_once_never_leaves_a_model_without_a_live_version(
    control: Control, database_url: str
) -> None:
    await control.apply(*VERSIONS)
    await control.start("A", "B", percent=25)
    chance = random.Random(7)
    failures: list[StatusCode] = []

    async def change(client: Control) -> None:
        for _ in range(8):
            try:
                if chance.random() < 0.6:
                    await client.promote(chance.choice(VERSIONS), percent=chance.choice([100, 100, 25]))
                else:
                    await client.rollback()
            except grpc.aio.AioRpcError as error:
                failures.append(error.code())

    async with control_address(database_url) as other, asked(other) as second:
        await asyncio.gather(change(control), change(second), change(control), change(second))
    # Refused or overtaken; never broken.
    assert set(failures) <= {StatusCode.FAILED_PRECONDITION, StatusCode.ABORTED}
    readings = reads_of_history(database_url)
    assert len(readings) > 10
    assert all(readings)


def reads_of_history(database_url: str) -> list[list[str]]:
    """For every two successive revisions, and each way in which a reader can fall between them: who stands."""
    history = rows(database_url, "SELECT revision, key, definition FROM flag_revision ORDER BY revision")
    states: list[dict[str, Mapping[str, Any]]] = [{}]
    for _, changes in itertools.groupby(history, key=lambda row: row[0]):
        states.append({**states[-1], **{key: definition for _, key, definition in changes}})
    newest_first = [f"spam.{name}" for name in reversed(VERSIONS)]
    return [
        [key for place, key in enumerate(newest_first) if stands((before if place < turn else after)[key])]
        for before, after in itertools.pairwise(states[1:])
        for turn in range(len(newest_first) + 1)
    ]


def stands(definition: Mapping[str, Any]) -> bool:
    return "targeting" not in definition and may_claim(definition, Claim.LIVE)
