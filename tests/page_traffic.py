"""Five models' requests and answers, for the web page to show: each kind of answer, and what goes wrong with each.

All of it follows from a request's id and input, so that a version asked again answers the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pydoc_data.topics import topics
from typing import Any

import grpc
from google.protobuf import json_format

from multishadow.v1 import prediction_pb2 as pb
from multishadow_server.core.capture import Capture
from multishadow_server.core.prediction import Json
from shadowed_traffic import a_capture
from version_servers import Behaviour, Context, serving

__all__ = ["BAD_COUNTRY", "MODELS", "ModelTraffic", "captures", "named", "serving", "version"]

COUNTRIES = ("NO", "NO", "US", "US", "US", "FR", "DE")
BAD_COUNTRY = "DE"
LABELS = ("ham", "promotion", "spam")
DIMENSIONS = 24
TURNS = 4
HOUR = 3_600.0

Answer = Callable[[pb.PredictRequest, str], pb.PredictResponse]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTraffic:
    """A model: its versions (the first is live), how many requests it gets over so many hours, what is answered."""

    name: str
    versions: tuple[str, ...]
    requests: int
    hours: float
    answer: Answer
    in_session: bool = False


def version(name: str) -> Behaviour:
    """A server of this version of every model. C cannot take everything: it fails on some requests."""

    async def predict(request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        if name == "C" and _share(request, "overload") < 0.03:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no worker is free: the batch queue is full")
        return named(request.model).answer(request, name)

    return predict


def named(model: str) -> ModelTraffic:
    """One of MODELS."""
    return next(each for each in MODELS if each.name == model)


def captures(model: ModelTraffic, *, until: float, revision: int) -> Iterator[Capture]:
    """What a router would have logged, the oldest first, evenly spread over the hours before `until`."""
    for number in range(model.requests):
        request = _request(model, number)
        received_at = until - model.hours * HOUR * (1 - number / model.requests)
        capture = a_capture(request.request_id, shadows=model.versions[1:], revision=revision)
        yield replace(
            capture,
            model=model.name,
            session_id=request.session_id,
            attributes=_attributes(request),
            request=request.SerializeToString(),
            live=model.versions[0],
            response=model.answer(request, model.versions[0]).SerializeToString(),
            live_latency=0.004 + 0.02 * _share(request, "latency") ** 3,
            received_at=received_at,
            in_session=model.in_session,
            turn=number % TURNS if model.in_session else None,
        )


def _request(model: ModelTraffic, number: int) -> pb.PredictRequest:
    request = pb.PredictRequest(model=model.name, request_id=f"{model.name}-{number:04}")
    text = _TEXTS[number % len(_TEXTS)]
    if model.in_session:
        request.session_id = f"visit-{number // TURNS}"
    if model.name == "orders":
        request.structured.update({"basket": [f"item {n}" for n in range(1 + number % 4)], "note": text[:80]})
    else:
        request.text = text
    country = COUNTRIES[number % len(COUNTRIES)]
    request.attributes.update({"country": country, "premium": number % 5 == 0, "turn": number % TURNS})
    return request


def _attributes(request: pb.PredictRequest) -> Mapping[str, Json]:
    return dict(json_format.MessageToDict(request.attributes))


def _share(request: pb.PredictRequest, salt: str) -> float:
    """A number in [0, 1) that is drawn by the request."""
    return zlib.crc32(f"{salt} {request.request_id}".encode()) / 2**32


def _differs(request: pb.PredictRequest, version_name: str, shares: Mapping[str, float]) -> bool:
    """Whether the version answers otherwise than live; B does on most requests from one country, and on few others."""
    share = shares.get(version_name, 0.0)
    if version_name == "B" and _attributes(request).get("country") == BAD_COUNTRY:
        share = 0.6
    return _share(request, version_name) < share


def _classify(request: pb.PredictRequest, version_name: str) -> pb.PredictResponse:
    place = zlib.crc32(request.text.encode()) % len(LABELS)
    sure = 0.6 + 0.35 * _share(request, "sure")
    if _differs(request, version_name, {"A": 0.004, "B": 0.006, "C": 0.12}):
        place, sure = (place + 1) % len(LABELS), 0.5 + 0.1 * sure
    others = (1 - sure) / (len(LABELS) - 1)
    probabilities = {label: sure if number == place else others for number, label in enumerate(LABELS)}
    answer = pb.Classification(label=LABELS[place], confidence=sure, probabilities=probabilities)
    return pb.PredictResponse(classification=answer)


def _summarise(request: pb.PredictRequest, version_name: str) -> pb.PredictResponse:
    sentences = re.split(r"(?<=\.)\s+", request.text)
    chosen = sentences[:2]
    if _differs(request, version_name, {"A": 0.15, "B": 0.3}):
        chosen = [sentences[0].replace("is", "may be"), sentences[-1]]
    return pb.PredictResponse(text=" ".join(chosen))


def _price(request: pb.PredictRequest, version_name: str) -> pb.PredictResponse:
    basket = json_format.MessageToDict(request.structured)["basket"]
    lines: list[dict[str, Any]] = [{"item": item, "price": 19.9 + place} for place, item in enumerate(basket)]
    currency = "EUR"
    if _differs(request, version_name, {"A": 0.1}):
        lines[0]["price"] = 29.9
        currency = "USD"
    answer: dict[str, Any] = {"order": {"lines": lines, "currency": currency}, "meta": {"took_ms": 3.0}}
    response = pb.PredictResponse()
    response.structured.update(answer)
    return response


def _embed(request: pb.PredictRequest, version_name: str) -> pb.PredictResponse:
    values = [((zlib.crc32(f"{n} {request.text}".encode()) % 2_000) - 1_000) / 1_000 for n in range(DIMENSIONS)]
    if _differs(request, version_name, {"A": 0.2}):
        values = [-value if n % 3 == 0 else value for n, value in enumerate(values)]
    return pb.PredictResponse(embedding=pb.Embedding(values=values))


def _converse(request: pb.PredictRequest, version_name: str) -> pb.PredictResponse:
    answer = _summarise(request, "base").text
    if _differs(request, version_name, {"A": 0.25}):
        return pb.PredictResponse(text="I cannot help with that.")
    return pb.PredictResponse(text=answer)


def _texts() -> list[str]:
    """Paragraphs of the reference of the Python language: real text."""
    paragraphs = (" ".join(each.split()) for topic in topics.values() for each in topic.split("\n\n"))
    return [each for each in paragraphs if 120 < len(each) < 900 and each.count(". ") >= 2][:400]


_TEXTS = _texts()
MODELS = (
    ModelTraffic(name="spam", versions=("base", "A", "B", "C"), requests=800, hours=40, answer=_classify),
    ModelTraffic(name="summary", versions=("base", "A", "B"), requests=90, hours=6, answer=_summarise),
    ModelTraffic(name="orders", versions=("base", "A"), requests=40, hours=4, answer=_price),
    ModelTraffic(name="search", versions=("base", "A"), requests=40, hours=4, answer=_embed),
    ModelTraffic(name="chat", versions=("base", "A"), requests=40, hours=4, answer=_converse, in_session=True),
)
