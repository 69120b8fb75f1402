"""The router's door: requests and responses as bytes, and only the envelope is read.

The handler is generic, without serializers: the response that leaves is the very bytes that the live version sent.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from multishadow.v1 import envelope_pb2, prediction_pb2
from multishadow_server.core.capture import Metadata
from multishadow_server.core.metadata import header_text
from multishadow_server.core.prediction import Json
from multishadow_server.entrypoints.status import BY_NUMBER, code_of
from multishadow_server.errors import FailedPrecondition, InvalidInput, MessageTooLarge, MultishadowError
from multishadow_server.service.live_path import REQUEST_ID, LiveAnswer, LivePath, LiveRequest
from multishadow_server.structs import json_of

logger = logging.getLogger(__name__)

SERVICE = prediction_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
PREDICT = f"/{SERVICE}/Predict"
OWN_KEYS = "x-multishadow-"
VERSION = "x-multishadow-version"
REVISION = "x-multishadow-revision"
LONGEST_ID = 256

Context = grpc.aio.ServicerContext[bytes, bytes]


class PredictionHandler:
    """Answers `Predict` with the live version's bytes.

    Args:
        live_path: decides and calls.
        max_message_bytes: largest request.
    """

    def __init__(self, live_path: LivePath, *, max_message_bytes: int) -> None:
        self._live_path = live_path
        self._max_message_bytes = max_message_bytes

    def handlers(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        # No serializers: gRPC then hands bytes over as they are.
        predict: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.predict)
        return grpc.method_handlers_generic_handler(SERVICE, {"Predict": predict})

    async def predict(self, body: bytes, context: Context) -> bytes:
        """One request; what goes wrong here or at the live version ends the call with its status."""
        received_at, arrived = time.time(), time.monotonic()
        own: Metadata = ()
        try:
            self._check_size(body)
            envelope = _envelope(body)
            request_id = envelope.request_id or str(uuid.uuid4())
            own = ((REQUEST_ID, header_text(request_id)),)
            remaining: float | None = context.time_remaining()
            found = await self._live_path.answer(
                LiveRequest(
                    method=PREDICT,
                    body=body,
                    model=envelope.model,
                    request_id=request_id,
                    session_id=envelope.session_id,
                    attributes=_attributes(envelope),
                    metadata=_metadata(context),
                    deadline=None if remaining is None else arrived + remaining,
                    received_at=received_at,
                )
            )
        except MultishadowError as error:
            await context.abort(code_of(error), str(error), own)
        except Exception:
            # A fault here must end the call at once, and not by a status that clients would repeat the call for.
            logger.exception("a request failed in the router")
            await context.abort(grpc.StatusCode.INTERNAL, "the router failed on this request; its log says how", own)
        return await _hand_over(found, own, context)

    def _check_size(self, body: bytes) -> None:
        # gRPC's own refusal (from twice this size on, see `serving`) cannot say what to do.
        if len(body) > self._max_message_bytes:
            raise MessageTooLarge(
                f"the request has {len(body)} bytes; this router takes at most {self._max_message_bytes}: send less, "
                "or raise MULTISHADOW_MAX_MESSAGE_BYTES here and the version servers' own limit"
            )


def _envelope(body: bytes) -> envelope_pb2.PredictEnvelope:
    try:
        envelope = envelope_pb2.PredictEnvelope.FromString(body)
    except DecodeError as error:
        raise InvalidInput(
            f"the request is no multishadow.v1.PredictRequest ({error}); generate the client from "
            "proto/multishadow/v1/prediction.proto"
        ) from error
    for name, value in (("request_id", envelope.request_id), ("session_id", envelope.session_id)):
        if len(value) > LONGEST_ID:
            raise InvalidInput(f"{name} has {len(value)} characters; at most {LONGEST_ID} are allowed")
    return envelope


def _metadata(context: Context) -> Metadata:
    # The user agent is gRPC's own, of every call; nobody can pass it on.
    return tuple(entry for entry in context.invocation_metadata() or () if entry[0] != "user-agent")


def _attributes(envelope: envelope_pb2.PredictEnvelope) -> dict[str, Json]:
    if not envelope.HasField("attributes"):
        return {}
    try:
        return json_of(envelope.attributes)
    except InvalidInput as error:
        raise InvalidInput(f"attributes: {error}") from error


async def _hand_over(found: LiveAnswer, own: Metadata, context: Context) -> bytes:
    answer = found.answer
    theirs = answer.trailing_metadata
    if theirs:
        # A router behind this one says the same of itself; the caller asked this one.
        theirs = tuple(entry for entry in theirs if not entry[0].startswith(OWN_KEYS))
    trailing = (*theirs, *own, (VERSION, found.version), (REVISION, str(found.revision)))
    if answer.initial_metadata:
        await context.send_initial_metadata(answer.initial_metadata)
    if answer.status_code:
        code = BY_NUMBER.get(answer.status_code, grpc.StatusCode.UNKNOWN)
        await context.abort(code, answer.status_message, trailing)
    context.set_trailing_metadata(trailing)
    return answer.response


# --- the server ---------------------------------------------------------------------------------------------------


class PredictionServer:
    """The gRPC server of a router: prediction, health and reflection on one address.

    Until `open`, health says NOT_SERVING, and Predict that the configuration was not read yet.

    Args:
        address: host:port, or unix:/path; port 0 takes a free one.
        handler: answers.
        max_message_bytes: largest request or response.

    Attributes:
        address: with the port that it took, once it listens.
    """

    def __init__(self, address: str, handler: PredictionHandler, *, max_message_bytes: int) -> None:
        self._server = grpc.aio.server(options=_options(max_message_bytes))
        self._server.add_generic_rpc_handlers((handler.handlers(),))
        self._health = health.aio.HealthServicer()
        aside = _NotRegistered(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, aside)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), aside)
        self.address = address

    @asynccontextmanager
    async def listening(self, *, drain_seconds: float) -> AsyncIterator[None]:
        """Take calls within the block; at its end refuse new ones, and give those under way their time.

        Raises:
            FailedPrecondition: the address cannot be listened on.
        """
        try:
            self.address = _bind(self._server, self.address)
            await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
            await self._server.start()
            yield
        finally:
            # Says NOT_SERVING for good, and ends the calls of those who watch.
            await self._health.enter_graceful_shutdown()
            await self._server.stop(drain_seconds)

    async def open(self) -> None:
        """Say SERVING from now on."""
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def leave(self) -> None:
        """Say NOT_SERVING from now on, and go on answering."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", SERVICE):
            await self._health.set(service, status)


class _NotRegistered:
    """A server to which generated code adds its handlers as generic ones only.

    It would register their methods too, and for every call grpc.aio waits anew for each registered method's next one:
    each Predict would pay for the methods of health and reflection.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, _service: str, _handlers: object) -> None:
        """Leave them out."""


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        # The handler refuses first, with a message that helps; gRPC bounds the memory.
        ("grpc.max_receive_message_length", 2 * max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Several routers on one machine share the address; the kernel spreads connections over them.
        ("grpc.so_reuseport", 1),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]


def _bind(server: grpc.aio.Server, address: str) -> str:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"the router cannot listen on {address}: another program has it, or it is not of this machine; set "
            "MULTISHADOW_ROUTER_LISTEN"
        ) from error
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
