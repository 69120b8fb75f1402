"""Stored comparisons of every kind of answer, as workers would have left them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow.oip.v2 import inference_pb2
from multishadow.v1 import prediction_pb2 as pb
from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core import comparison
from multishadow_server.core.capture import Capture
from multishadow_server.core.comparison import Verdict
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.protocols import MODEL_INFER, PREDICT, OutputTerms, Protocol
from multishadow_server.service.ports import Flush, StoredComparison
from multishadow_server.structs import fill
from store_fixtures import register, spam

COMPARATOR = Comparator(threshold=0.9, ignored_fields=("meta.*", "id"), relative_tolerance=0.01)
OIP = Comparator(threshold=0.9, protocol=Protocol.OIP, output=OutputTerms(tensor="scores"))
_OUTCOMES = {Verdict.AGREE: Outcome.OK, Verdict.DIVERGE: Outcome.DIVERGED, Verdict.UNCOMPARABLE: Outcome.UNCOMPARABLE}
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def text(said: str) -> bytes:
    """A text as an answer."""
    return pb.PredictResponse(text=said).SerializeToString()


def label(said: str, confidence: float | None = None, **probabilities: float) -> bytes:
    """A classification as an answer."""
    found = pb.Classification(label=said, confidence=confidence, probabilities=probabilities)
    return pb.PredictResponse(classification=found).SerializeToString()


def structured(**fields: Any) -> bytes:
    """An object as an answer."""
    response = pb.PredictResponse()
    response.structured.SetInParent()
    fill(response.structured, fields)
    return response.SerializeToString()


def vector(*values: float) -> bytes:
    """An embedding as an answer."""
    return pb.PredictResponse(embedding=pb.Embedding(values=values)).SerializeToString()


def number(value: float) -> bytes:
    """A number as an answer."""
    return pb.PredictResponse(scalar=value).SerializeToString()


def raw(data: bytes) -> bytes:
    """Bytes as an answer."""
    return pb.PredictResponse(raw=data).SerializeToString()


def scores(*values: float) -> bytes:
    """An Open Inference Protocol answer of two tensors, of which one is compared."""
    response = inference_pb2.ModelInferResponse(model_name="spam")
    response.outputs.add(name="scores", datatype="FP32", shape=[1, len(values)])
    response.raw_output_contents.append(np.array(values, dtype="<f4").tobytes())
    response.outputs.add(name="ids", datatype="INT64", shape=[1])
    response.raw_output_contents.append(np.array([7], dtype="<i8").tobytes())
    return response.SerializeToString()


def asked(said: str, **more: Any) -> bytes:
    """A request of a text."""
    return pb.PredictRequest(model="spam", text=said, **more).SerializeToString()


def seen(
    version: str, live: bytes, answer: bytes | Outcome, *, comparator: Comparator = COMPARATOR, latency: float = 0.02
) -> Observation:
    """What a worker makes of a candidate's answer: compared as it compares, or what became of it instead."""
    if isinstance(answer, Outcome):
        reason = "INTERNAL" if answer is Outcome.ERROR else ""
        bad = answer in {Outcome.ERROR, Outcome.TIMEOUT}
        took = latency if answer is Outcome.ERROR else None
        similarity = 0.0 if bad else None
        return Observation(version=version, outcome=answer, reason=reason, similarity=similarity, latency=took)
    codec = AnswerCodec()
    told = comparison.compare(comparator, codec.decode(comparator, live), codec.decode(comparator, answer))
    return Observation(
        version=version,
        outcome=_OUTCOMES[told.verdict],
        reason=told.reason,
        detail=told.detail,
        similarity=told.similarity,
        latency=latency,
        confidence_delta=told.confidence_delta,
        live_confidence=told.live_confidence,
        response=answer,
    )


def kept(
    epoch: Epoch,
    live: bytes,
    answers: Mapping[str, bytes | Outcome],
    *,
    request: bytes | None = None,
    why: str = "",
    payloads: Payloads = Payloads.FULL,
    latency: float = 0.02,
    at: float = 0.0,
    **more: Any,
) -> StoredComparison:
    """A stored comparison of these answers."""
    observations = [
        seen(version, live, answer, comparator=epoch.comparator, latency=latency) for version, answer in answers.items()
    ]
    bad = any(each.outcome in {Outcome.DIVERGED, Outcome.ERROR, Outcome.TIMEOUT} for each in observations)
    values: dict[str, Any] = {
        "request_id": "request-1",
        "session_id": "",
        "model": epoch.model,
        "method": MODEL_INFER if epoch.comparator.protocol is Protocol.OIP else PREDICT,
        "attributes": {"country": "NO", "premium": True, "age": 41.0},
        "request": asked("What is the capital of Norway?") if request is None else request,
        "metadata": (),
        "live": epoch.live,
        "shadows": tuple(answers),
        "revision": 2,
        "response": live,
        "status_code": 0,
        "status_message": "",
        "live_latency": 0.0125,
        "received_at": at or time.time(),
    }
    return StoredComparison(
        epoch_id=epoch.id,
        capture=Capture(**{**values, **more}),
        observations=observations,
        kept_because=why or ("diverged" if bad else "sample"),
        payloads=payloads,
    )


async def begin(
    engine: AsyncEngine, addresses: Mapping[str, str] | None = None, *, comparator: Comparator = COMPARATOR
) -> Epoch:
    """An experiment of A and B beside base, in its first epoch; versions are at these addresses."""
    store, model, at = PostgresControl(engine), spam("base", "A", "B"), addresses or {}
    versions = tuple(replace(each, address=at.get(each.name, each.address)) for each in model.versions)
    await register(store, replace(model, comparator=comparator, versions=versions))
    async with store.change("ada") as change:
        experiment = await change.start_experiment(
            model="spam", candidates=["A", "B"], percent=25, bucket_seconds=3600, duration=14 * 86_400
        )
        return await change.open_epoch(
            experiment, live="base", candidates=["A", "B"], comparator=comparator, reason="the experiment started"
        )


async def store(engine: AsyncEngine, comparisons: Sequence[StoredComparison], *, after: int = 0) -> None:
    """As one micro-batch."""
    flush = Flush(
        log_id="log-1", partition=0, previous_offset=after, offset=after + 1, comparisons=comparisons, rollups={}
    )
    await PostgresObservations(engine).commit(flush)


def hostile(epoch: Epoch) -> list[StoredComparison]:
    """Answers that somebody made up to break whatever shows them."""
    deep: Any = "bottom"
    for _ in range(28):
        deep = {EVIL: deep}
    many = {f"{EVIL}{n}": EVIL for n in range(500)}
    pairs: list[tuple[bytes, bytes]] = [
        (text(f"{EVIL} one"), text(f"{EVIL} two")),
        (text("a " * 500_000), text("b " * 500_000)),
        (text("x" * 1_000_000), text("y" * 1_000_000)),
        (label(EVIL, math.nan, **{EVIL: math.nan, "b": -3.0}), label("b", math.inf, **{EVIL: 7.0})),
        (structured(deep=deep, n=math.nan), structured(deep=EVIL, n=math.inf)),
        (structured(**many), structured(other=EVIL)),
        (vector(1.0, math.nan, math.inf), vector(1.0, 2.0, 3.0)),
        (vector(*([0.5] * 20_000)), vector(1.0)),
        (number(math.nan), number(math.inf)),
        (raw(EVIL.encode()), raw(b"")),
        (b"\xff\xfe no message", text("fine")),
        (text(EVIL), label(EVIL)),
        (b"", text("")),
    ]
    return [
        kept(
            epoch, live, {"A": answer, "B": Outcome.ERROR}, why="diverged",
            request_id=f"{EVIL}{n}", session_id=EVIL, attributes={EVIL: {EVIL: EVIL}, "": "", "a=b": "\u202e"},
            request=asked(EVIL),
        )
        for n, (live, answer) in enumerate(pairs)
    ]  # fmt: skip
