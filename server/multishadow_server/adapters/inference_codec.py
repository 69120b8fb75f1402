"""Reads answers of the Open Inference Protocol: one output tensor in, the domain's values out.

A response of several rows (a batch) is one answer: it agrees when every row does. Classes and numbers of several rows
are read as a structured answer with an item for each row, so that one row that differs is seen; rows of an embedding
are compared as one long vector.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from multishadow.oip.v2 import inference_pb2
from multishadow_server.adapters import tensors
from multishadow_server.adapters.tensors import Malformed, Tensor
from multishadow_server.core import duplicates
from multishadow_server.core.prediction import (
    Classification,
    Embedding,
    Json,
    Prediction,
    Raw,
    Scalar,
    Structured,
    Text,
    Unreadable,
)
from multishadow_server.core.protocols import OutputTerms, ReadAs

# Probabilities add up to one within so much of rounding; FP16 has three digits.
_ROUNDING = 1e-2
# Comparing goes down level by level; protobuf's own objects nest no deeper than 33.
MOST_LEVELS = 100


def decode(terms: OutputTerms, response: bytes) -> Prediction:
    """Read the bytes of a ModelInferResponse; `Unreadable` when they are none, or lie about a tensor. Never raises."""
    try:
        message = inference_pb2.ModelInferResponse.FromString(response)
    except DecodeError as error:
        return Unreadable(reason=f"no ModelInferResponse ({len(response):,} bytes): {error}")
    try:
        tensor = tensors.output(message, terms.tensor)
        return _READERS[terms.read_as or _read_as(tensor)](tensor, terms)
    except Malformed as error:
        return Unreadable(reason=f"a ModelInferResponse that cannot be compared: {error}")


def fingerprint(model: str, request: bytes) -> bytes:
    """A ModelInferRequest's fingerprint: of its inputs and of the outputs that it asks for.

    Neither the id nor the parameters count, as `prediction_codec.fingerprint` leaves out their like. Empty when it
    cannot be read: the live version judges what it is.
    """
    try:
        message = inference_pb2.ModelInferRequest.FromString(request)
    except DecodeError:
        return b""
    for field in ("model_name", "model_version", "id", "parameters"):
        message.ClearField(field)
    return duplicates.fingerprint(model, message.SerializeToString(deterministic=True))


def _read_as(tensor: Tensor) -> ReadAs:
    """What a tensor most likely is: BYTES a text, whole numbers classes, one number a number, more of them a vector."""
    if isinstance(tensor.elements, list):
        return ReadAs.TEXT
    if tensor.elements.dtype.kind != "f":
        return ReadAs.CLASSIFICATION
    return ReadAs.SCALAR if len(tensor.elements) == 1 else ReadAs.EMBEDDING


def _classification(tensor: Tensor, terms: OutputTerms) -> Prediction:
    scores = _scores(tensor)
    if scores is not None:
        names = [_label(tensor, terms.labels, best) for best in scores.argmax(axis=1).tolist()]
    elif isinstance(tensor.elements, list):
        names = [_text_of(tensor, element) for element in tensor.elements]
    else:
        names = [_label(tensor, terms.labels, int(number)) for number in tensor.elements.tolist()]
    if len(names) > 1:
        return _rows(names)
    return Classification(label=names[0], confidence=None if scores is None else _confidence(scores[0]))


def _scores(tensor: Tensor) -> NDArray[np.float64] | None:
    """Scores of classes, shape (rows, classes); None where the elements are classes themselves."""
    if isinstance(tensor.elements, list) or tensor.elements.dtype.kind != "f":
        return None
    width = tensor.shape[-1] if tensor.shape else 1
    if width < 2:
        raise Malformed(
            f"{tensor.name}: scores of one class agree whatever they are; read them as scalar, or name another tensor"
        )
    scores = tensor.elements.astype(np.float64).reshape(-1, width)
    if np.isnan(scores).any():
        raise Malformed(f"{tensor.name}: a score is not a number")
    return scores


def _confidence(scores: NDArray[np.float64]) -> float | None:
    """The largest score where they are probabilities, else what softmax makes of it; None where it makes nothing."""
    if scores.min() >= 0 and abs(scores.sum() - 1) <= _ROUNDING:
        return min(1.0, float(scores.max()))
    if not np.isfinite(scores).all():
        return None
    return 1 / float(np.exp(scores - scores.max()).sum())


def _label(tensor: Tensor, labels: tuple[str, ...], number: int) -> str:
    if not labels:
        return str(number)
    if not 0 <= number < len(labels):
        raise Malformed(f"{tensor.name}: class {number} has no name; comparator.output.labels has {len(labels)}")
    return labels[number]


def _embedding(tensor: Tensor, _terms: OutputTerms) -> Prediction:
    # What is too large for 32 bits becomes infinite, and is uncomparable.
    with np.errstate(over="ignore"):
        return Embedding(values=_numbers(tensor).astype(np.float32))


def _text(tensor: Tensor, _terms: OutputTerms) -> Prediction:
    if not isinstance(tensor.elements, list):
        raise Malformed(f"{tensor.name}: {tensor.datatype} is no text; only BYTES is")
    return Text(text="\n".join(_text_of(tensor, element) for element in tensor.elements))


def _scalar(tensor: Tensor, _terms: OutputTerms) -> Prediction:
    numbers = _numbers(tensor).tolist()
    return Scalar(value=float(numbers[0])) if len(numbers) == 1 else _rows([float(number) for number in numbers])


def _structured(tensor: Tensor, _terms: OutputTerms) -> Prediction:
    if not isinstance(tensor.elements, list):
        return _rows([float(number) for number in _numbers(tensor).tolist()])
    values = [_json(tensor, element) for element in tensor.elements]
    alone = values[0]
    return Structured(value=alone) if len(values) == 1 and isinstance(alone, dict) else _rows(values)


def _raw(tensor: Tensor, _terms: OutputTerms) -> Prediction:
    return Raw(data=tensor.raw())


_READERS: Mapping[ReadAs, Callable[[Tensor, OutputTerms], Prediction]] = {
    ReadAs.CLASSIFICATION: _classification,
    ReadAs.EMBEDDING: _embedding,
    ReadAs.TEXT: _text,
    ReadAs.SCALAR: _scalar,
    ReadAs.STRUCTURED: _structured,
    ReadAs.RAW: _raw,
}


def _rows(values: list[Any]) -> Structured:
    return Structured(value={"rows": values})


def _numbers(tensor: Tensor) -> NDArray[Any]:
    if isinstance(tensor.elements, list):
        raise Malformed(f"{tensor.name}: BYTES are no numbers")
    return tensor.elements


def _text_of(tensor: Tensor, element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{tensor.name}: no UTF-8 text at byte {error.start} of an element") from error


def _json(tensor: Tensor, element: bytes) -> Json:
    try:
        return _shallow(json.loads(element, parse_int=float), levels=MOST_LEVELS)
    # The last of them: nested so deeply that the parser gives up.
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{tensor.name}: an element is no JSON, or nests deeper than {MOST_LEVELS} levels") from error


def _shallow(value: Any, *, levels: int) -> Json:  # noqa: ANN401  JSON is any
    """The value, unless it nests too deeply."""
    if levels < 0:
        raise RecursionError
    match value:
        case list():
            return [_shallow(item, levels=levels - 1) for item in value]
        case dict():
            return {key: _shallow(item, levels=levels - 1) for key, item in value.items()}
    return cast("Json", value)
