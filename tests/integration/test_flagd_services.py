"""flagd's services as the protocol has them, below what stock clients show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from openfeature.schemas.protobuf.flagd.evaluation.v1 import evaluation_pb2 as v1
from openfeature.schemas.protobuf.flagd.evaluation.v1 import evaluation_pb2_grpc as v1_grpc
from openfeature.schemas.protobuf.flagd.evaluation.v2 import evaluation_pb2 as v2
from openfeature.schemas.protobuf.flagd.evaluation.v2 import evaluation_pb2_grpc as v2_grpc
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from flag_servers import FlagServer, flag_server
from running_control import control_address, refused
from serving_flags import flag
from waiting import PATIENCE, until

FLAGS = {
    "boolean": flag({"on": True, "off": False}, "on"),
    "text": flag({"a": "x"}, "a"),
    "number": flag({"a": 1, "b": 2.5}, "b"),
    "object": flag({"a": {"deep": [1, None, {"b": True}]}}, "a"),
    "list": flag({"a": [1, 2]}, "a"),
    "huge": flag({"a": 2**63}, "a"),
    "largest": flag({"a": 2**63 - 1}, "a"),
    "without-default": flag({"a": "x"}, None),
    "disabled": {**flag({"a": True}, "a"), "state": "DISABLED"},
    "stray": flag({"a": "x"}, "a", {"if": [True, "b", None]}),
    "unreadable": flag({"a": "x"}, "a", {"no-operator": []}),
    "failing": flag({"a": "x"}, "a", {"+": [{"var": "text"}, 1]}),
    "payments": flag({"a": "x"}, "a", metadata={"flagSetId": "payments"}),
}
SERVED_BY_V1 = {"boolean", "text", "number", "object", "huge", "largest", "payments"}


@pytest.fixture
async def server() -> AsyncIterator[FlagServer]:
    async with flag_server(FLAGS) as server:
        yield server


@pytest.fixture
async def channel(server: FlagServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield channel


def second(channel: grpc.aio.Channel) -> Any:
    return v2_grpc.ServiceStub(channel)


def sync(channel: grpc.aio.Channel) -> Any:
    return sync_pb2_grpc.FlagSyncServiceStub(channel)


@pytest.mark.parametrize(
    ("key", "kind", "code"),
    [
        ("nothing", "String", StatusCode.NOT_FOUND),
        ("text", "Boolean", StatusCode.INVALID_ARGUMENT),
        ("number", "Int", StatusCode.INVALID_ARGUMENT),
        ("boolean", "Int", StatusCode.INVALID_ARGUMENT),
        ("list", "Object", StatusCode.INVALID_ARGUMENT),
        ("huge", "Int", StatusCode.INVALID_ARGUMENT),
        ("unreadable", "String", StatusCode.DATA_LOSS),
        # Never UNKNOWN, which stock clients try again and again.
        ("stray", "String", StatusCode.INTERNAL),
        ("failing", "String", StatusCode.INTERNAL),
    ],
)
async def test_what_a_flag_does_not_give_has_flagds_status(
    channel: grpc.aio.Channel, key: str, kind: str, code: StatusCode
) -> None:
    for version, stub in ((v1, v1_grpc.ServiceStub(channel)), (v2, v2_grpc.ServiceStub(channel))):
        request = getattr(version, f"Resolve{kind}Request")(flag_key=key)
        request.context.update({"text": "x"})
        async with refused(code, key):
            await getattr(stub, f"Resolve{kind}")(request)


async def test_the_largest_number_that_fits_is_carried(channel: grpc.aio.Channel) -> None:
    answer = await second(channel).ResolveInt(v2.ResolveIntRequest(flag_key="largest"))
    assert answer.value == 2**63 - 1


async def test_an_objects_innards_are_carried(channel: grpc.aio.Channel) -> None:
    answer = await second(channel).ResolveObject(v2.ResolveObjectRequest(flag_key="object"))
    assert MessageToDict(answer.value) == {"deep": [1.0, None, {"b": True}]}


@pytest.mark.parametrize(("key", "reason"), [("without-default", "DEFAULT"), ("disabled", "DISABLED")])
async def test_a_value_that_is_the_callers_to_choose_is_not_made_up(
    channel: grpc.aio.Channel, key: str, reason: str
) -> None:
    kind = "Boolean" if key == "disabled" else "String"
    newer = await getattr(second(channel), f"Resolve{kind}")(getattr(v2, f"Resolve{kind}Request")(flag_key=key))
    assert (newer.reason, newer.HasField("value"), newer.HasField("variant")) == (reason, False, False)
    older = await getattr(v1_grpc.ServiceStub(channel), f"Resolve{kind}")(
        getattr(v1, f"Resolve{kind}Request")(flag_key=key)
    )
    assert (older.reason, older.variant) == (reason, "")


async def test_version_1_resolves_all_that_has_a_value(channel: grpc.aio.Channel) -> None:
    everything = await v1_grpc.ServiceStub(channel).ResolveAll(v1.ResolveAllRequest())
    assert set(everything.flags) == SERVED_BY_V1
    assert everything.flags["number"].double_value == 2.5
    assert everything.flags["boolean"].bool_value is True
    assert MessageToDict(everything.flags["payments"].metadata) == {"flagSetId": "payments", "version": "1"}
    chosen = await v1_grpc.ServiceStub(channel).ResolveAll(
        v1.ResolveAllRequest(), metadata=(("flagd-selector", "flagSetId=payments"),)
    )
    assert set(chosen.flags) == {"payments"}


async def test_an_event_stream_begins_with_every_flag_and_goes_on_with_what_happens(
    server: FlagServer, channel: grpc.aio.Channel
) -> None:
    stream = second(channel).EventStream(v2.EventStreamRequest())
    assert (await stream.read()).type == "provider_ready"
    everything = await stream.read()
    assert everything.type == "configuration_change"
    assert set(everything.data["flags"]) == set(FLAGS)
    server.load({"text": flag({"a": "y"}, "a"), "new": flag({"a": 1}, "a")})
    assert changes(await stream.read()) == {"text": "update", "new": "create"}
    server.load()  # a revision that changes no flag
    server.remove("new")
    assert changes(await stream.read()) == {"new": "delete"}
    # True and 1 are the same to Python, and to nobody else.
    server.load({"boolean": flag({"on": 1, "off": 0}, "on")})
    assert changes(await stream.read()) == {"boolean": "update"}


def changes(event: v2.EventStreamResponse) -> dict[str, str]:
    assert event.type == "configuration_change"
    return {key: what["type"] for key, what in MessageToDict(event.data)["flags"].items()}


async def test_an_event_stream_with_a_selector_names_its_flags_only(
    server: FlagServer, channel: grpc.aio.Channel
) -> None:
    stream = second(channel).EventStream(v2.EventStreamRequest(), metadata=(("flagd-selector", "flagSetId=payments"),))
    await stream.read()
    assert set(changes(await stream.read())) == {"payments"}
    server.load({"text": flag({"a": "z"}, "a")})
    server.load({"payments": flag({"a": "z"}, "a", metadata={"flagSetId": "payments"})})
    assert changes(await stream.read()) == {"payments": "update"}


async def test_a_quiet_event_stream_shows_that_it_lives() -> None:
    async with flag_server(FLAGS, keep_alive=0.02) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        stream = second(channel).EventStream(v2.EventStreamRequest())
        assert [(await stream.read()).type for _ in range(4)] == [
            "provider_ready", "configuration_change", "keep_alive", "keep_alive",
        ]  # fmt: skip


async def test_a_set_is_sent_whole_at_first_and_whenever_one_of_its_flags_changes(
    server: FlagServer, channel: grpc.aio.Channel
) -> None:
    stream = sync(channel).SyncFlags(sync_pb2.SyncFlagsRequest(selector="flagSetId=payments"))
    first = await stream.read()
    sent = json.loads(first.flag_configuration)
    assert sent["metadata"] == {"flagSetId": "payments", "version": "1"}
    assert sent["flags"] == {"payments": FLAGS["payments"]}
    assert MessageToDict(first.sync_context) == {"flagSource": "multishadow"}
    server.load({"text": flag({"a": "not theirs"}, "a")})
    server.load({"payments": flag({"a": "new"}, "a", metadata={"flagSetId": "payments"})})
    again = json.loads((await stream.read()).flag_configuration)
    assert (again["metadata"]["version"], again["flags"]["payments"]["variants"]) == ("3", {"a": "new"})


async def test_a_set_can_be_fetched_once_and_the_header_wins_over_the_request(channel: grpc.aio.Channel) -> None:
    fetched = await sync(channel).FetchAllFlags(sync_pb2.FetchAllFlagsRequest())
    assert json.loads(fetched.flag_configuration)["flags"] == FLAGS
    chosen = await sync(channel).FetchAllFlags(
        sync_pb2.FetchAllFlagsRequest(selector="flagSetId=other"), metadata=(("flagd-selector", "flagSetId=payments"),)
    )
    assert set(json.loads(chosen.flag_configuration)["flags"]) == {"payments"}
    metadata = await sync(channel).GetMetadata(sync_pb2.GetMetadataRequest())
    assert MessageToDict(metadata.metadata) == {"flagSource": "multishadow"}


async def test_a_selector_that_is_not_understood_is_refused(channel: grpc.aio.Channel) -> None:
    async with refused(StatusCode.INVALID_ARGUMENT, 'selector "source=a.json"', "flagSetId=payments"):
        await sync(channel).FetchAllFlags(sync_pb2.FetchAllFlagsRequest(selector="source=a.json"))
    async with refused(StatusCode.INVALID_ARGUMENT, 'selector "a.json"'):
        await second(channel).EventStream(v2.EventStreamRequest(), metadata=(("flagd-selector", "a.json"),)).read()


async def test_a_reader_that_does_not_read_holds_up_nobody_and_misses_no_flag(server: FlagServer) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(server.grpc, options=options) as channel:
        idle = sync(channel).SyncFlags(sync_pb2.SyncFlagsRequest())
        await idle.read()
        awake = second(channel).EventStream(v2.EventStreamRequest())
        await awake.read()
        await awake.read()
        # More than any window holds: the idle reader's stream stands still.
        large = "x" * 300_000
        for number in range(20):
            server.load({f"n-{number}": flag({"a": large + str(number)}, "a")})
            assert changes(await awake.read()) == {f"n-{number}": "create"}
        seen: set[str] = set()
        received = 0
        while "n-19" not in seen:
            seen = set(json.loads((await idle.read()).flag_configuration)["flags"])
            received += 1
    assert {f"n-{number}" for number in range(20)} <= seen
    # It was sent what there was when it could take more, not every revision.
    assert received < 20


async def test_open_streams_are_told_to_come_back_and_do_not_hold_up_a_stop(database_url: str) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        async with control_address(database_url, drain_seconds=600) as address:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            events = second(channel).EventStream(v2.EventStreamRequest())
            await events.read()
            await events.read()
            flags = sync(channel).SyncFlags(sync_pb2.SyncFlagsRequest())
            await flags.read()
            readings = asyncio.gather(ending_of(events), ending_of(flags))
            stopping_at = loop.time()
        assert loop.time() - stopping_at < PATIENCE
        # JavaScript's stock client does not come back after an orderly end.
        assert set(await readings) == {StatusCode.UNAVAILABLE}


async def ending_of(stream: Any) -> StatusCode:
    try:
        await stream.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


async def test_the_health_of_flagds_services_is_that_of_their_flags(database_url: str) -> None:
    async with control_address(database_url) as address, grpc.aio.insecure_channel(address) as channel:

        async def serves(service: str) -> bool:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        for service in ("flagd.evaluation.v1.Service", "flagd.evaluation.v2.Service", "flagd.sync.v1.FlagSyncService"):
            await until(lambda: serves(service))  # noqa: B023  it is waited for here
    async with (
        control_address("postgresql://nobody@127.0.0.1:1/none") as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        assert not await serves("flagd.sync.v1.FlagSyncService")
        assert await serves("multishadow.v1.ControlService")
