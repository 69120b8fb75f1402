"""The reading end of the capture log.

One durable consumer per partition, made anew by whoever takes the partition over: JetStream then delivers everything
that is unacknowledged once more, in order. Joining the former owner's consumer instead would let new messages overtake
the ones that it had not acknowledged, and the partition's offset would skip those: a loss.

Order is checked, not assumed. A consumer numbers its deliveries, so a message that was lost on the way (a connection
that broke, a former owner that still pulls) leaves a gap; the reader then refuses to go on, and its partition is opened
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from multishadow_server.adapters import capture_codec
from multishadow_server.core import dead_letters
from multishadow_server.core.capture import CaptureBatch
from multishadow_server.errors import LogUnavailable
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import LoggedBatch

# Messages that JetStream may send ahead of their being fetched, and how long it waits for them.
PULL_MESSAGES = 64
PULL_SECONDS = 10.0
PULL_GRACE_SECONDS = 5.0
# A net under the checks above: whatever was delivered and lost unseen comes again after this, out of order, and so
# makes the reader open the partition again. Longer than any micro-batch should take.
ACK_WAIT_SECONDS = 300.0
API_SECONDS = 5.0
# What a message has beside its payload: subject, reply, headers.
MESSAGE_OVERHEAD_BYTES = 4096


class JetStreamReader:
    """Opens partitions of one capture log.

    Args:
        connection: to NATS; reconnects by itself.
        log_name: the stream's name.
    """

    def __init__(self, connection: Client, log_name: str) -> None:
        self._connection = connection
        self._log_name = log_name

    async def open(self, partition: int) -> JetStreamPartition:
        """Take over the partition: a reader that had it before gets nothing more.

        Raises:
            LogUnavailable: JetStream is away, or has no such stream.
        """
        opened = JetStreamPartition(self._connection, self._log_name, partition)
        try:
            await opened.start()
        except BaseException:
            await opened.aclose()
            raise
        return opened


class JetStreamPartition:
    """One partition, for its one owner. After LogUnavailable it is of no more use: open the partition again."""

    def __init__(self, connection: Client, log_name: str, partition: int) -> None:
        self._connection = connection
        self._log_name = log_name
        self._subject = f"{log_name}.{partition}"
        self._consumer = f"{log_name}-{partition}"
        self._inbox = connection.new_inbox()
        self._subscription: Subscription | None = None
        self._reconnects = connection.stats["reconnects"]
        self._log_id = ""
        self._newest = 0
        self._arrived: deque[tuple[int, Msg]] = deque()
        self._replies: dict[int, str] = {}
        self._news = asyncio.Event()
        self._broken = ""
        self._pull_left = 0
        self._pull_ends = 0.0
        self._deliveries = 0
        self._last_sequence = 0

    @property
    def log_id(self) -> str:
        """The stream's name and creation time: a stream that was deleted and made again numbers from 1 again."""
        return self._log_id

    @property
    def last_sequence(self) -> int:
        """Sequence of the last message that the stream ever took, as it was when the partition was opened."""
        return self._newest

    async def start(self) -> None:
        """Replace the partition's consumer. Raises LogUnavailable."""
        stream = self._connection.jetstream(timeout=API_SECONDS)
        async with self._reaching("open"):
            info = await stream.stream_info(self._log_name)
            assert info.created is not None
            self._log_id = f"{self._log_name}@{info.created.isoformat()}"
            self._newest = info.state.last_seq
            self._subscription = await self._connection.subscribe(self._inbox, cb=self._receive)
            with suppress(nats.js.errors.NotFoundError):
                await stream.delete_consumer(self._log_name, self._consumer)
            await stream.add_consumer(self._log_name, self._consumer_configuration())

    async def fetch(self, *, max_messages: int, wait: float) -> Sequence[LoggedBatch]:
        """Up to `max_messages`, in order; waits up to `wait` seconds for the first one. Raises LogUnavailable."""
        self._check()
        if not self._arrived:
            await self._pull()
            self._news.clear()
            await set_within(self._news, wait)
            self._check()
        count = min(max_messages, len(self._arrived))
        return [self._read(*self._arrived.popleft()) for _ in range(count)]

    async def acknowledge(self, batches: Sequence[LoggedBatch]) -> None:
        """They are done with and may be deleted. Raises LogUnavailable.

        Acknowledgements are not confirmed: a lost one only means that the message comes once more, to be skipped.
        """
        self._check()
        async with self._reaching("acknowledge messages of"):
            for batch in batches:
                await self._connection.publish(self._replies.pop(batch.sequence), b"+ACK")

    async def aclose(self) -> None:
        """Stop reading. The consumer stays, and its successor's reader replaces it."""
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()
            self._subscription = None

    def _consumer_configuration(self) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=self._consumer,
            filter_subject=self._subject,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            # The worker bounds what it holds; a limit here would only stall it.
            max_ack_pending=-1,
        )

    async def _pull(self) -> None:
        """Keep one request for messages open; it is answered as they come."""
        now = time.monotonic()
        if self._pull_left > 0 and now < self._pull_ends:
            return
        request = {
            "batch": PULL_MESSAGES,
            "expires": int(PULL_SECONDS * 1e9),
            # One message always fits, and what waits here unfetched stays bounded.
            "max_bytes": self._connection.max_payload + MESSAGE_OVERHEAD_BYTES,
        }
        async with self._reaching("read"):
            await self._connection.publish(self._next_subject, json.dumps(request).encode(), self._inbox)
        self._pull_left = PULL_MESSAGES
        self._pull_ends = now + PULL_SECONDS + PULL_GRACE_SECONDS

    @property
    def _next_subject(self) -> str:
        return f"$JS.API.CONSUMER.MSG.NEXT.{self._log_name}.{self._consumer}"

    async def _receive(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is None:
            self._accept(message)
        else:
            self._note_status(status, (message.headers or {}).get("Description", ""))
        self._news.set()

    def _accept(self, message: Msg) -> None:
        sequence = message.metadata.sequence
        self._deliveries += 1
        self._pull_left -= 1
        if sequence.consumer != self._deliveries or sequence.stream <= self._last_sequence:
            self._broken = (
                f"delivery {sequence.consumer} (message {sequence.stream}) came where {self._deliveries} was due, "
                f"after message {self._last_sequence}"
            )
            return
        self._last_sequence = sequence.stream
        self._replies[sequence.stream] = message.reply
        self._arrived.append((sequence.stream, message))

    def _note_status(self, status: str, description: str) -> None:
        """A status ends the open request; all but "nothing came" and "the next would be too large" end the reader."""
        self._pull_left = 0
        words = description.lower()
        if status not in {"404", "408"} and "maxbytes" not in words and "batch completed" not in words:
            self._broken = f"JetStream said {status} {description}".rstrip()

    def _check(self) -> None:
        if self._connection.stats["reconnects"] != self._reconnects or not self._connection.is_connected:
            self._broken = self._broken or "the connection was lost"
        if self._broken:
            raise LogUnavailable(f"partition {self._subject} of the capture log must be opened again: {self._broken}")

    def _read(self, sequence: int, message: Msg) -> LoggedBatch:
        try:
            return LoggedBatch(sequence=sequence, batch=capture_codec.decode(message.data))
        except Exception as error:  # noqa: BLE001  whatever the bytes do to the decoder must not block the partition
            return LoggedBatch(
                sequence=sequence,
                batch=CaptureBatch(router="", captures=()),
                unreadable=f"{len(message.data)} bytes: {error!r}",
                raw=message.data[: dead_letters.LARGEST_PAYLOAD + 1],
            )

    @asynccontextmanager
    async def _reaching(self, what: str) -> AsyncIterator[None]:
        try:
            yield
        except nats.js.errors.NotFoundError as error:
            raise LogUnavailable(
                f"cannot {what} partition {self._subject}: there is no stream {self._log_name!r}; a router or worker "
                "makes it when it starts"
            ) from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise LogUnavailable(f"cannot {what} partition {self._subject} of the capture log: {error!r}") from error
