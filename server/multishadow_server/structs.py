"""JSON objects as google.protobuf.Struct, for the edges. Several times faster than protobuf's own JSON conversion."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import cast, final

from google.protobuf.struct_pb2 import Struct, Value

from multishadow_server.core.prediction import Json
from multishadow_server.errors import InvalidInput

MOST_LEVELS = 28
"""Objects and lists inside each other in what is passed on. protobuf reads a hundred messages inside each other, three
for each level of a Struct: it must be readable inside other messages, too."""

# A number's tag and eight bytes whose exponent is all ones. What looks like it may be something else; what does not
# hold it has no infinity in it.
_MAYBE_INFINITE = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
# Every level but the first takes four bytes at least, and one of two tags.
_BYTES_OF_LEVEL = 4
_OBJECT_TAG, _LIST_TAG = b"\x2a", b"\x32"


@final
class UnreadObject(Mapping[str, Json]):
    """A JSON object as the bytes of its Struct, which are read when somebody looks into it.

    Args:
        encoded: the bytes; see `unread`.
    """

    __slots__ = ("_values", "encoded")

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded
        self._values: Mapping[str, Json] | None = None

    def __getitem__(self, name: str) -> Json:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, name: object) -> bool:
        # A name that is not in the bytes is not in the object.
        return isinstance(name, str) and name.encode() in self.encoded and name in self._read()

    def __repr__(self) -> str:
        return repr(self._read())

    def _read(self) -> Mapping[str, Json]:
        if self._values is None:
            self._values = json_of(Struct.FromString(self.encoded))
        return self._values


def unread(encoded: bytes, *, most_levels: int = MOST_LEVELS) -> UnreadObject:
    """The object of a Struct's bytes, which can be read whenever somebody wants to.

    Raises:
        InvalidInput: a number is infinite or not a number, or it nests deeper than so many levels.
        google.protobuf.message.DecodeError: it is no Struct.
    """
    struct = Struct.FromString(encoded)
    # Written anew, as tags can be written in other ways than one. Then most objects show by their bytes that they hold
    # neither; to read all would take the router thrice as long.
    plain = struct.SerializeToString()
    deep = len(plain) >= most_levels * _BYTES_OF_LEVEL and (
        plain.count(_OBJECT_TAG) + plain.count(_LIST_TAG) >= most_levels
    )
    if deep or _MAYBE_INFINITE.search(plain):
        _check_levels(json_of(struct), most_levels)
    return UnreadObject(plain)


def encoded(values: Mapping[str, Json]) -> bytes:
    """The bytes of a Struct that holds these."""
    if isinstance(values, UnreadObject):
        return values.encoded
    if not values:
        return b""
    struct = Struct()
    fill(struct, values)
    return struct.SerializeToString()


def _check_levels(values: Json, left: int) -> None:
    if not isinstance(values, dict | list):
        return
    if not left:
        raise InvalidInput(f"objects and lists nest at most {MOST_LEVELS} levels deep here")
    for value in values.values() if isinstance(values, dict) else values:
        _check_levels(value, left - 1)


def json_of(struct: Struct) -> dict[str, Json]:
    """A Struct as plain values; numbers are floats.

    Raises:
        InvalidInput: a number is infinite or not a number: neither JSON nor the store knows such.
    """
    fields = struct.fields
    # By name, because `items` of a protobuf map goes through two layers of Python.
    return {name: _value(fields[name]) for name in fields}


def _value(value: Value) -> Json:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "struct_value":
        return json_of(value.struct_value)
    if kind == "list_value":
        return [_value(item) for item in value.list_value.values]
    if kind == "number_value" and not math.isfinite(value.number_value):
        raise InvalidInput(f"numbers must be finite, got {value.number_value}")
    return None if kind in {None, "null_value"} else cast("Json", getattr(value, str(kind)))


def fill(struct: Struct, values: Mapping[str, Json]) -> None:
    """Write plain values into an empty Struct."""
    fields = struct.fields
    for name, value in values.items():
        _fill_value(fields[name], value)


def _fill_value(target: Value, value: Json) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        fill(target.struct_value, value)
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for item in value:
            _fill_value(target.list_value.values.add(), item)
    else:
        target.null_value = 0  # type: ignore[assignment]  # the enum's only member, which its stub does not take as a number
