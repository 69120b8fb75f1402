"""A running control role, and the words to ask it in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import control_pb2_grpc, flags_pb2_grpc
from multishadow_server.app import control as control_role
from multishadow_server.settings import Settings
from waiting import PATIENCE


@asynccontextmanager
async def control_addresses(database_url: str | None, **settings: Any) -> AsyncIterator[tuple[str, str]]:
    """Run the role as `multishadow control` does, in this event loop, until the block ends: its gRPC and HTTP."""
    free = "127.0.0.1:0"
    quick: dict[str, Any] = {
        "control_listen": free,
        "http_listen": free,
        "drain_seconds": 0.2,
        "report_interval": 0.05,
    }
    chosen = Settings(database_url=database_url, **(quick | settings))
    stop = asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    http: list[str] = []
    role = asyncio.create_task(control_role.run(chosen, stop, ready=address.set_result, http_ready=http.append))
    try:
        role.add_done_callback(lambda _: address.cancel())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([address])
        if address.cancelled():
            await role
        yield address.result(), http[0]
    finally:
        stop.set()
        await asyncio.wait([role], timeout=PATIENCE)
    await role


@asynccontextmanager
async def control_address(database_url: str | None, **settings: Any) -> AsyncIterator[str]:
    """The same, for who needs the gRPC address only."""
    async with control_addresses(database_url, **settings) as (address, _):
        yield address


class Control:
    """The control API, asked in few words. Errors come as `grpc.aio.AioRpcError`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: Any = control_pb2_grpc.ControlServiceStub(channel)
        self.flag_stub: Any = flags_pb2_grpc.FlagServiceStub(channel)

    async def apply(self, *versions: str, model: str = "spam", address: str = "127.0.0.1:9", **fields: Any) -> Any:
        specs = [pb.VersionSpec(name=version, address=address) for version in versions]
        return await self.stub.ApplyModel(pb.ApplyModelRequest(model=model, versions=specs, actor="ada", **fields))

    async def start(self, *candidates: str, model: str = "spam", **fields: Any) -> Any:
        return await self.stub.StartExperiment(
            pb.StartExperimentRequest(model=model, candidates=candidates, actor="ada", **fields)
        )

    async def stop(self, model: str = "spam") -> Any:
        return await self.stub.StopExperiment(pb.StopExperimentRequest(model=model, actor="ada"))

    async def set_flag(self, version: str, claim: pb.Claim.ValueType, *, model: str = "spam", **fields: Any) -> Any:
        return await self.stub.SetFlag(
            pb.SetFlagRequest(model=model, version=version, claim=claim, actor="ada", **fields)
        )

    async def promote(
        self, version: str, *, model: str = "spam", force: bool = True, reason: str = "for a test", **fields: Any
    ) -> Any:
        """By default without a look at its server and its gates: most tests have none that would do."""
        return await self.stub.Promote(
            pb.PromoteRequest(model=model, version=version, force=force, reason=reason, actor="ada", **fields)
        )

    async def rollback(self, model: str = "spam") -> Any:
        return await self.stub.Rollback(pb.RollbackRequest(model=model, actor="ada"))

    async def compare(self, **fields: Any) -> Any:
        return await self.stub.Compare(pb.CompareRequest(**fields))

    async def flags(self, model: str = "spam") -> dict[str, str]:
        """What each version's flag says, in words, by the version's name."""
        found = await self.stub.ListFlags(pb.ListFlagsRequest(model=model))
        return {flag.key.split(".", 1)[1]: flag.claim for flag in found.flags}

    async def live(self, model: str = "spam") -> str:
        found: pb.ListModelsResponse = await self.stub.ListModels(pb.ListModelsRequest())
        return next(each.live_version for each in found.models if each.name == model)


@asynccontextmanager
async def asked(address: str) -> AsyncIterator[Control]:
    """A client of the control at that address."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Control(channel)


@asynccontextmanager
async def refused(code: grpc.StatusCode, *said: str) -> AsyncIterator[None]:
    """The call in this block must fail with that status, and its message must say all of these."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    details = caught.value.details() or ""
    assert [each for each in said if each not in details] == [], details
