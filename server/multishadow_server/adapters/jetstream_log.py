"""The writing end of the capture log: one JetStream stream, one subject per partition.

The stream is a work queue that refuses new messages when it is full, so that nothing unprocessed is ever deleted: a
message goes away when a worker has acknowledged it, and only then.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError
from nats.js.errors import Error as JetStreamError

from multishadow_server.adapters import capture_codec
from multishadow_server.core.capture import CaptureBatch
from multishadow_server.errors import FailedPrecondition, LogFull, LogUnavailable, MessageTooLarge
from multishadow_server.service import ports
from multishadow_server.settings import Settings

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

_logger = logging.getLogger(__name__)

# It bounds the ids that the server remembers, too: a router sends a few messages per partition and second.
DUPLICATE_WINDOW = 120.0
PARTITIONS = "multishadow-partitions"
APPEND_TIMEOUT = 5.0
# nats-server allows no configuration above it (server/const.go).
_LARGEST_PAYLOAD = 64 << 20
# Room for the headers and the subject in the server's largest payload.
_HEADROOM = 1_024
# nats-server's error codes (server/errors.json): the stream's own limits, and the account's or the disk's.
_FULL = frozenset({10077, 10047, 10023, 10028})
_NAME_IN_USE = 10058
# No storage for so large a stream; too few servers for so many replicas.
_NO_ROOM = frozenset({10005, 10023, 10028, 10047, 10074})
# What the client raises when the connection is away, or went away under the call.
_AWAY = (nats.errors.Error, JetStreamError, OSError, asyncio.TimeoutError)


def subject(log_name: str, partition: int) -> str:
    """Subject of one partition."""
    return f"{log_name}.{partition}"


async def ensure_stream(js: JetStreamContext, settings: Settings) -> int:
    """Make the capture log's stream unless there is one, and return how many partitions it has.

    The number is kept with the stream: whoever made it decided, and every router and worker follows, whatever their
    settings say. Its size limit follows the settings of the last process that began.

    Raises:
        LogUnavailable: JetStream cannot be reached or does not take the stream.
        FailedPrecondition: a stream of this name exists and is no capture log.
    """
    try:
        return await _ensure_stream(js, settings)
    except _AWAY as error:
        raise LogUnavailable(
            f'the capture log "{settings.log_name}" cannot be opened: {_said(error)}; is nats-server running with '
            "JetStream (MULTISHADOW_NATS_URL)?"
        ) from error


async def _ensure_stream(js: JetStreamContext, settings: Settings) -> int:
    try:
        existing = (await js.stream_info(settings.log_name)).config
    except NotFoundError:
        try:
            await js.add_stream(_stream(settings))
        except APIError as error:
            if error.err_code in _NO_ROOM:
                raise FailedPrecondition(_refused(settings, error)) from error
            if error.err_code != _NAME_IN_USE:
                raise
        existing = (await js.stream_info(settings.log_name)).config
    partitions = int((existing.metadata or {}).get(PARTITIONS, 0))
    if partitions < 1 or existing.retention != api.RetentionPolicy.WORK_QUEUE:
        raise FailedPrecondition(
            f'the stream "{settings.log_name}" exists and is no capture log; set MULTISHADOW_LOG_NAME to another name'
        )
    if (existing.max_bytes, existing.num_replicas) != (settings.log_max_bytes, settings.log_replicas):
        wanted = existing.evolve(max_bytes=settings.log_max_bytes, num_replicas=settings.log_replicas)
        try:
            await js.update_stream(wanted)
        except APIError as error:
            if error.err_code not in _NO_ROOM:
                raise
            # What is there is good to go on with; the server's own limit holds, whatever the stream's says.
            _logger.warning("the capture log stays as it is: %s", _refused(settings, error))
    return partitions


def _refused(settings: Settings, error: APIError) -> str:
    return (
        f'nats-server takes no log "{settings.log_name}" of {settings.log_max_bytes} bytes in {settings.log_replicas} '
        f"replica(s) ({_said(error)}): lower MULTISHADOW_LOG_MAX_BYTES or MULTISHADOW_LOG_REPLICAS, or raise its "
        "max_file_store or its number of servers"
    )


def _stream(settings: Settings) -> api.StreamConfig:
    return api.StreamConfig(
        name=settings.log_name,
        description="multishadow's capture log",
        subjects=[f"{settings.log_name}.*"],
        retention=api.RetentionPolicy.WORK_QUEUE,
        discard=api.DiscardPolicy.NEW,
        storage=api.StorageType.FILE,
        max_bytes=settings.log_max_bytes,
        num_replicas=settings.log_replicas,
        # No max_age: a work queue that deletes what nobody has counted would lose it without a trace. What is too old
        # to be worth shadowing is known by its window; what does not fit is refused, and counted as dropped.
        duplicate_window=DUPLICATE_WINDOW,
        metadata={PARTITIONS: str(settings.log_partitions)},
    )


class JetStreamLog(ports.CaptureLog):
    """Appends to the stream and waits for JetStream's acknowledgement.

    Opening is lazy: a router starts, and serves, while the log is away. Until the stream was seen, `partitions` is the
    setting's; `append` opens the stream first, so that nothing is written by a number that the stream does not have.

    Args:
        client: a connection to NATS, which reconnects by itself; the caller closes it.
        settings: name, size and partitions of a new log.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._js = client.jetstream(timeout=APPEND_TIMEOUT)
        self._partitions = settings.log_partitions
        self._opened = False

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return self._partitions

    @property
    def largest_message(self) -> int:
        """Most bytes of one message: what the server takes, or what anybody may send while it was never reached."""
        return (self._client.max_payload if self._client.is_connected else _LARGEST_PAYLOAD) - _HEADROOM

    async def open(self) -> None:
        """Make sure that the stream exists and learn its partitions. Raises LogUnavailable, FailedPrecondition."""
        self._check_connected()
        self._partitions = await ensure_stream(self._js, self._settings)
        self._opened = True

    async def append(self, partition: int, batch: CaptureBatch, *, message_id: str) -> None:
        """Append one message, durably; see ports.CaptureLog."""
        if not self._opened:
            await self.open()
        self._check_connected()
        payload = capture_codec.encode(batch)
        if len(payload) > self.largest_message:
            raise MessageTooLarge(
                f"a batch of {len(batch.captures)} captures has {len(payload)} bytes; the log takes at most "
                f"{self.largest_message} (nats-server's max_payload)"
            )
        # A number from before the stream was seen may be too large for it.
        await self._publish(partition % self._partitions, payload, message_id)

    async def _publish(self, partition: int, payload: bytes, message_id: str) -> None:
        name = self._settings.log_name
        headers = {api.Header.MSG_ID.value: message_id}
        try:
            await self._js.publish(subject(name, partition), payload, stream=name, headers=headers)
        except APIError as error:
            if error.err_code in _FULL:
                raise LogFull(
                    f'the capture log "{name}" is full ({_said(error)}); start more workers, or raise '
                    "MULTISHADOW_LOG_MAX_BYTES"
                ) from error
            raise self._unavailable(error) from error
        except _AWAY as error:
            # The stream may be gone (a server with an empty data folder): look again before the next message.
            self._opened = False
            raise self._unavailable(error) from error

    def _check_connected(self) -> None:
        # While it reconnects, the client would keep messages and send them later, after we gave up on them.
        if not self._client.is_connected:
            raise LogUnavailable("the capture log cannot be reached: no connection to NATS (MULTISHADOW_NATS_URL)")

    def _unavailable(self, error: Exception) -> LogUnavailable:
        return LogUnavailable(f'the capture log "{self._settings.log_name}" took no message: {_said(error)}')


def _said(error: BaseException) -> str:
    """What an error says, or its name when it says nothing."""
    return str(error) or type(error).__name__
