"""The router's door: requests and responses as bytes, and only the envelope is read.

The handler is generic, without serializers: the response that leaves is the very bytes that the live version sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from types import MappingProxyType

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from multishadow.v1 import envelope_pb2, prediction_pb2
from multishadow_server.core.prediction import Json
from multishadow_server.core.protocols import PREDICT, PREDICT_STREAM, Protocol
from multishadow_server.entrypoints import inference_reflection, listening
from multishadow_server.entrypoints.door import Asked, Door, Method, check_ids
from multishadow_server.entrypoints.inference import SERVICE as INFERENCE
from multishadow_server.entrypoints.inference import InferenceHandler
from multishadow_server.entrypoints.lasting_server import LastingServer
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.structs import unread

# So many attributes of requests, so large, are read once.
REMEMBERED = 1_024
REMEMBERED_BYTES = 256
SERVICE = prediction_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name


class PredictionHandler:
    """Answers `Predict` and `PredictStream` with the live version's bytes.

    Args:
        door: takes requests in, and hands answers over.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def handlers(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        predict, stream = partial(self._door.answer, _PREDICT), partial(self._door.stream, _PREDICT_STREAM)
        # No serializers: gRPC then hands bytes over as they are.
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Predict": grpc.unary_unary_rpc_method_handler(predict),
            "PredictStream": grpc.unary_stream_rpc_method_handler(stream),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)


def _asked(body: bytes) -> Asked:
    try:
        envelope = envelope_pb2.PredictEnvelope.FromString(body)
        attributes = _attributes(b"".join(envelope.attributes))
    except DecodeError as error:
        raise InvalidInput(
            f"the request is no multishadow.v1.PredictRequest ({error}); generate the client from "
            "proto/multishadow/v1/prediction.proto"
        ) from error
    request_id, session_id = envelope.request_id, envelope.session_id
    check_ids(request_id=request_id, session_id=session_id)
    return Asked(envelope.model, request_id, session_id, attributes)


def _attributes(encoded: bytes) -> Mapping[str, Json]:
    if not encoded:
        return _NONE
    try:
        return _remembered(encoded) if len(encoded) <= REMEMBERED_BYTES else unread(encoded)
    except InvalidInput as error:
        raise InvalidInput(f"attributes: {error}") from error


_NONE: Mapping[str, Json] = MappingProxyType({})
# Callers are of few kinds, as attributes say it. Nobody writes into them.
_remembered = lru_cache(maxsize=REMEMBERED)(unread)


_PREDICT = Method(name=PREDICT, protocol=Protocol.MULTISHADOW, read=_asked)
_PREDICT_STREAM = Method(name=PREDICT_STREAM, protocol=Protocol.MULTISHADOW, read=_asked)


# --- the server ---------------------------------------------------------------------------------------------------


class PredictionServer:
    """The gRPC server of a router: both prediction services, health and reflection on one address.

    Until `open`, health says NOT_SERVING, and Predict that the configuration was not read yet.

    Args:
        address: host:port, or unix:/path; port 0 takes a free one.
        handler, inference: answer.
        max_message_bytes: largest request or response.
        credentials: of TLS; None serves in the clear.
        describe: whether it answers reflection.

    Attributes:
        address: with the port that it took, once it listens.
    """

    def __init__(
        self,
        address: str,
        handler: PredictionHandler,
        inference: InferenceHandler,
        *,
        max_message_bytes: int,
        credentials: grpc.ServerCredentials | None = None,
        describe: bool = True,
    ) -> None:
        self._handlers = (handler.handlers(), inference.handlers())
        self._max_message_bytes = max_message_bytes
        self._describe = describe
        self._health = health.aio.HealthServicer()
        self._server = LastingServer(self._made, partial(_bind, credentials=credentials))
        self.address = address

    def _made(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=server_options(self._max_message_bytes))
        server.add_generic_rpc_handlers(self._handlers)
        aside = _NotRegistered(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, aside)
        if self._describe:
            services = (SERVICE, INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(services, aside, pool=inference_reflection.pool())
        return server

    @asynccontextmanager
    async def listening(self, *, drain_seconds: float) -> AsyncIterator[None]:
        """Take calls within the block; at its end refuse new ones, and give those under way their time.

        Raises:
            FailedPrecondition: the address cannot be listened on.
        """
        try:
            await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
            self.address = await self._server.start(self.address)
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
        for service in ("", SERVICE, INFERENCE):
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


def server_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """What gRPC is told of a router's server."""
    return [
        # The handler refuses first, with a message that helps; gRPC bounds the memory.
        ("grpc.max_receive_message_length", 2 * max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Several routers on one machine share the address; the kernel spreads connections over them.
        ("grpc.so_reuseport", 1),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        # As for channels to versions: notes of every call, for a service that is not offered.
        ("grpc.enable_channelz", 0),
        listening.HANDSHAKE_LIMIT,
        *listening.WAITING_LIMITS,
    ]


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    try:
        port = listening.add_port(server, address, credentials)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"the router cannot listen on {address}: another program has it, or it is not of this machine; set "
            "MULTISHADOW_ROUTER_LISTEN"
        ) from error
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
