"""Reading a partition: in order, from the first unacknowledged message, and never past a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from multishadow_server.adapters.embedded import EmbeddedNats
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.jetstream_reader import JetStreamPartition, JetStreamReader
from multishadow_server.core.capture import CaptureBatch
from multishadow_server.errors import LogUnavailable
from multishadow_server.service.ports import LoggedBatch
from multishadow_server.settings import Settings
from shadowed_traffic import a_capture, connected
from waiting import until


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with connected(nats_url) as client:
        yield client


@pytest.fixture
async def log(client: Client, nats_url: str, log_name: str) -> JetStreamLog:
    log = JetStreamLog(client, Settings(nats_url=nats_url, log_name=log_name, log_partitions=2))
    await log.open()
    return log


@pytest.fixture
def reader(client: Client, log_name: str) -> JetStreamReader:
    return JetStreamReader(client, log_name)


async def append(log: JetStreamLog, *names: str, partition: int = 0) -> None:
    for name in names:
        batch = CaptureBatch(router="test", captures=(a_capture(name),))
        await log.append(partition, batch, message_id=f"{partition}-{name}")


async def fetched(partition: JetStreamPartition, count: int) -> list[LoggedBatch]:
    """The next messages, once there are so many."""
    messages: list[LoggedBatch] = []

    async def enough() -> bool:
        messages.extend(await partition.fetch(max_messages=count - len(messages), wait=0.2))
        return len(messages) >= count

    await until(enough)
    return messages


def names(messages: list[LoggedBatch]) -> list[str]:
    return [message.batch.captures[0].request_id for message in messages]


async def test_messages_come_in_order_and_only_the_partitions_own(log: JetStreamLog, reader: JetStreamReader) -> None:
    await append(log, "a", "b")
    await append(log, "other", partition=1)
    partition = await reader.open(0)
    await append(log, "c")
    messages = await fetched(partition, 3)
    assert names(messages) == ["a", "b", "c"]
    assert [message.sequence for message in messages] == [1, 2, 4]
    await partition.aclose()


async def test_nothing_to_read_comes_back_after_the_wait(log: JetStreamLog, reader: JetStreamReader) -> None:
    partition = await reader.open(0)
    assert list(await partition.fetch(max_messages=1, wait=0.01)) == []
    await partition.aclose()


async def test_a_takeover_begins_with_the_first_unacknowledged_message(
    log: JetStreamLog, reader: JetStreamReader, client: Client, log_name: str
) -> None:
    await append(log, "a", "b", "c", "d")
    former = await reader.open(0)
    messages = await fetched(former, 4)
    # Out of order, as no worker does: what is left must still come in order.
    await former.acknowledge([messages[0], messages[2]])
    await until(lambda: left(client, log_name, 2))
    await append(log, "e")
    heir = await reader.open(0)
    assert names(await fetched(heir, 3)) == ["b", "d", "e"]
    await former.aclose()
    await heir.aclose()


async def left(client: Client, log_name: str, messages: int) -> bool:
    return (await client.jetstream().stream_info(log_name)).state.messages == messages


async def test_a_reader_that_was_taken_over_gets_nothing_more(log: JetStreamLog, reader: JetStreamReader) -> None:
    former = await reader.open(0)
    await former.fetch(max_messages=1, wait=0.01)
    heir = await reader.open(0)
    await append(log, "a", "b")
    with pytest.raises(LogUnavailable, match="must be opened again"):
        await fetched(former, 1)
    await former.aclose()
    await heir.aclose()


async def test_a_reader_whose_messages_a_former_owner_took_refuses_to_go_on(
    log: JetStreamLog, reader: JetStreamReader, client: Client, log_name: str
) -> None:
    partition = await reader.open(0)
    await append(log, "a", "b")
    # What a former owner's late request does: it takes the first message away.
    request = f"$JS.API.CONSUMER.MSG.NEXT.{log_name}.{log_name}-0"
    stolen = await client.request(request, b'{"batch": 1}', timeout=5, old_style=True)
    assert stolen.data
    with pytest.raises(LogUnavailable, match="came where 1 was due"):
        await fetched(partition, 1)
    await partition.aclose()


async def test_a_message_that_is_no_batch_is_handed_on_as_unreadable(
    log: JetStreamLog, reader: JetStreamReader, client: Client, log_name: str
) -> None:
    await client.jetstream().publish(f"{log_name}.0", b"\xff\xfe")
    await append(log, "a")
    partition = await reader.open(0)
    poison, after = await fetched(partition, 2)
    assert poison.unreadable
    assert not poison.batch.captures
    assert names([after]) == ["a"]
    await partition.aclose()


async def test_more_messages_than_one_request_asks_for_all_come(
    log: JetStreamLog, reader: JetStreamReader, client: Client
) -> None:
    sent = [f"r-{number}" for number in range(150)]
    await append(log, *sent)
    partition = await reader.open(0)
    assert names(await fetched(partition, 150)) == sent
    await partition.aclose()


async def test_large_messages_all_come(log: JetStreamLog, reader: JetStreamReader) -> None:
    sent = [f"r-{number}" for number in range(6)]
    for name in sent:
        batch = CaptureBatch(router="test", captures=(a_capture(name, request=bytes(5 << 20)),))
        await log.append(0, batch, message_id=name)
    partition = await reader.open(0)
    assert names(await fetched(partition, 6)) == sent
    await partition.aclose()


async def test_a_log_that_was_made_again_has_another_identity(
    log: JetStreamLog, reader: JetStreamReader, client: Client, log_name: str
) -> None:
    before = await reader.open(0)
    await client.jetstream().delete_stream(log_name)
    with pytest.raises(LogUnavailable, match="there is no stream"):
        await reader.open(0)
    await log.open()
    after = await reader.open(0)
    assert before.log_id != after.log_id
    await before.aclose()
    await after.aclose()


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    engine = EmbeddedNats(tmp_path / "nats")
    engine.start()
    yield engine
    engine.stop()


async def test_after_a_restart_the_partition_must_be_opened_again_and_is_whole(
    own_nats: EmbeddedNats, log_name: str
) -> None:
    async with connected(own_nats.url) as client:
        log = JetStreamLog(client, Settings(nats_url=own_nats.url, log_name=log_name, log_partitions=1))
        await log.open()
        await append(log, "a", "b", "c")
        reader = JetStreamReader(client, log_name)
        partition = await reader.open(0)
        log_id = partition.log_id
        first, second, _ = await fetched(partition, 3)
        await partition.acknowledge([first])
        await until(lambda: left(client, log_name, 2))
        await asyncio.to_thread(own_nats.kill)
        await asyncio.to_thread(own_nats.start)
        with pytest.raises(LogUnavailable):
            await partition.acknowledge([second])
        await until(lambda: client.is_connected)
        with pytest.raises(LogUnavailable):
            await partition.fetch(max_messages=1, wait=0.01)
        await partition.aclose()
        again = await reader.open(0)
        assert names(await fetched(again, 2)) == ["b", "c"]
        assert again.log_id == log_id
        await again.aclose()
