"""What versions speak, and what of their answers is compared.

The protocol is part of the comparator: it says how two answers are read, so an epoch keeps it with everything else that
decides whether they agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from multishadow_server.errors import InvalidInput

MOST_LABELS = 10_000
LONGEST_LABEL = 256
LONGEST_TENSOR_NAME = 256
LONGEST_SERVED_NAME = 256
# Two names of characters of four bytes, each behind a tag and a length of two bytes.
LONGEST_RENAMING = 2 * (4 * LONGEST_SERVED_NAME + 3)

PREDICT = "/multishadow.v1.PredictionService/Predict"
PREDICT_STREAM = "/multishadow.v1.PredictionService/PredictStream"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"


class Protocol(StrEnum):
    """What all versions of a model speak."""

    MULTISHADOW = "multishadow"
    OIP = "oip"


CALLED_BY: Mapping[Protocol, str] = {
    Protocol.MULTISHADOW: PREDICT.removeprefix("/"),
    Protocol.OIP: MODEL_INFER.removeprefix("/"),
}
"""The method that callers ask a model by."""

MODEL_FIELD: Mapping[Protocol, str] = {Protocol.MULTISHADOW: "model", Protocol.OIP: "model_name"}
"""The field of a request that names the model; field number 1 in both."""


class ReadAs(StrEnum):
    """How an output tensor is read; `auto` goes by its data type and size."""

    AUTO = ""
    CLASSIFICATION = "classification"
    EMBEDDING = "embedding"
    TEXT = "text"
    SCALAR = "scalar"
    STRUCTURED = "structured"
    RAW = "raw"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputTerms:
    """Which output of an Open Inference Protocol answer is compared, and how.

    Args:
        tensor: its name; empty for the only one that there is.
        read_as: see ReadAs.
        labels: names of the classes, in their order; empty names them by their numbers.
    """

    tensor: str = ""
    read_as: ReadAs = ReadAs.AUTO
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        which = self.tensor or "the only output"
        how = f" as {self.read_as}" if self.read_as else ""
        return f"{which}{how}{f' of {len(self.labels)} labels' if self.labels else ''}"


def protocol_of(word: str) -> Protocol:
    """The protocol of that name. Raises InvalidInput when there is none."""
    try:
        return Protocol(word)
    except ValueError:
        raise InvalidInput(f"protocol: allowed are {' and '.join(Protocol)}, not {word[:80]!r}") from None


def read_as_of(word: str) -> ReadAs:
    """How to read an output. Raises InvalidInput when there is no such way."""
    try:
        return ReadAs(word)
    except ValueError:
        allowed = ", ".join(filter(None, ReadAs))
        raise InvalidInput(f"comparator.output.read_as: allowed are {allowed}, not {word[:80]!r}") from None


def check_output(terms: OutputTerms, protocol: Protocol) -> None:
    """Refuse output terms that cannot be followed.

    Raises:
        InvalidInput: which field is wrong, and what is allowed.
    """
    if protocol is not Protocol.OIP and terms != OutputTerms():
        raise InvalidInput(
            "comparator.output: only answers of the Open Inference Protocol have output tensors to choose from; say "
            "`protocol: oip`, or leave it out"
        )
    if len(terms.tensor) > LONGEST_TENSOR_NAME:
        raise InvalidInput(f"comparator.output.tensor: at most {LONGEST_TENSOR_NAME} characters are allowed")
    if terms.labels and terms.read_as not in {ReadAs.AUTO, ReadAs.CLASSIFICATION}:
        raise InvalidInput(f"comparator.output.labels: {terms.read_as} has no classes; labels go with classification")
    if len(terms.labels) > MOST_LABELS:
        raise InvalidInput(f"comparator.output.labels: at most {MOST_LABELS:,} are allowed, not {len(terms.labels):,}")
    for label in terms.labels:
        if not label or len(label) > LONGEST_LABEL:
            raise InvalidInput(
                f"comparator.output.labels: {label[:80]!r} must have 1 to {LONGEST_LABEL} characters: an empty label "
                "is compared with nothing"
            )


def check_served(where: str, *, name: str, version: str, protocol: Protocol) -> None:
    """Refuse names that a version's server cannot be asked by.

    Raises:
        InvalidInput: which field of `where` is wrong, and what is allowed.
    """
    for field, value in (("served_name", name), ("served_version", version)):
        if len(value) > LONGEST_SERVED_NAME or not value.isprintable():
            raise InvalidInput(
                f"{where}.{field}: at most {LONGEST_SERVED_NAME} characters are allowed, and only printable ones"
            )
    if version and protocol is not Protocol.OIP:
        raise InvalidInput(
            f"{where}.served_version: requests of PredictionService name no version; it is for models with "
            "`protocol: oip`"
        )


@lru_cache(maxsize=4096)
def renaming(name: str, version: str) -> bytes:
    """Bytes that, behind any request that names its model in field 1 (and its version in field 2), rename it.

    Of a scalar field that occurs twice the last occurrence counts
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins), so nothing of the request has to be read for it.
    Empty when it keeps its names.
    """
    return b"".join(_text_field(number, text) for number, text in ((1, name), (2, version)) if text)


def _text_field(number: int, text: str) -> bytes:
    encoded = text.encode()
    return bytes((number << 3 | 2, *_varint(len(encoded)))) + encoded


def _varint(number: int) -> Sequence[int]:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return (*groups, number)
