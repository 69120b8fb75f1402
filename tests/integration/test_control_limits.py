"""Limits, pauses and writes through the control API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import shadowing_pb2, shadowing_pb2_grpc
from running_control import Control, asked, control_address, refused
from store_fixtures import rows
from waiting import until

LIMITS = pb.VersionLimits(
    requests_per_second=50, capacity=200, max_request_bytes=1_000, circuit_breaker=pb.CircuitBreaker(failures=5)
)


@pytest.fixture
async def address(database_url: str) -> AsyncIterator[str]:
    async with control_address(database_url) as address:
        yield address


@pytest.fixture
async def control(address: str) -> AsyncIterator[Control]:
    async with asked(address) as client:
        yield client


@pytest.fixture
async def shadowing(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield shadowing_pb2_grpc.ShadowingServiceStub(channel)


async def a_version(control: Control, name: str) -> pb.Version:
    listed: pb.ListVersionsResponse = await control.stub.ListVersions(pb.ListVersionsRequest(model="spam"))
    return next(version for version in listed.versions if version.name == name)


async def test_limits_are_applied_listed_and_left_alone_by_who_does_not_name_them(control: Control) -> None:
    await control.apply("base", "A")
    spec = pb.VersionSpec(name="A", address="127.0.0.1:9", limits=LIMITS)
    applied = await control.stub.ApplyModel(
        pb.ApplyModelRequest(model="spam", versions=[spec], max_request_bytes=9_999)
    )
    assert "capacity of A: unlimited → 200" in applied.changes
    assert applied.model.max_request_bytes == 9_999
    again = await control.apply("base", "A")
    assert list(again.changes) == []
    stored = (await a_version(control, "A")).limits
    assert stored == pb.VersionLimits(
        requests_per_second=50,
        capacity=200,
        utilisation=0.7,
        max_request_bytes=1_000,
        circuit_breaker=pb.CircuitBreaker(failures=5, share=0.5),
    )
    bad = pb.VersionSpec(name="A", address="127.0.0.1:9", limits=pb.VersionLimits(capacity=-1))
    async with refused(StatusCode.INVALID_ARGUMENT, "versions[0] (A).limits.capacity: -1 is out of range"):
        await control.stub.ApplyModel(pb.ApplyModelRequest(model="spam", versions=[bad]))


async def test_a_pause_is_listed_and_on_record_and_no_change_of_the_experiment(
    control: Control, shadowing: Any, database_url: str
) -> None:
    await control.apply("base", "A", "B")
    await control.start("A", "B")
    paused = await shadowing.PauseShadowing(
        shadowing_pb2.PauseShadowingRequest(version="A", seconds=7_200, actor="ann", reason="its database")
    )
    pause = paused.version.pause
    assert (pause.by, pause.reason, pause.until.seconds - pause.since.seconds) == ("ann", "its database", 7_200)
    assert paused.revision == 3
    assert (await a_version(control, "A")).pause == pause
    assert not (await a_version(control, "B")).HasField("pause")
    report = await control.compare(model="spam")
    assert (report.epoch, report.experiment.state) == (1, "running")
    assert (await control.flags())["A"] == "shadow"
    resumed = await shadowing.ResumeShadowing(shadowing_pb2.ResumeShadowingRequest(version="A", actor="bob"))
    assert not resumed.version.HasField("pause")
    assert resumed.revision == 4
    again = await shadowing.ResumeShadowing(shadowing_pb2.ResumeShadowingRequest(model="spam", version="A"))
    assert again.revision == 4, "it was not paused any more: nothing is written"
    audit = rows(database_url, "SELECT action, actor, subject FROM audit_log WHERE subject = 'spam.A' ORDER BY id")
    assert [tuple(line) for line in audit] == [
        ("pause_shadowing", "ann", "spam.A"),
        ("resume_shadowing", "bob", "spam.A"),
    ]


async def test_a_pause_that_has_ended_by_itself_is_not_listed(control: Control, shadowing: Any) -> None:
    await control.apply("base", "A")
    await shadowing.PauseShadowing(shadowing_pb2.PauseShadowingRequest(version="A", seconds=1))
    assert (await a_version(control, "A")).HasField("pause")
    await until(lambda: _is_over(control))


async def _is_over(control: Control) -> bool:
    return not (await a_version(control, "A")).HasField("pause")


async def test_a_pause_that_cannot_be_is_refused(control: Control, shadowing: Any) -> None:
    await control.apply("base", "A")
    async with refused(StatusCode.INVALID_ARGUMENT, "seconds: 0 is out of range", "30 days"):
        await shadowing.PauseShadowing(shadowing_pb2.PauseShadowingRequest(version="A", seconds=0))
    async with refused(StatusCode.NOT_FOUND, "spam has no version 'Z'"):
        await shadowing.PauseShadowing(shadowing_pb2.PauseShadowingRequest(version="Z"))
    async with refused(StatusCode.NOT_FOUND, "no model 'ham'"):
        await shadowing.ResumeShadowing(shadowing_pb2.ResumeShadowingRequest(model="ham", version="A"))


async def test_a_model_that_writes_is_never_shadowed_and_attempts_are_counted(control: Control) -> None:
    await control.apply("base", "A", writes=pb.WriteTerms(all=True))
    before = await _refused(control)
    async with refused(StatusCode.FAILED_PRECONDITION, "spam is marked as writing", "`writing_methods`"):
        await control.start("A")
    async with refused(StatusCode.FAILED_PRECONDITION, "spam is marked as writing"):
        await control.set_flag("A", pb.CLAIM_SHADOW, percent=5)
    assert await control.flags() == {"base": "live", "A": "off"}
    await until(lambda: _counts(control, before + 2))
    await control.promote("A", percent=50)
    await control.rollback()
    applied = await control.apply("base", writes=pb.WriteTerms(methods=["Update"]))
    assert list(applied.changes) == ["requests that write: all requests → Update"]
    assert (await control.start("A")).experiment.state == "running"


async def _refused(control: Control) -> int:
    status = await control.stub.GetStatus(pb.GetStatusRequest())
    return sum(process.counters.get("writes.refused", 0) for process in status.processes)


async def _counts(control: Control, number: int) -> bool:
    return await _refused(control) == number
