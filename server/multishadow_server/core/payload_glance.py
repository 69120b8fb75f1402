"""Stored requests and answers as people look at them: bounded, and what was done to them before they were stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core import redaction
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import Payloads

MOST_CHARACTERS = 20_000
MOST_ELEMENTS = 64
MOST_TENSORS = 20
LONGEST_ELEMENT = 200


class PayloadState(StrEnum):
    """What is left of a payload."""

    WHOLE = "whole"
    REDACTED = "redacted"
    HASHED = "hashed"
    ABSENT = "absent"

    @property
    def readable(self) -> bool:
        """Whether there is anything to read."""
        return self in {PayloadState.WHOLE, PayloadState.REDACTED}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorGlance:
    """A tensor as it was stored.

    Args:
        name, datatype, shape: as the message says; they may lie.
        size: how many elements it has.
        elements: the first of them, in words.
        problem: why its elements cannot be read; empty otherwise.
    """

    name: str
    datatype: str
    shape: str
    size: int
    elements: Sequence[str]
    problem: str = ""

    @property
    def more(self) -> int:
        """Elements that are not shown."""
        return max(0, self.size - len(self.elements))


@dataclass(frozen=True, kw_only=True, slots=True)
class PayloadGlance:
    """What a message says.

    Args:
        kind: of its input or output, in a word: "text", "structured", "tensors", "bytes"; "unreadable" for no message.
        size: bytes that are stored.
        text: what it says; cut at MOST_CHARACTERS.
        cut: characters that are not shown.
        tensors: what it holds where it holds tensors.
    """

    kind: str
    size: int
    text: str = ""
    cut: int = 0
    tensors: Sequence[TensorGlance] = ()


def state_of(payloads: Payloads, payload: bytes) -> PayloadState:
    """What is left of a payload that was stored in this form."""
    if payloads is Payloads.NONE or (not payload and payloads is not Payloads.FULL):
        return PayloadState.ABSENT
    if payloads is Payloads.FULL:
        return PayloadState.WHOLE
    # Under `redacted`, what is too large or cannot be read is stored as its hash.
    return PayloadState.HASHED if redaction.is_sealed(payload) else PayloadState(payloads.value)


def of_text(kind: str, text: str, *, size: int) -> PayloadGlance:
    """A glance at a text."""
    return PayloadGlance(kind=kind, size=size, text=text[:MOST_CHARACTERS], cut=max(0, len(text) - MOST_CHARACTERS))


def of_json(kind: str, value: Json, *, size: int) -> PayloadGlance:
    """A glance at a value, written no further than it is shown; it nests no deeper than messages do."""
    written, length = list[str](), 0
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        written.append(part)
        length += len(part)
        if length > MOST_CHARACTERS:
            break
    text = "".join(written)
    # How much is left is not known: nobody wrote it.
    return PayloadGlance(kind=kind, size=size, text=text[:MOST_CHARACTERS], cut=max(0, length - MOST_CHARACTERS))
