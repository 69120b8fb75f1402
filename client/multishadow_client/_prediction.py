"""One request and its answer, between Python's values and the wire."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from google.protobuf import struct_pb2

from multishadow.v1 import prediction_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification:
    """One label; confidence in [0, 1] or None; probability by label, possibly empty."""

    label: str
    confidence: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding:
    """A vector, shape (d,), float32; `numpy.asarray(embedding.values)` makes no copy."""

    values: array[float]


Output: TypeAlias = Classification | Embedding | str | dict[str, Any] | float | bytes | None
"""Text is str, a structured answer a dict, a scalar a float, raw bytes; None is an answer that sets no output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a model answered, and who answered it.

    Args:
        output: the answer.
        version: the version that answered; empty when a version was called directly, without a router.
        request_id: the caller's id, or the one that the router made.
        revision: the flags' revision by which the version was chosen; None without a router.
    """

    output: Output
    version: str = ""
    request_id: str = ""
    revision: int | None = None


def request(
    model: str,
    *,
    text: str | None = None,
    tensor: object = None,
    structured: Mapping[str, Any] | None = None,
    raw: bytes | None = None,
    session_id: str = "",
    request_id: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> prediction_pb2.PredictRequest:
    """The message of one request.

    Raises:
        TypeError: not exactly one input is given, or a value is of no kind that JSON knows.
        ValueError: the tensor's rows differ in length.
    """
    inputs = {"text": text, "tensor": tensor, "structured": structured, "raw": raw}
    given = [name for name, value in inputs.items() if value is not None]
    if len(given) != 1:
        raise TypeError(f"exactly one of {', '.join(inputs)} must be given, got {', '.join(given) or 'none'}")
    message = prediction_pb2.PredictRequest(model=model, request_id=request_id, session_id=session_id)
    if attributes is not None:
        message.attributes.CopyFrom(_struct(attributes, "attributes"))
    if text is not None:
        message.text = text
    elif tensor is not None:
        message.tensor.CopyFrom(_tensor(tensor))
    elif structured is not None:
        message.structured.CopyFrom(_struct(structured, "structured"))
    elif raw is not None:
        message.raw = raw
    return message


def prediction(
    response: prediction_pb2.PredictResponse, *, trailing: Mapping[str, str], request_id: str = ""
) -> Prediction:
    """Read an answer.

    Args:
        response: the message.
        trailing: the trailing metadata's text values.
        request_id: the id that was sent, for answers that carry none.
    """
    return answered(output(response), trailing=trailing, request_id=request_id)


def answered(output: Output, *, trailing: Mapping[str, str], request_id: str) -> Prediction:
    """An output with who gave it; see `prediction`."""
    revision = trailing.get("x-multishadow-revision", "")
    return Prediction(
        output=output,
        version=trailing.get("x-multishadow-version", ""),
        request_id=trailing.get("x-multishadow-request-id", request_id),
        revision=int(revision) if revision.isdecimal() else None,
    )


def text_values(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Metadata as a mapping, without its binary values; of a repeated key the last counts."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def output(response: prediction_pb2.PredictResponse) -> Output:
    """What an answer holds."""
    kind = response.WhichOneof("output")
    match kind:
        case "classification":
            return _classification(response.classification)
        case "embedding":
            return Embedding(values=array("f", response.embedding.values))
        case "structured":
            # Not json_format, which refuses NaN; a model may well answer one.
            return {key: _plain(value) for key, value in response.structured.fields.items()}
        case "text" | "scalar" | "raw":
            return cast("str | float | bytes", getattr(response, kind))
        case None:
            return None


def _classification(answer: prediction_pb2.Classification) -> Classification:
    return Classification(
        label=answer.label,
        confidence=answer.confidence if answer.HasField("confidence") else None,
        probabilities=dict(answer.probabilities),
    )


def _plain(value: struct_pb2.Value) -> Any:  # noqa: ANN401 -- JSON is any
    match value.WhichOneof("kind"):
        case "struct_value":
            return {key: _plain(inner) for key, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(inner) for inner in value.list_value.values]
        case None | "null_value":
            return None
        case kind:
            return getattr(value, kind)


def _struct(value: Mapping[str, Any], name: str) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    try:
        struct.update(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise TypeError(f"{name} must be a mapping of text to JSON-like values: {error}") from error
    return struct


def _tensor(value: object) -> prediction_pb2.Tensor:
    """A dense array of whatever holds numbers: a buffer (numpy, array), `tolist()` (torch), nested sequences."""
    flat, shape = _float_buffer(value) or _numbers(value)
    return prediction_pb2.Tensor(shape=shape, values=flat)


def _float_buffer(value: object) -> tuple[array[float], Sequence[int]] | None:
    """The values of a buffer that holds 32-bit floats already, copied in one piece; None for everything else."""
    try:
        view = memoryview(cast("Any", value))
    except TypeError:
        return None
    return None if view.format != "f" or view.shape is None else (array("f", view.tobytes()), view.shape)


def _numbers(value: object) -> tuple[array[float], Sequence[int]]:
    tolist: Any = getattr(value, "tolist", None)
    level: Any = value if tolist is None else tolist()
    if not _is_row(level):
        raise TypeError(f"a tensor must be an array or nested sequences of numbers, not {type(value).__name__}")
    shape = [len(level)]
    while any(_is_row(row) for row in level):
        lengths = {len(row) if _is_row(row) else None for row in level}
        if len(lengths) > 1:
            raise ValueError(f"the tensor's rows differ in length (dimension {len(shape)})")
        shape.append(len(level[0]))
        level = [number for row in level for number in row]
    return array("f", level), shape


def _is_row(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))
