"""What nobody should send, in bulk: mutated messages, injected texts, broken frames. Everything from a seed."""

from __future__ import annotations

import importlib
import math
import pkgutil
import random
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

import multishadow.v1
from multishadow_server.core.prediction import Json

INJECTIONS = (
    "spam",
    "'; DROP TABLE model; --",
    '" OR 1=1 --',
    "spam'; SELECT pg_sleep(30); --",
    "\\'; DELETE FROM audit_log; --",
    "$..*[?(@.secret)]",
    "meta.*.*.*.*.*.*.*.*",
    "{{7*7}}${7*7}#{7*7}",
    "../../../../etc/passwd",
    "%s%s%s%n%x",
    "a\x00b",
    "\r\nx-injected: yes",
    "\u202e\ufeff\u0000\U0010ffff",
    "%27%20OR%201=1",
    "A" * 100_000,
)
DEEPEST = 3
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (0, -1, 1, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (0, -1, 1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**64 - 1),
}
_REALS = (0.0, -1.0, 1.5, math.nan, math.inf, -math.inf, 1e308, 5e-324)


def control_methods() -> Iterator[MethodDescriptor]:
    """Every method of every service of ours but the router's."""
    for module in pkgutil.iter_modules(multishadow.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        descriptor = importlib.import_module(f"multishadow.v1.{module.name}").DESCRIPTOR
        for service in descriptor.services_by_name.values():
            if service.name != "PredictionService":
                yield from service.methods


def path_of(method: MethodDescriptor) -> str:
    """The method's name on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def hostile(descriptor: Descriptor, text: str, dice: random.Random, *, depth: int = 0) -> Message:
    """A message of that kind whose texts are that text, and whose numbers lie at the edges of what they can be."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        # Not all at once: of two fields that exclude each other both are tried, and fields are left out.
        if dice.random() < 0.2:
            continue
        _fill(message, field, text, dice, depth)
    return message


def _fill(message: Message, field: FieldDescriptor, text: str, dice: random.Random, depth: int) -> None:
    target: Any = getattr(message, field.name)
    entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
    if entry is not None:
        value_field = entry.fields_by_name["value"]
        if value_field.message_type is None:
            target[text] = _scalar(value_field, text, dice)
        elif depth < DEEPEST:
            target[text].CopyFrom(hostile(value_field.message_type, text, dice, depth=depth + 1))
    elif field.message_type is not None:
        if depth < DEEPEST:
            inner = hostile(field.message_type, text, dice, depth=depth + 1)
            for place in [target.add() for _ in range(2)] if field.is_repeated else [target]:
                place.CopyFrom(inner)
    elif field.is_repeated:
        target.extend(_scalar(field, text, dice) for _ in range(3))
    else:
        setattr(message, field.name, _scalar(field, text, dice))


def _scalar(field: FieldDescriptor, text: str, dice: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return text.encode()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return text
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return dice.choice((0, 1, 99))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return dice.random() < 0.5
    if field.cpp_type in _INTEGERS:
        return dice.choice(_INTEGERS[field.cpp_type])
    return dice.choice(_REALS)


def mutants(valid: bytes, count: int, dice: random.Random) -> Iterator[bytes]:
    """The message with bytes flipped, cut off, repeated, put in; and bytes that never were a message."""
    for number in range(count):
        body = bytearray(valid)
        match number % 5:
            case 0:
                for _ in range(dice.randint(1, 8)):
                    body[dice.randrange(len(body))] = dice.randrange(256)
            case 1:
                del body[dice.randrange(len(body)) :]
            case 2:
                place = dice.randrange(len(body))
                body[place:place] = dice.randbytes(dice.randint(1, 64))
            case 3:
                body += body[dice.randrange(len(body)) :] * dice.randint(1, 4)
            case _:
                body = bytearray(dice.randbytes(dice.randint(0, 512)))
        yield bytes(body)


def deep(levels: int, *, by: str = "objects", leaf: Json = "deep") -> dict[str, Json]:
    """An object of so many levels, of objects or of lists."""
    value = leaf
    for _ in range(levels - 1):
        value = {"in": value} if by == "objects" else [value]
    return {"in": value}


def nested(levels: int) -> bytes:
    """A PredictResponse whose structured answer nests so deeply, without ever making such a message."""
    value = b""
    for _ in range(levels):
        # Value{list_value = ListValue{values = [...]}}
        listed = _field(1, value)
        value = _field(6, listed)
    return _field(13, _field(1, _field(1, b"x") + _field(2, value)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


# --- HTTP/2, by hand: https://www.rfc-editor.org/rfc/rfc9113 ------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, CONTINUATION = 0, 1, 4, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """One frame; `length` lies about its payload."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def greeting(*, window: int | None = None) -> bytes:
    """How a connection begins; with `window`, nothing beyond so many bytes may be sent back."""
    settings = b"" if window is None else struct.pack(">HI", 4, window)
    return PREFACE + frame(SETTINGS, 0, 0, settings)


def call_headers(path: str) -> bytes:
    """The header block of a gRPC call, as literals without indexing and without Huffman's code."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    return b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in fields)


def _literal(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


def a_call(path: str, body: bytes, *, stream: int = 1, length: int | None = None) -> bytes:
    """A whole gRPC call; `length` lies about the message's."""
    message = b"\x00" + struct.pack(">I", len(body) if length is None else length) + body
    return frame(HEADERS, END_HEADERS, stream, call_headers(path)) + frame(DATA, END_STREAM, stream, message)


def broken_conversations(path: str, body: bytes, dice: random.Random) -> Iterable[bytes]:
    """What a client could send that is no HTTP/2, no gRPC, or neither in the end."""
    whole = a_call(path, body)
    yield b""
    yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(64)
    yield PREFACE[:10]
    yield dice.randbytes(4096)
    yield greeting() + dice.randbytes(4096)
    yield greeting() + frame(HEADERS, END_HEADERS, 1, length=2**24 - 1)
    yield greeting() + frame(DATA, 0, 0, b"x" * 100)
    yield greeting() + frame(SETTINGS, 0, 0, b"12345")
    yield greeting() + frame(HEADERS, 0, 1, call_headers(path)) + frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b") * 2000
    yield greeting() + frame(HEADERS, END_HEADERS, 1, b"\xff" * 200)
    yield greeting() + frame(200, 255, 1, b"what is this")
    yield greeting() + a_call(path, body, length=2**32 - 1)
    yield greeting() + a_call(path, body, length=len(body) + 1)
    yield greeting() + a_call(path, body, length=0)
    yield greeting() + a_call("/" + "x" * 100, body)
    yield greeting() + a_call(path, b"")
    for _ in range(40):
        yield greeting() + whole[: dice.randrange(len(whole))]
    for mutant in mutants(whole, 100, dice):
        yield greeting() + mutant
