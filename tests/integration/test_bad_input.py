"""Whatever is sent to it, and whatever models answer: nothing crashes, nothing leaks, nobody is let in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import psutil
import psycopg
import pytest
from google.protobuf.descriptor import MethodDescriptor

import bad_input
import routers
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.core.routing import Claim
from multishadow_server.settings import Settings
from multishadow_server.structs import MOST_LEVELS, fill
from routers import Logged, a_request, register, saying, version
from running_control import Control, control_addresses
from shadowed_traffic import Counts, a_capture, append, begin_experiment, working
from shadowed_traffic import connected as connected_to_nats
from version_servers import labelled
from waiting import PATIENCE, until

SEED = 11
ANSWER_SECONDS = 3.0
Figures = Callable[[str], None]
# Of a fault in the program itself.
OUR_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Lines for the end of the run."""
    return lambda line: record_property("figures", line)


def open_files() -> int:
    return psutil.Process().num_fds()


async def test_mutated_requests_get_an_answer_or_a_reason_and_callers_go_on(
    database_url: str, nats_url: str, log_name: str, caplog: pytest.LogCaptureFixture, figures: Figures
) -> None:
    dice = random.Random(SEED)
    valid = prediction_pb2.PredictRequest(model="spam", request_id="r", session_id="s", text="hello")
    valid.attributes.update({"country": "NO", "n": {"a": [1, 2.5, None, True]}})
    async with version(saying(b"live")) as live, version(saying(b"shadow")) as shadow:
        await register(
            database_url, {"base": live.address, "A": shadow.address}, {"base": Claim.LIVE, "A": Claim.SHADOW}
        )
        async with routers.router(database_url, nats_url, log_name) as caller:
            ended: Counter[str] = Counter()
            for body in bad_input.mutants(valid.SerializeToString(), 1_000, dice):
                code, details = await _ending(caller.begin(body))
                ended[code.name] += 1
                assert code not in OUR_FAULTS, (body, details)
                assert details
            assert (await caller.predict(a_request())).response == b"live"
    assert set(ended) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
    assert min(ended["OK"], ended["INVALID_ARGUMENT"], ended["NOT_FOUND"]) > 10, "the mutants are of all kinds"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    figures(f"Predict: 1,000 mutated requests: {dict(ended)}")


async def test_attributes_as_deep_as_a_request_may_nest_cost_no_other_capture(
    database_url: str, nats_url: str, log_name: str
) -> None:
    def asking(number: int, levels: int) -> bytes:
        request = prediction_pb2.PredictRequest(model="spam", request_id=f"{number}", session_id="s", text=f"{number}")
        fill(request.attributes, bad_input.deep(levels))
        return request.SerializeToString()

    # protobuf reads a request with 33 levels of attributes; inside a batch of captures it would not.
    async with version(saying(b"live")) as live, version(saying(b"shadow")) as shadow:
        await register(
            database_url, {"base": live.address, "A": shadow.address}, {"base": Claim.LIVE, "A": Claim.SHADOW}
        )
        async with routers.router(database_url, nats_url, log_name) as caller:
            for number in range(10):
                assert (await caller.predict(asking(number, MOST_LEVELS))).response == b"live"
                code, details = await _ending(caller.begin(asking(100 + number, 33)))
                assert code is grpc.StatusCode.INVALID_ARGUMENT
                assert details == f"attributes: objects and lists nest at most {MOST_LEVELS} levels deep here"
            async with connected_to_nats(nats_url) as client:
                captures = await Logged(client, log_name).captures(10)
    assert {capture.request_id for capture in captures} == {f"{number}" for number in range(10)}
    assert all(capture.attributes == bad_input.deep(MOST_LEVELS) for capture in captures)


async def test_broken_frames_and_slow_clients_hold_up_nobody_and_leave_nothing_open(
    database_url: str, nats_url: str, log_name: str, figures: Figures
) -> None:
    dice = random.Random(SEED)
    large = prediction_pb2.PredictResponse(raw=bytes(1 << 20)).SerializeToString()
    async with version(saying(large)) as live:
        await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
        async with routers.router(database_url, nats_url, log_name) as caller:
            assert (await caller.predict(a_request())).response == large
            before = open_files()
            conversations = list(bad_input.broken_conversations(routers.PREDICT, a_request(), dice))
            # Half a call each, and nothing more; and whole calls whose answer nobody reads.
            slow = [bad_input.greeting() + bad_input.a_call(routers.PREDICT, a_request())[:-1]] * 100
            deaf = [bad_input.greeting(window=0) + bad_input.a_call(routers.PREDICT, a_request())] * 20
            held = [await _send(caller.address, said) for said in (*slow, *deaf)]
            for said in conversations:
                _, writer = await _send(caller.address, said)
                writer.close()
            # While all of them are connected. A call that a broken server had received is cancelled with it.
            await until(lambda: _answers_with(caller, large))
            for _, writer in held:
                writer.close()
            await until(lambda: open_files() <= before + 2)
            await until(lambda: _answers_with(caller, large))
    figures(
        f"frames: {len(conversations)} broken conversations, {len(slow)} slow, {len(deaf)} deaf clients; no socket left"
    )


async def _answers_with(caller: routers.Caller, response: bytes) -> bool:
    try:
        return (await caller.predict(a_request(), wait_for_ready=True)).response == response
    except grpc.aio.AioRpcError as error:
        assert error.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}  # noqa: PT017  others are faults
        return False


async def _send(address: str, said: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connected() -> bool:
        # A server that a call has broken is replaced, and takes no connections until it is.
        with contextlib.suppress(ConnectionError):
            opened.append(await asyncio.open_connection(host, int(port)))
        return bool(opened)

    await until(connected)
    reader, writer = opened[0]
    # The other side may hang up at any word.
    with contextlib.suppress(ConnectionError):
        writer.write(said)
        await writer.drain()
    return reader, writer


async def test_injected_texts_and_extreme_numbers_change_nothing_and_are_refused_with_a_reason(
    database_url: str, caplog: pytest.LogCaptureFixture, figures: Figures
) -> None:
    dice = random.Random(SEED)
    async with control_addresses(database_url) as (address, _), grpc.aio.insecure_channel(address) as channel:
        control = Control(channel)
        await control.apply("base", "A", model="untouched")
        before = _schema(database_url)
        ended: Counter[str] = Counter()
        methods = list(bad_input.control_methods())
        for method in methods:
            for text in bad_input.INJECTIONS:
                message = bad_input.hostile(method.input_type, text, dice)
                code, details = await _call(channel, method, message.SerializeToString())
                ended[code.name] += 1
                assert code not in OUR_FAULTS, (method.full_name, text[:40], details)
            for body in bad_input.mutants(b"\x0a\x04spam\x12\x02\x08\x01", 10, dice):
                code, details = await _call(channel, method, body)
                ended[code.name] += 1
                assert code not in OUR_FAULTS or "deserializing" in details, (method.full_name, body, details)
        assert await control.live("untouched") == "base"
        assert _schema(database_url) == before
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    figures(f"control: {len(methods)} methods, {ended.total():,} hostile messages: {dict(ended)}")


async def _ending(call: Awaitable[bytes]) -> tuple[grpc.StatusCode, str]:
    """How a call ends, and with which words."""
    try:
        return grpc.StatusCode.OK, repr(await call)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""


async def _call(channel: Any, method: MethodDescriptor, body: bytes) -> tuple[grpc.StatusCode, str]:
    """How a call ends; a stream is left after its first answer."""
    path = bad_input.path_of(method)

    async def first(answers: AsyncIterator[bytes]) -> bytes:
        return await anext(aiter(answers), b"")

    if method.client_streaming:
        return await _ending(channel.stream_unary(path)(iter([body, body]), timeout=PATIENCE))
    if method.server_streaming:
        return await _ending(first(channel.unary_stream(path)(body, timeout=1.0)))
    return await _ending(channel.unary_unary(path)(body, timeout=PATIENCE))


def _schema(database_url: str) -> list[tuple[object, ...]]:
    """The tables with their columns, without those that come by the day."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' "
            "AND table_name !~ '_[0-9]+$' ORDER BY 1, 2"
        ).fetchall()


async def test_what_is_no_http_is_refused_and_probes_are_answered_on(database_url: str, figures: Figures) -> None:
    dice = random.Random(SEED)
    request = (
        b"POST /ofrep/v1/evaluate/flags/spam.A HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b'Content-Length: 21\r\n\r\n{"context":{"a":"b"}}'
    )
    conversations = [
        b"\x00" * 1000,
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        *bad_input.mutants(request, 200, dice),
    ]  # fmt: skip
    async with control_addresses(database_url) as (_, http):

        async def says_yes(path: str) -> bool:
            answer = await _answer(http, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return answer.startswith(b"HTTP/1.1 200")

        await until(lambda: says_yes("/readyz"))
        before = open_files()
        answers = await asyncio.gather(*(_answer(http, said) for said in conversations))
        assert sum(answer.startswith(b"HTTP/1.1 400") for answer in answers) > 20
        assert [answer for answer in answers if answer.startswith(b"HTTP/1.1 5")] == []
        await until(lambda: says_yes("/healthz"))
        await until(lambda: open_files() <= before + 2)
    figures(f"HTTP: {len(conversations)} broken conversations; no 5xx, no socket left")


async def _answer(http: str, said: bytes) -> bytes:
    """How the answer begins; nothing when the other side hangs up, or waits for more that never comes."""
    reader, writer = await _send(http, said)
    try:
        with contextlib.suppress(OSError):
            return await asyncio.wait_for(reader.read(64), ANSWER_SECONDS)
        return b""
    finally:
        writer.close()


def _answers() -> dict[str, bytes]:
    """What a model should not answer, by the name of the version that does."""
    structured = prediction_pb2.PredictResponse()
    structured.structured.update({f"field-{number}": number for number in range(20_000)})
    return {
        "nan": prediction_pb2.PredictResponse(scalar=math.nan).SerializeToString(),
        "nan-vector": prediction_pb2.PredictResponse(
            embedding=prediction_pb2.Embedding(values=[math.nan, math.inf])
        ).SerializeToString(),
        "huge": prediction_pb2.PredictResponse(text="x" * 100_000_000).SerializeToString(),
        "deep": bad_input.nested(30),
        "deeper": bad_input.nested(20_000),
        "wide": structured.SerializeToString(),
        "no-utf-8": b"\x62\x04\xff\xfe\xfd\xfc",
        "garbage": random.Random(SEED).randbytes(1_000),
        "empty": b"",
    }


async def test_hostile_answers_of_shadows_are_counted_as_what_they_are_and_stop_nobody(
    database_url: str, nats_url: str, log_name: str, figures: Figures
) -> None:
    answers = {"good": labelled("yes").SerializeToString(), **_answers()}
    async with contextlib.AsyncExitStack() as stack:
        addresses = {}
        for name, answer in answers.items():
            addresses[name] = (await stack.enter_async_context(version(saying(answer)))).address
        epoch = await begin_experiment(database_url, addresses)
        settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name, worker_linger=0.05)
        client = await stack.enter_async_context(connected_to_nats(nats_url))
        counts = Counts(database_url, epoch)
        stack.push_async_callback(counts.aclose)
        log = JetStreamLog(client, settings)
        await log.open()
        await stack.enter_async_context(working(settings))
        captures = [
            a_capture(f"r-{number}", shadows=tuple(answers), revision=epoch.from_revision) for number in range(3)
        ]
        await append(log, captures)
        await counts.reach(3 * len(answers))
        outcomes = await counts.outcomes()
    assert outcomes.pop(("good", "ok")) == 3
    assert outcomes.pop(("huge", "error")) == 3
    assert outcomes == Counter({(name, "uncomparable"): 3 for name in answers if name not in {"good", "huge"}})
    figures(f"answers: {len(answers) - 1} hostile kinds as shadows; each counted, the worker went on")


async def test_hostile_answers_of_the_live_version_reach_the_caller_as_they_are_or_as_an_error(
    database_url: str, nats_url: str, log_name: str
) -> None:
    for name, answer in _answers().items():
        async with version(saying(answer)) as live:
            await register(database_url, {"base": live.address}, {"base": Claim.LIVE}, model=name)
            async with routers.router(database_url, nats_url, log_name, instance=name) as caller:
                if name == "huge":
                    error = await caller.status(a_request(name))
                    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                else:
                    assert (await caller.predict(a_request(name))).response == answer
