"""The router's other door: the Open Inference Protocol, so that its stock clients and servers work unmodified.

Requests and responses pass as bytes, as at the first one. What the protocol has no field for travels in a request's
parameters: `session_id` (or the `sequence_id` of stateful models) is the session, all others are attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from multishadow.oip.v2 import envelope_pb2, inference_pb2
from multishadow_server.core.prediction import Json
from multishadow_server.core.protocols import MODEL_INFER, PREDICT_STREAM, Protocol
from multishadow_server.entrypoints.door import Asked, Context, Door, Method, check_ids
from multishadow_server.errors import InvalidInput

SERVICE = MODEL_INFER.split("/")[1]

SESSION = "session_id"
SEQUENCE = "sequence_id"


class InferenceHandler:
    """Answers ModelInfer, ModelReady and ModelMetadata with the live version's bytes, and speaks for the server itself.

    Triton's own calls beyond the protocol (repository, statistics, shared memory) are not offered.

    Args:
        door: takes requests in, and hands answers over.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def handlers(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        unary = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }
        # No serializers: gRPC then hands bytes over as they are.
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(behaviour) for name, behaviour in unary.items()
        }
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self.model_stream_infer)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def server_live(self, _body: bytes, _context: Context) -> bytes:
        """The router runs."""
        return inference_pb2.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, _body: bytes, _context: Context) -> bytes:
        """Whether the router has read its configuration."""
        return inference_pb2.ServerReadyResponse(ready=self._door.ready).SerializeToString()

    async def server_metadata(self, _body: bytes, _context: Context) -> bytes:
        """Who answers: the router, since the call names no model."""
        said = inference_pb2.ServerMetadataResponse(name="multishadow", version=version("multishadow"))
        return said.SerializeToString()

    async def model_ready(self, body: bytes, context: Context) -> bytes:
        """Whether the live version is ready, as its server says."""
        return await self._door.pass_on(_READY, body, context)

    async def model_metadata(self, body: bytes, context: Context) -> bytes:
        """What the live version takes and gives, as its server says."""
        return await self._door.pass_on(_METADATA, body, context)

    async def model_infer(self, body: bytes, context: Context) -> bytes:
        """One request."""
        return await self._door.answer(_INFER, body, context)

    async def model_stream_infer(self, _bodies: object, context: Context) -> NoReturn:
        """Triton's own stream, which the Open Inference Protocol has not."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "ModelStreamInfer is not offered: it is Triton's own, not the Open Inference Protocol's. Ask ModelInfer; "
            f"text that comes token by token is streamed by {PREDICT_STREAM.removeprefix('/')}",
        )


def _asked(body: bytes) -> Asked:
    try:
        envelope = envelope_pb2.InferEnvelope.FromString(body)
    except DecodeError as error:
        raise InvalidInput(f"the request is no inference.ModelInferRequest ({error})") from error
    attributes = _attributes(envelope.parameters)
    session_id = _session(attributes)
    check_ids(id=envelope.id, session_id=session_id)
    return Asked(envelope.model_name, envelope.id, session_id, attributes)


def _attributes(parameters: Mapping[str, inference_pb2.InferParameter]) -> dict[str, Json]:
    return {name: _value(name, parameters[name]) for name in parameters}


def _value(name: str, parameter: inference_pb2.InferParameter) -> Json:
    kind = parameter.WhichOneof("parameter_choice")
    value: Json = None if kind is None else getattr(parameter, kind)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"parameters: {name[:80]!r} must be finite, got {value}")
    return value


def _session(attributes: dict[str, Json]) -> str:
    """Takes the session's id out of the attributes. Triton's clients send a sequence of 0 for none."""
    session, sequence = attributes.pop(SESSION, None), attributes.pop(SEQUENCE, None)
    return str(session or sequence or "")


def _about(name: str, kind: type[inference_pb2.ModelReadyRequest | inference_pb2.ModelMetadataRequest]) -> Method:
    def read(body: bytes) -> Asked:
        try:
            return Asked(kind.FromString(body).name, "", "", {})
        except DecodeError as error:
            raise InvalidInput(f"the request is no inference.{kind.DESCRIPTOR.name} ({error})") from error

    return Method(name=f"/{SERVICE}/{name}", protocol=Protocol.OIP, read=read)


_INFER = Method(name=MODEL_INFER, protocol=Protocol.OIP, read=_asked)
_READY = _about("ModelReady", inference_pb2.ModelReadyRequest)
_METADATA = _about("ModelMetadata", inference_pb2.ModelMetadataRequest)
