"""Version servers of the Open Inference Protocol with a known behaviour, written on grpcio as KServe's own are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np

from multishadow.oip.v2 import inference_pb2 as oip
from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.core import flags
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator, LabelTerms, Model, Version
from multishadow_server.core.protocols import OutputTerms, Protocol
from multishadow_server.core.routing import Claim

SERVICE = "inference.GRPCInferenceService"
MODEL_INFER = f"/{SERVICE}/ModelInfer"

Context = grpc.aio.ServicerContext[Any, Any]
Infer = Callable[[oip.ModelInferRequest], oip.ModelInferResponse]


@dataclass(slots=True)
class InferenceServer:
    """A running server, and what it was asked; it knows one model, by one name."""

    name: str
    infer: Infer
    address: str = ""
    requests: list[oip.ModelInferRequest] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)

    async def model_infer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelInferResponse:
        self.requests.append(request)
        self.metadata.append({str(key): value for key, value in context.invocation_metadata() or ()})
        await self._check(request.model_name, context)
        response = self.infer(request)
        response.model_name, response.id = self.name, request.id
        return raw(response) if request.raw_input_contents else response

    async def model_ready(self, request: oip.ModelReadyRequest, context: Context) -> oip.ModelReadyResponse:
        await self._check(request.name, context)
        return oip.ModelReadyResponse(ready=True)

    async def model_metadata(self, request: oip.ModelMetadataRequest, context: Context) -> oip.ModelMetadataResponse:
        await self._check(request.name, context)
        tensor = oip.ModelMetadataResponse.TensorMetadata(name="logits", datatype="FP32", shape=[-1, 3])
        return oip.ModelMetadataResponse(name=self.name, versions=["7"], platform="grpcio", outputs=[tensor])

    async def _check(self, name: str, context: Context) -> None:
        if name != self.name:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model: {name!r}")


@asynccontextmanager
async def serving(infer: Infer, *, name: str) -> AsyncIterator[InferenceServer]:
    """A server on a free port of the loopback address, until the block ends."""
    running = InferenceServer(name, infer)
    server = grpc.aio.server()
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ModelInfer": _unary(running.model_infer, oip.ModelInferRequest),
        "ModelReady": _unary(running.model_ready, oip.ModelReadyRequest),
        "ModelMetadata": _unary(running.model_metadata, oip.ModelMetadataRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    running.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield running
    finally:
        await server.stop(grace=None)


def _unary(behaviour: Any, request: Any) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


def logits(*scores: float, name: str = "logits") -> oip.ModelInferResponse:
    """One row of scores, in the field of its data type."""
    tensor = oip.ModelInferResponse.InferOutputTensor(
        name=name, datatype="FP32", shape=[1, len(scores)], contents=oip.InferTensorContents(fp32_contents=scores)
    )
    return oip.ModelInferResponse(outputs=[tensor])


def raw(response: oip.ModelInferResponse) -> oip.ModelInferResponse:
    """The same with raw contents, as servers answer those who ask with raw ones."""
    for tensor in response.outputs:
        response.raw_output_contents.append(np.array(tensor.contents.fp32_contents, dtype="<f4").tobytes())
        tensor.ClearField("contents")
    return response


def asking(model: str = "spam", *, values: tuple[float, ...] = (1.0, 2.0), **fields: Any) -> oip.ModelInferRequest:
    """A request with one input tensor."""
    tensor = oip.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP32", shape=[1, len(values)], contents=oip.InferTensorContents(fp32_contents=values)
    )
    return oip.ModelInferRequest(model_name=model, inputs=[tensor], **fields)


def a_version(name: str, server: InferenceServer, place: int = 0) -> Version:
    """A version that this server is, by its own name there."""
    return Version(
        model="spam", name=name, address=server.address, ordinal=place, served_name=server.name, timeout=30.0
    )


async def register_oip(
    database_url: str, *versions: Version, output: OutputTerms | None = None, labels: LabelTerms | None = None
) -> Epoch | None:
    """Put a model that speaks the protocol, and its flags: the first version is live, and the others shadow it.

    Where there are others, an experiment compares them; returns its epoch.
    """
    comparator = Comparator(protocol=Protocol.OIP, output=output or OutputTerms())
    model = Model(name="spam", comparator=comparator, versions=versions, labels=labels)
    live, *candidates = (version.name for version in versions)
    engine = open_engine(database_url)
    try:
        async with PostgresControl(engine).change("test") as change:
            await change.put_model(model)
            await change.put_versions(model)
            for version in versions:
                claim = Claim.LIVE if version.name == live else Claim.SHADOW
                await change.put_flag(version.flag_key, flags.claim_definition("spam", claim), reason="test")
            if not candidates:
                return None
            experiment = await change.start_experiment(
                model="spam", candidates=candidates, percent=100, bucket_seconds=3600, duration=86_400
            )
            return await change.open_epoch(
                experiment, live=live, candidates=candidates, comparator=comparator, reason="started"
            )
    finally:
        await engine.dispose()
