"""OFREP as the specification has it, below what stock clients show."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from flag_servers import FlagServer, flag_server
from multishadow_server.entrypoints.http import HttpServer, application
from multishadow_server.errors import FailedPrecondition, InvalidInput
from running_control import control_addresses
from serving_flags import flag
from waiting import PATIENCE, until

ONE, ALL = "/ofrep/v1/evaluate/flags/{}", "/ofrep/v1/evaluate/flags"
FLAGS = {
    "boolean": flag({"on": True, "off": False}, "on"),
    "text": flag({"a": "x"}, "a", {"if": [{"==": [{"var": "email"}, "a@b.c"]}, "a", None]}),
    "float": flag({"a": 1, "b": 2.5}, "a"),
    "list": flag({"a": [1, 2.0]}, "a"),
    "drawn": flag({"a": "x", "b": "y"}, "a", {"fractional": [["a", 1], ["b", 1]]}),
    "self-named": flag(
        {"a": "x", "b": "y"},
        "a",
        {"if": [{"==": [{"var": "$flagd.flagKey"}, "self-named"]}, {"fractional": [["a", 1], ["b", 1]]}, None]},
    ),
    "disabled": {**flag({"a": True}, "a"), "state": "DISABLED"},
    "stray": flag({"a": "x"}, "a", {"if": [True, {"var": "stray"}, None]}),
    "unreadable": flag({"a": "x"}, "a", {"no-operator": []}),
    "payments": flag({"a": "x"}, "a", metadata={"flagSetId": "payments"}),
}


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Connection:
    """One HTTP connection, bare: what is sent and what comes back stay visible."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        return await self.request("POST", path, raw, **headers)

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.request("GET", path, b"", **headers)

    async def request(self, method: str, path: str, body: bytes, **headers: str) -> Reply:
        named = {"Host": "x", "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await self.reply()

    async def reply(self) -> Reply:
        status, found = await self.head()
        length = int(found.get("content-length", 0))
        return Reply(status=status, headers=found, text=(await self.reader.readexactly(length)).decode())

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, value in fields.items()}

    async def event(self) -> str:
        """The next piece of a chunked stream."""
        size = int(await self.reader.readline(), 16)
        chunk = await self.reader.readexactly(size)
        await self.reader.readline()
        return chunk.decode()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[FlagServer]:
    async with flag_server(FLAGS) as server:
        yield server


@pytest.fixture
async def http(server: FlagServer) -> AsyncIterator[Connection]:
    async with connected(server.http) as connection:
        yield connection


def context(**attributes: Any) -> dict[str, Any]:
    return {"context": {"targetingKey": "user-1", **attributes}}


async def test_a_flag_comes_with_everything_that_stock_clients_need(http: Connection) -> None:
    reply = await http.post(ONE.format("boolean"), context())
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "key": "boolean", "value": True, "reason": "STATIC", "variant": "on",
        "metadata": {"flagSetId": "multishadow", "version": "1"},
    }  # fmt: skip


async def test_floats_stay_floats_also_where_they_are_whole(http: Connection) -> None:
    assert '"value":1.0' in (await http.post(ONE.format("float"), context())).text
    assert '"value":[1,2.0]' in (await http.post(ONE.format("list"), context())).text


async def test_the_callers_default_is_left_to_the_caller(http: Connection) -> None:
    reply = (await http.post(ONE.format("disabled"), context())).json
    assert "value" not in reply
    assert (reply["reason"], reply["variant"]) == ("DISABLED", "")


@pytest.mark.parametrize(
    ("key", "body", "status", "code", "details"),
    [
        ("nothing", context(), 404, "FLAG_NOT_FOUND", 'there is no flag "nothing"'),
        ("drawn", {"context": {}}, 400, "TARGETING_KEY_MISSING", "give context.targetingKey"),
        ("self-named", {"context": {}}, 400, "TARGETING_KEY_MISSING", "give context.targetingKey"),
        ("unreadable", context(), 400, "PARSE_ERROR", "unreadable"),
        ("stray", context(stray="z"), 400, "GENERAL", "Resolved variant z not in variants"),
        ("stray", context(stray="\ud800"), 400, "GENERAL", "\ud800"),
        ("boolean", b"{", 400, "PARSE_ERROR", "is no JSON"),
        ("boolean", b'{"context": {"a": NaN}}', 400, "PARSE_ERROR", "NaN is no number of JSON"),
        ("boolean", b"[" * 100_000, 400, "PARSE_ERROR", "is no JSON"),
        ("boolean", b"\xff", 400, "PARSE_ERROR", "is no JSON"),
        ("boolean", [], 400, "INVALID_CONTEXT", "the body must be like"),
        ("boolean", {"context": "user-1"}, 400, "INVALID_CONTEXT", "the body must be like"),
        ("boolean", {"context": None}, 400, "INVALID_CONTEXT", "the body must be like"),
        ("boolean", {"context": {"targetingKey": 1}}, 400, "INVALID_CONTEXT", "targetingKey must be text"),
        ("boolean", b" " * 300_000, 413, "INVALID_CONTEXT", "larger than 262144 bytes"),
    ],
)
async def test_what_is_wrong_is_said_with_its_code(  # noqa: PLR0917  the fields of a refusal
    server: FlagServer, key: str, body: Any, status: int, code: str, details: str
) -> None:
    async with connected(server.http) as http:
        reply = await http.post(ONE.format(key), body)
    assert (reply.status, reply.json["key"], reply.json["errorCode"]) == (status, key, code)
    assert details in reply.json["errorDetails"]


async def test_a_bulk_request_that_is_wrong_is_refused_whole(http: Connection) -> None:
    reply = await http.post(ALL, {"context": []})
    assert (reply.status, reply.json["errorCode"]) == (400, "INVALID_CONTEXT")
    assert "key" not in reply.json


async def test_a_request_without_a_body_is_one_without_a_context(http: Connection) -> None:
    assert (await http.post(ONE.format("boolean"), b"")).json["value"] is True


async def test_all_flags_come_at_once_and_one_that_fails_costs_the_others_nothing(http: Connection) -> None:
    reply = await http.post(ALL, {"context": {"email": "a@b.c"}})
    entries = {entry["key"]: entry for entry in reply.json["flags"]}
    assert set(entries) == set(FLAGS)
    assert entries["text"]["value"] == "x"
    assert entries["drawn"]["errorCode"] == "TARGETING_KEY_MISSING"
    assert entries["unreadable"]["errorCode"] == "PARSE_ERROR"
    assert reply.json["metadata"] == {"flagSetId": "multishadow", "version": "1"}
    assert reply.json["eventStreams"] == [{"type": "sse", "endpoint": {"requestUri": "/ofrep/v1/events"}}]


async def test_the_same_flags_and_context_are_not_sent_twice(server: FlagServer, http: Connection) -> None:
    tag = (await http.post(ALL, context())).headers["etag"]
    for given in (tag, f'"other", W/{tag}', "*"):
        unchanged = await http.post(ALL, context(), If_None_Match=given)
        assert (unchanged.status, unchanged.text, unchanged.headers["etag"]) == (304, "", tag)
    for other in (context(email="a@b.c"), {"context": {"targetingKey": "user-2"}}):
        assert (await http.post(ALL, other, If_None_Match=tag)).status == 200
    selected = await http.post(ALL, context(), If_None_Match=tag, Flagd_Selector="flagSetId=payments")
    assert [entry["key"] for entry in selected.json["flags"]] == ["payments"]
    assert selected.json["eventStreams"][0]["endpoint"]["requestUri"].endswith("?selector=flagSetId%3Dpayments")
    server.load({"text": flag({"a": "new"}, "a")})
    assert (await http.post(ALL, context(), If_None_Match=tag)).status == 200


async def test_a_rule_that_reads_the_clock_is_evaluated_every_time() -> None:
    rule = {"if": [{"<": [{"var": "$flagd.timestamp"}, {"var": "until"}]}, "before", "after"]}
    flags = {"timed": flag({"before": 1, "after": 2}, "after", rule)}
    async with flag_server(flags, rate=2) as server, connected(server.http) as http:
        tag = (await http.post(ALL, context(until=0))).headers["etag"]
        # It pays for evaluation, unlike one that the revision and the context answer.
        assert (await http.post(ALL, context(until=0), If_None_Match=tag)).status == 304
        assert (await http.post(ALL, context(until=0), If_None_Match=tag)).status == 429


async def test_too_many_evaluations_are_told_to_come_back_soon() -> None:
    async with flag_server(FLAGS, rate=len(FLAGS)) as server, connected(server.http) as http:
        assert (await http.post(ALL, context())).status == 200
        refused = await http.post(ONE.format("boolean"), context())
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert f"more than {len(FLAGS)} flags are asked for in a second" in refused.json["errorDetails"]
        tag = await http.post(ALL, context(), If_None_Match='"x"')
        assert tag.status == 429


async def test_a_selector_that_is_not_understood_is_refused(http: Connection) -> None:
    for path in (ONE.format("boolean"), ALL):
        reply = await http.post(path, context(), Flagd_Selector="app=shop")
        assert (reply.status, reply.json["errorCode"]) == (400, "GENERAL")
        assert 'selector "app=shop"' in reply.json["errorDetails"]
    assert (await http.get("/ofrep/v1/events?selector=app%3Dshop")).status == 400


async def test_an_event_stream_tells_when_to_fetch_again(server: FlagServer, http: Connection) -> None:
    async with connected(server.http) as stream:
        status, headers = await opened(stream, "/ofrep/v1/events?selector=flagSetId%3Dpayments")
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (await stream.event()).startswith(":")
        server.load({"text": flag({"a": "not theirs"}, "a")})
        server.load({"payments": flag({"a": "new"}, "a", metadata={"flagSetId": "payments"})})
        assert await stream.event() == (
            'id: 3\nevent: message\ndata: {"type": "refetchEvaluation", "etag": "\\"3\\""}\n\n'
        )
    reply = await http.post(f"{ALL}?flagConfigEtag=%223%22", context(), Flagd_Selector="flagSetId=payments")
    assert reply.json["flags"][0]["value"] == "new"


async def opened(connection: Connection, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    connection.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
    return await connection.head()


async def test_who_comes_back_to_the_event_stream_learns_what_it_missed(server: FlagServer) -> None:
    server.load({"text": flag({"a": "new"}, "a")})
    async with connected(server.http) as stream:
        await opened(stream, "/ofrep/v1/events", Last_Event_ID="1")
        assert "refetchEvaluation" in await stream.event()


async def test_a_quiet_event_stream_shows_that_it_lives() -> None:
    async with flag_server(FLAGS, keep_alive=0.02) as server, connected(server.http) as stream:
        await opened(stream, "/ofrep/v1/events")
        assert [(await stream.event())[0] for _ in range(3)] == [":", ":", ":"]


async def test_event_streams_are_bounded_and_one_that_is_left_makes_room() -> None:
    async with flag_server(FLAGS, most_streams=1, keep_alive=0.02) as server:
        async with connected(server.http) as stream:
            await opened(stream, "/ofrep/v1/events")
            await stream.event()
            async with connected(server.http) as other:
                refused = await other.get("/ofrep/v1/events")
                assert (refused.status, refused.headers["retry-after"]) == (429, "5")

        async def there_is_room() -> bool:
            async with connected(server.http) as next_one:
                return (await opened(next_one, "/ofrep/v1/events"))[0] == 200

        await until(there_is_room)


async def test_who_was_told_of_a_revision_by_another_control_is_given_that_revision(
    server: FlagServer, http: Connection
) -> None:
    asked = asyncio.create_task(http.post(f"{ALL}?flagConfigEtag=%222%22", context()))
    await asyncio.sleep(0)
    async with connected(server.http) as other:
        # Answered after the first request was taken up.
        await other.post(ONE.format("boolean"), context())
    server.load({"text": flag({"a": "new"}, "a")})
    assert (await asked).json["metadata"]["version"] == "2"


@pytest.mark.parametrize("told", ["%22x%22", "%22%22", "7", "9" * 5_000])
async def test_a_revision_that_nobody_has_does_not_keep_the_answer_for_long(http: Connection, told: str) -> None:
    async with asyncio.timeout(10):
        assert (await http.post(f"{ALL}?flagConfigEtag={told}", context())).status == 200


async def test_an_answer_leaves_in_one_write(server: FlagServer) -> None:
    host, _, port = server.http.rpartition(":")
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, (host, int(port)))
        for _ in range(5):
            body = json.dumps(context()).encode()
            head = f"POST {ONE.format('boolean')} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            await loop.sock_sendall(client, head + body)
            received = await loop.sock_recv(client, 65_536)
            assert received.endswith(b'"version":"1"}}')


async def test_a_body_that_does_not_come_ends_the_request() -> None:
    async with flag_server(FLAGS, body_seconds=0.05) as server, connected(server.http) as http:
        http.writer.write(b"POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        reply = await http.reply()
        assert (reply.status, reply.json["errorDetails"]) == (408, "the body did not come within 0.05 s")


async def test_other_paths_and_methods_are_no_part_of_it(http: Connection) -> None:
    assert (await http.get(ALL)).status == 405
    assert (await http.get("/ofrep/v2/anything")).status == 404


async def test_an_error_that_nobody_foresaw_keeps_its_innards_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def fail(_: Request) -> Response:
        raise RuntimeError("the innards")

    server = HttpServer(application([Route("/fail", fail)]), drain_seconds=0.1)
    address = await server.start("127.0.0.1:0")
    try:
        async with connected(address) as http:
            reply = await http.get("/fail")
    finally:
        await server.stop()
    assert (reply.status, reply.json) == (500, {"errorDetails": "control failed on this request; its log says why"})
    assert "the innards" in caplog.text


async def test_an_address_that_cannot_be_had_is_named(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FailedPrecondition, match=rf"{address}.*--http-listen"):
            async with control_addresses(database_url, http_listen=address):
                pass
    with pytest.raises(InvalidInput, match=r"give host:port, like 127\.0\.0\.1:50053"):
        async with control_addresses(database_url, http_listen="localhost"):
            pass


async def test_an_open_event_stream_does_not_hold_up_a_stop(database_url: str) -> None:
    loop = asyncio.get_running_loop()
    async with control_addresses(database_url, drain_seconds=600) as (_, address):
        reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
        stream = Connection(reader, writer)
        await opened(stream, "/ofrep/v1/events")
        await stream.event()
        stopping_at = loop.time()
    assert loop.time() - stopping_at < PATIENCE
    assert await reader.read() == b"0\r\n\r\n"
    writer.close()
