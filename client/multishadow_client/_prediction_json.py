"""Requests and answers as JSON, as files of probes and of logged sessions hold them.

A request is one of

    {"text": "You have won"}  {"structured": {"amount": 12.5}}  {"tensor": [[0.5, 1.0]]}  {"raw": "AAEC"}

and an answer one of

    {"classification": "spam"}
    {"classification": {"label": "spam", "confidence": 0.97, "probabilities": {"spam": 0.97, "ham": 0.03}}}
    {"text": "..."}  {"structured": {...}}  {"scalar": 0.5}  {"embedding": [0.1, 0.2]}  {"raw": "AAEC"}

Raw bytes are base64. `json` stands for `structured`, as `shadowctl predict --json` does.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any

from multishadow.v1 import prediction_pb2
from multishadow_client import _prediction

INPUTS = ("text", "structured", "json", "tensor", "raw")
OUTPUTS = ("classification", "text", "structured", "json", "scalar", "embedding", "raw")


# What protobuf makes of a lone surrogate, of a number beyond 32 bits, of rows that differ in length.
_UNSENDABLE = (TypeError, ValueError, OverflowError)


class Malformed(ValueError):
    """A JSON value that says no request, or no answer; says what is allowed."""


def request_of(
    value: object, *, model: str = "", request_id: str = "", session_id: str = "", attributes: object = None
) -> prediction_pb2.PredictRequest:
    """The request that a JSON value says.

    Args:
        value: a mapping with one of the inputs above.
        model: goes into the request.
        request_id: likewise.
        session_id: likewise.
        attributes: a mapping of JSON values; None for none.

    Raises:
        Malformed: it says none; says what is wrong.
    """
    name, given = _only(value, INPUTS, "a request")
    if attributes is not None and not isinstance(attributes, Mapping):
        raise Malformed(f"attributes must be an object, got {_shown(attributes)}")
    inputs = {"structured" if name == "json" else name: _INPUT[name](name, given)}
    try:
        return _prediction.request(model, request_id=request_id, session_id=session_id, attributes=attributes, **inputs)
    except _UNSENDABLE as error:
        raise Malformed(str(error)) from error


def answer_of(value: object) -> prediction_pb2.PredictResponse:
    """The answer that a JSON value says. Raises Malformed: it says none; says what is wrong."""
    name, given = _only(value, OUTPUTS, "an answer")
    try:
        return _OUTPUT[name](name, given)
    except Malformed:
        raise
    except _UNSENDABLE as error:
        raise Malformed(f"{name}: {error}") from error


def plain(  # noqa: PLR0911  # one return per kind of answer
    answer: prediction_pb2.PredictResponse,
) -> dict[str, Any] | None:
    """An answer as JSON; None for one that sets no output. Numbers that JSON has not are words."""
    match answer.WhichOneof("output"):
        case "classification":
            told = answer.classification
            record: dict[str, Any] = {"label": told.label}
            if told.HasField("confidence"):
                record["confidence"] = _number(told.confidence)
            if told.probabilities:
                record["probabilities"] = {key: _number(share) for key, share in sorted(told.probabilities.items())}
            return {"classification": record}
        case "embedding":
            return {"embedding": [_number(each) for each in answer.embedding.values]}
        case "raw":
            return {"raw": base64.b64encode(answer.raw).decode()}
        case "scalar":
            return {"scalar": _number(answer.scalar)}
        case "structured":
            output = _prediction.prediction(answer, trailing={}).output
            return {"structured": _finite(output)}
        case "text":
            return {"text": answer.text}
    return None


def _only(value: object, names: tuple[str, ...], what: str) -> tuple[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is an object with one of {', '.join(names)}; got {_shown(value)}")
    if strange := [str(key) for key in value if key not in names]:
        raise Malformed(f"{what} has no {strange[0]!r}; allowed is one of {', '.join(names)}")
    if len(value) != 1:
        raise Malformed(f"{what} must have exactly one of {', '.join(names)}; got {', '.join(value) or 'none'}")
    return next(iter(value.items()))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{name} must be a text, got {_shown(value)}")
    return value


def _object(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{name} must be an object, got {_shown(value)}")
    return value


def _list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(f"{name} must be a list of numbers, or of lists of them, got {_shown(value)}")
    return value


def _bytes(name: str, value: object) -> bytes:
    try:
        return base64.b64decode(_text(name, value), validate=True)
    except binascii.Error as error:
        raise Malformed(f"{name} must be base64: {error}") from error


def _float(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{name} must be a number, got {_shown(value)}")
    return float(value)


_INPUT: Mapping[str, Callable[[str, Any], Any]] = {
    "text": _text,
    "structured": _object,
    "json": _object,
    "tensor": _list,
    "raw": _bytes,
}


def _classification(name: str, value: object) -> prediction_pb2.PredictResponse:
    record = {"label": value} if isinstance(value, str) else _object(name, value)
    if strange := [key for key in record if key not in {"label", "confidence", "probabilities"}]:
        raise Malformed(f"{name} has no {strange[0]!r}; allowed are label, confidence, probabilities")
    confidence = record.get("confidence")
    shares = _object("probabilities", record.get("probabilities", {}))
    return prediction_pb2.PredictResponse(
        classification=prediction_pb2.Classification(
            label=_text("label", record.get("label")),
            confidence=None if confidence is None else _float("confidence", confidence),
            probabilities={key: _float("a probability", share) for key, share in shares.items()},
        )
    )


def _structured(name: str, value: object) -> prediction_pb2.PredictResponse:
    struct = _prediction.request("", structured=_object(name, value)).structured
    return prediction_pb2.PredictResponse(structured=struct)


def _embedding(name: str, value: object) -> prediction_pb2.PredictResponse:
    values = [_float(f"a number of {name}", each) for each in _list(name, value)]
    return prediction_pb2.PredictResponse(embedding=prediction_pb2.Embedding(values=values))


_OUTPUT: Mapping[str, Callable[[str, Any], prediction_pb2.PredictResponse]] = {
    "classification": _classification,
    "text": lambda name, value: prediction_pb2.PredictResponse(text=_text(name, value)),
    "structured": _structured,
    "json": _structured,
    "scalar": lambda name, value: prediction_pb2.PredictResponse(scalar=_float(name, value)),
    "embedding": _embedding,
    "raw": lambda name, value: prediction_pb2.PredictResponse(raw=_bytes(name, value)),
}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _finite(value: Any) -> Any:  # noqa: ANN401 -- JSON is any
    match value:
        case float():
            return _number(value)
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list():
            return [_finite(inner) for inner in value]
        case _:
            return value


def _shown(value: object) -> str:
    return f"{value!r:.80}"
