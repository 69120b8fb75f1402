"""Promotion and rollback while callers keep calling, on real processes: two routers, a worker, control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from multishadow.v1 import control_pb2, control_pb2_grpc, prediction_pb2
from multishadow_server.adapters.deployment import Deployment, Endpoints
from multishadow_server.settings import Settings
from version_servers import Context, labelled, serving
from waiting import PATIENCE, until

CALLERS = 16
ROUNDS = 5
# bench/flag_flip.py makes five hundred, and takes their times.
FLIPS = 60
PREDICT = "/multishadow.v1.PredictionService/Predict"


class Callers:
    """Calls under way all the time; they keep what they were answered.

    Each caller's connection is its own, so that both routers are called. `answers` holds (version by metadata, version
    by the answer itself), `revisions` which version answered by which revision of the flags.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = asyncio.Event()
        self.answers: list[tuple[str, str]] = []
        self.revisions: set[tuple[int, str]] = set()
        self.errors: list[grpc.aio.AioRpcError] = []

    async def run(self) -> None:
        """Call until `stop`."""
        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(self._call(number))

    def stop(self) -> None:
        """No further calls; those under way finish."""
        self._stop.set()

    async def _call(self, number: int) -> None:
        # Without its own subchannel pool, channels to one address share a connection, and so a router.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            predict = channel.unary_unary(
                PREDICT,
                request_serializer=prediction_pb2.PredictRequest.SerializeToString,
                response_deserializer=prediction_pb2.PredictResponse.FromString,
            )
            calls = 0
            while not self._stop.is_set():
                calls += 1
                request = prediction_pb2.PredictRequest(model="spam", request_id=f"{number}-{calls}", text="hello")
                call = predict(request, timeout=PATIENCE)
                try:
                    answer = await call
                except grpc.aio.AioRpcError as error:
                    self.errors.append(error)
                else:
                    metadata = {str(key): value for key, value in await call.trailing_metadata() or ()}
                    version = str(metadata["x-multishadow-version"])
                    self.answers.append((version, answer.classification.label))
                    self.revisions.add((int(metadata["x-multishadow-revision"]), version))


def naming(label: str) -> object:
    """A behaviour: answer with the version's own name, after a pause, so that calls are under way at every flip."""

    async def predict(_request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        await asyncio.sleep(0.005)
        return labelled(label)

    return predict


@asynccontextmanager
async def deployed(settings: Settings) -> AsyncIterator[tuple[Endpoints, control_pb2_grpc.ControlServiceAsyncStub]]:
    """Two routers, a worker and control over these engines; model spam with its base and A registered."""
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(Deployment(settings, routers=2, workers=1, report=print))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(endpoints.control))
        stub = control_pb2_grpc.ControlServiceStub(channel)
        versions = []
        for name in ("base", "A"):
            server = await stack.enter_async_context(serving(naming(name)))  # type: ignore[arg-type]
            versions.append(control_pb2.VersionSpec(name=name, address=server.address))
        applied = await stub.ApplyModel(control_pb2.ApplyModelRequest(model="spam", versions=versions, actor="test"))

        async def both_routers_know_the_model() -> bool:
            status = await stub.GetStatus(control_pb2.GetStatusRequest())
            routers = [process.revision for process in status.processes if process.role == "router"]
            return len(routers) == 2 and min(routers) >= applied.revision

        await until(both_routers_know_the_model)
        yield endpoints, stub


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        data_dir=tmp_path / "data",
        router_listen="127.0.0.1:0",
        control_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
    )


async def test_every_request_is_answered_by_a_live_version_while_versions_are_promoted_and_rolled_back(
    settings: Settings,
) -> None:
    async with deployed(settings) as (endpoints, control):
        callers = Callers(endpoints.router)
        calling = asyncio.create_task(callers.run())

        async def served_by(version: str) -> None:
            """Wait until callers of both routers have been answered by it alone for a while."""
            await until(lambda: len(callers.answers) >= 4 * CALLERS)
            await until(lambda: {named for named, _ in callers.answers[-4 * CALLERS :]} == {version})

        try:
            await until(lambda: callers.answers)
            for _ in range(ROUNDS):
                promoted = await control.Promote(
                    control_pb2.PromoteRequest(model="spam", version="A", actor="test", reason="test", force=True)
                )
                assert promoted.previous_version == "base"
                await served_by("A")
                back = await control.Rollback(control_pb2.RollbackRequest(model="spam", actor="test", reason="test"))
                assert back.version == "base"
                await served_by("base")
        finally:
            callers.stop()
            await calling

    assert callers.errors == []
    # Whoever the router names is who answered, at every moment of every flip.
    assert {named for named, _ in callers.answers} == {"base", "A"}
    assert all(named == answered for named, answered in callers.answers)


async def test_flips_back_to_back_are_each_answered_by_who_was_live_at_that_moment(settings: Settings) -> None:
    async with deployed(settings) as (endpoints, control):
        callers = Callers(endpoints.router)
        calling = asyncio.create_task(callers.run())
        live: dict[int, str] = {}
        try:
            await until(lambda: callers.answers)
            for _ in range(FLIPS // 2):
                promoted = await control.Promote(
                    control_pb2.PromoteRequest(model="spam", version="A", actor="test", reason="test", force=True)
                )
                live[promoted.revision] = "A"
                back = await control.Rollback(control_pb2.RollbackRequest(model="spam", actor="test", reason="test"))
                live[back.revision] = "base"
            last = max(live)
            await until(lambda: (last, "base") in callers.revisions)
        finally:
            callers.stop()
            await calling

    assert callers.errors == []
    assert all(named == answered for named, answered in callers.answers)
    # A router that is overtaken may leave revisions out, but by each that it acts on it has whom that one made live.
    acted_on = {(revision, version) for revision, version in callers.revisions if revision >= min(live)}
    assert acted_on <= set(live.items())
    assert len(acted_on) > 10
