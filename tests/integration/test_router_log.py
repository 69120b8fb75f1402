"""The capture log as routers write it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from multishadow_server.adapters import capture_codec
from multishadow_server.adapters.jetstream_log import JetStreamLog, ensure_stream
from multishadow_server.core.capture import Capture, CaptureBatch, DropTally
from multishadow_server.errors import FailedPrecondition, LogFull, LogUnavailable, MessageTooLarge
from multishadow_server.settings import Settings

CAPTURE = Capture(
    request_id="r", session_id="s", model="spam", method="/m", attributes={}, request=b"?", metadata=(), live="base",
    shadows=("A",), revision=3, response=b"!", status_code=0, status_message="", live_latency=0.01, received_at=6e8,
)  # fmt: skip
BATCH = CaptureBatch(router="router-1", captures=(CAPTURE,))


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


async def messages(client: Client, log_name: str) -> int:
    return (await client.jetstream().stream_info(log_name)).state.messages


async def test_every_process_follows_the_number_of_partitions_that_the_log_was_made_with(
    client: Client, log_name: str
) -> None:
    first = JetStreamLog(client, Settings(log_name=log_name, log_partitions=3))
    second = JetStreamLog(client, Settings(log_name=log_name, log_partitions=8))
    await first.open()
    assert second.partitions == 8
    await second.append(7, BATCH, message_id="m-1")
    assert (first.partitions, second.partitions) == (3, 3)
    subjects = (await client.jetstream().stream_info(log_name, subjects_filter=">")).state.subjects
    assert subjects == {f"{log_name}.1": 1}


async def test_the_same_message_is_logged_once(client: Client, log_name: str) -> None:
    log = JetStreamLog(client, Settings(log_name=log_name))
    for message_id in ("m-1", "m-1", "m-2"):
        await log.append(0, BATCH, message_id=message_id)
    assert await messages(client, log_name) == 2


async def test_a_full_log_refuses_and_deletes_nothing(client: Client, log_name: str) -> None:
    log = JetStreamLog(client, Settings(log_name=log_name, log_max_bytes=2_000))
    with pytest.raises(LogFull, match="MULTISHADOW_LOG_MAX_BYTES"):
        await _append_often(log)
    assert (await client.jetstream().get_msg(log_name, 1)).data == capture_codec.encode(BATCH)


async def _append_often(log: JetStreamLog) -> None:
    for number in range(100):
        await log.append(0, BATCH, message_id=f"m-{number}")


async def test_the_size_limit_follows_the_settings(client: Client, log_name: str) -> None:
    for size in (1_000_000, 2_000_000):
        await ensure_stream(client.jetstream(), Settings(log_name=log_name, log_max_bytes=size))
        assert (await client.jetstream().stream_info(log_name)).config.max_bytes == size


async def test_a_batch_larger_than_a_message_is_refused_before_it_is_sent(client: Client, log_name: str) -> None:
    log = JetStreamLog(client, Settings(log_name=log_name))
    await log.open()
    huge = CaptureBatch(router="r", captures=(replace(CAPTURE, request=bytes(log.largest_message)),))
    with pytest.raises(MessageTooLarge, match="max_payload"):
        await log.append(0, huge, message_id="m-1")
    assert await messages(client, log_name) == 0


async def test_a_stream_made_for_something_else_is_not_taken(client: Client, log_name: str) -> None:
    await client.jetstream().add_stream(name=log_name, subjects=[f"{log_name}.*"])
    with pytest.raises(FailedPrecondition, match="MULTISHADOW_LOG_NAME"):
        await JetStreamLog(client, Settings(log_name=log_name)).open()


async def test_a_stream_that_was_deleted_is_made_again(client: Client, log_name: str) -> None:
    log = JetStreamLog(client, Settings(log_name=log_name))
    await log.append(0, BATCH, message_id="m-1")
    await client.jetstream().delete_stream(log_name)
    with pytest.raises(LogUnavailable):
        await log.append(0, BATCH, message_id="m-2")
    await log.append(0, BATCH, message_id="m-2")
    assert await messages(client, log_name) == 1


# --- the bytes ----------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
MICROSECONDS = st.integers(0, 10**15).map(lambda count: count / 1_000_000)
METADATA = st.one_of(
    st.tuples(st.just("x-plan"), st.text(st.characters(codec="ascii"), max_size=8)),
    st.tuples(st.just("x-plan-bin"), st.binary(max_size=8)),
)
CAPTURES = st.builds(
    Capture,
    request_id=TEXT,
    session_id=TEXT,
    model=TEXT,
    method=TEXT,
    attributes=st.dictionaries(TEXT, JSON, max_size=3),
    request=st.binary(max_size=20),
    metadata=st.lists(METADATA, max_size=3).map(tuple),
    live=TEXT,
    shadows=st.lists(TEXT, max_size=3).map(tuple),
    revision=st.integers(0, 2**40),
    response=st.binary(max_size=20),
    status_code=st.integers(0, 16),
    status_message=TEXT,
    live_latency=MICROSECONDS.map(lambda seconds: seconds % 100).map(lambda seconds: round(seconds, 6)),
    received_at=MICROSECONDS,
    live_first_latency=st.none() | MICROSECONDS,
    fingerprint=st.binary(max_size=8),
    in_session=st.booleans(),
    turn=st.one_of(st.none(), st.integers(0, 2**53)),
)
DROPS = st.builds(
    DropTally,
    model=TEXT,
    live=TEXT,
    shadows=st.lists(TEXT, max_size=3).map(tuple),
    revision=st.integers(0, 2**40),
    reason=TEXT,
    count=st.integers(0, 2**40),
    received_at=MICROSECONDS,
)


@given(
    router=TEXT,
    captures=st.lists(CAPTURES, max_size=3).map(tuple),
    drops=st.lists(DROPS, max_size=2).map(tuple),
    ticked_at=MICROSECONDS,
)
def test_a_batch_survives_the_log_unchanged(
    router: str, captures: tuple[Capture, ...], drops: tuple[DropTally, ...], ticked_at: float
) -> None:
    batch = CaptureBatch(router=router, captures=captures, drops=drops, ticked_at=ticked_at)
    assert capture_codec.decode(capture_codec.encode(batch)) == batch
