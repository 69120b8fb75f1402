"""What all methods of the router share: what is read of a request, its answer handed over, and errors as statuses."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, NoReturn

import grpc
import grpc.aio

from multishadow_server.core.capture import Metadata
from multishadow_server.core.metadata import REPLAY_KEY, header_text
from multishadow_server.core.prediction import Json
from multishadow_server.core.protocols import Protocol
from multishadow_server.core.request_ids import tellable
from multishadow_server.entrypoints.status import BY_NUMBER, code_of
from multishadow_server.errors import InvalidInput, MessageTooLarge, MultishadowError
from multishadow_server.service import ports
from multishadow_server.service.live_path import REQUEST_ID, LiveAnswer, LivePath, LiveRequest
from multishadow_server.service.live_stream import LiveStream

logger = logging.getLogger(__name__)

OWN_KEYS = "x-multishadow-"
VERSION = "x-multishadow-version"
REVISION = "x-multishadow-revision"
LONGEST_ID = 256

Context = grpc.aio.ServicerContext[bytes, bytes]


class Asked(NamedTuple):
    """What the router reads of a request; see LiveRequest. `request_id` may be empty.

    One is made for each request: a frozen dataclass takes a microsecond longer.
    """

    model: str
    request_id: str
    session_id: str
    attributes: Mapping[str, Json]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A method that the live version answers.

    Args:
        name: full gRPC method name.
        protocol: whose it is.
        read: reads a request's bytes; raises InvalidInput when they are none.
    """

    name: str
    protocol: Protocol
    read: Callable[[bytes], Asked]


class Door:
    """Takes requests in, and hands answers over.

    Args:
        live_path: decides and calls.
        max_message_bytes: largest request.
    """

    def __init__(self, live_path: LivePath, *, max_message_bytes: int) -> None:
        self._live_path = live_path
        self._max_message_bytes = max_message_bytes

    @property
    def ready(self) -> bool:
        """Whether the router has read its configuration."""
        return self._live_path.ready

    async def answer(self, method: Method, body: bytes, context: Context) -> bytes:
        """One request; what goes wrong here or at the live version ends the call with its status."""
        received_at, arrived = time.time(), time.monotonic()
        own: Metadata = ()
        try:
            asked = self._read(method, body)
            request_id = asked.request_id or str(uuid.uuid4())
            own = ((REQUEST_ID, header_text(request_id)),)
            found = await self._live_path.answer(
                _live_request(method, body, asked, context, request_id, received_at=received_at, arrived=arrived)
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status
            await _refuse(error, own, context)
        answer = found.answer
        if answer.status_code or answer.initial_metadata:
            return await _hand_over(found, own, context)
        # Most answers have nothing to wait for.
        context.set_trailing_metadata(_trailing(answer, own, found.version, found.revision))
        return answer.response

    async def pass_on(self, method: Method, body: bytes, context: Context) -> bytes:
        """One question about the live version itself, which answers it."""
        received_at, arrived = time.time(), time.monotonic()
        request_id = str(uuid.uuid4())
        own: Metadata = ((REQUEST_ID, request_id),)
        try:
            asked = self._read(method, body)
            found = await self._live_path.pass_on(
                _live_request(method, body, asked, context, request_id, received_at=received_at, arrived=arrived)
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status
            await _refuse(error, own, context)
        return await _hand_over(found, own, context)

    async def stream(self, method: Method, body: bytes, context: Context) -> None:
        """One request whose answer is passed on as it comes.

        A message is asked for when the one before it was taken: a caller that is slow holds up the live version, and
        nothing piles up here.
        """
        received_at, arrived = time.time(), time.monotonic()
        own: Metadata = ()
        try:
            asked = self._read(method, body)
            request_id = asked.request_id or str(uuid.uuid4())
            own = ((REQUEST_ID, header_text(request_id)),)
            found = await self._live_path.stream(
                _live_request(method, body, asked, context, request_id, received_at=received_at, arrived=arrived)
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status
            await _refuse(error, own, context)
        try:
            await _pass_messages(found, context)
        except (grpc.aio.UsageError, grpc.aio.InternalError):
            # Written to a call that is over: the caller went away in the meantime.
            return
        except Exception as error:  # noqa: BLE001  as above
            await _refuse(error, own, context)
        finally:
            found.close()
        await _end(found.ended(), _trailing(found.ended(), own, found.version, found.revision), context)

    def _read(self, method: Method, body: bytes) -> Asked:
        # gRPC's own refusal (from twice this size on, see `serving`) cannot say what to do.
        if len(body) > self._max_message_bytes:
            raise MessageTooLarge(
                f"the request has {len(body)} bytes; this router takes at most {self._max_message_bytes}: send less, "
                "or raise MULTISHADOW_MAX_MESSAGE_BYTES here and the version servers' own limit"
            )
        return method.read(body)


def check_ids(**ids: str) -> None:
    """Raise InvalidInput when an id, by its field's name, is too long."""
    for name, value in ids.items():
        if len(value) > LONGEST_ID:
            raise InvalidInput(f"{name} has {len(value)} characters; at most {LONGEST_ID} are allowed")


def _live_request(
    method: Method, body: bytes, asked: Asked, context: Context, request_id: str, *, received_at: float, arrived: float
) -> LiveRequest:
    remaining: float | None = context.time_remaining()
    # The user agent is gRPC's own, of every call; nobody can pass it on.
    metadata = tuple([entry for entry in context.invocation_metadata() or () if entry[0] != "user-agent"])
    return LiveRequest(
        method=method.name,
        body=body,
        model=asked.model,
        request_id=request_id,
        session_id=asked.session_id,
        attributes=asked.attributes,
        metadata=metadata,
        deadline=None if remaining is None else arrived + remaining,
        received_at=received_at,
        protocol=method.protocol,
        replayed=bool(metadata) and any(key == REPLAY_KEY for key, _ in metadata),
    )


async def _refuse(error: Exception, own: Metadata, context: Context) -> NoReturn:
    """End the call with the error's status."""
    if isinstance(error, MultishadowError):
        await context.abort(code_of(error), str(error), own)
    # A fault here must end the call at once, and not by a status that clients would repeat the call for.
    told = {"request_id": tellable(str(own[0][1]))} if own else {}
    logger.error("a request failed in the router", exc_info=error, extra=told)
    await context.abort(grpc.StatusCode.INTERNAL, "the router failed on this request; its log says how", own)


async def _hand_over(found: LiveAnswer, own: Metadata, context: Context) -> bytes:
    answer = found.answer
    trailing = _trailing(answer, own, found.version, found.revision)
    if answer.initial_metadata:
        await context.send_initial_metadata(answer.initial_metadata)
    if answer.status_code:
        await _end(answer, trailing, context)
    context.set_trailing_metadata(trailing)
    return answer.response


async def _pass_messages(found: LiveStream, context: Context) -> None:
    if found.initial_metadata:
        await context.send_initial_metadata(found.initial_metadata)
    while (message := await found.next()) is not None:
        await context.write(message)


def _trailing(answer: ports.Answer, own: Metadata, version: str, revision: int) -> Metadata:
    theirs = answer.trailing_metadata
    if theirs:
        # A router behind this one says the same of itself; the caller asked this one.
        theirs = tuple(entry for entry in theirs if not entry[0].startswith(OWN_KEYS))
    return (*theirs, *own, *_chosen(version, revision))


@lru_cache(maxsize=1_024)
def _chosen(version: str, revision: int) -> Metadata:
    return (VERSION, version), (REVISION, str(revision))


async def _end(answer: ports.Answer, trailing: Metadata, context: Context) -> None:
    if answer.status_code:
        code = BY_NUMBER.get(answer.status_code, grpc.StatusCode.UNKNOWN)
        await context.abort(code, answer.status_message, trailing)
    context.set_trailing_metadata(trailing)
