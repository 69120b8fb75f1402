"""Messages as plain values, for `--output json` and `--output yaml`.

Keys are the protos' field names and every field is always there, so scripts need not ask whether. It departs from
protobuf's own JSON in one point: 64-bit integers are numbers, not strings. They are counts, far below 2^53, and
`jq '.candidates[0].n > 1000'` should do what it says.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp


def plain(message: Message) -> dict[str, Any]:
    """A message as a mapping; absent fields are None, times are RFC 3339 in UTC, enums their names."""
    # The stubs also name the type of the C implementation, which has the same attributes.
    fields = cast("list[FieldDescriptor]", message.DESCRIPTOR.fields)
    return {field.name: _field(message, field) for field in fields}


def as_json(value: Mapping[str, Any]) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def as_yaml(value: Mapping[str, Any]) -> str:
    """YAML in the order of the fields."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100).rstrip("\n")


def _field(message: Message, field: FieldDescriptor) -> Any:  # noqa: ANN401 -- a document is any
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {str(key): value[key] for key in sorted(value)}
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: FieldDescriptor) -> Any:  # noqa: ANN401, PLR0911 -- a document is any
    match value:
        case Timestamp():
            return datetime.fromtimestamp(value.seconds + value.nanos / 1e9, UTC).isoformat().replace("+00:00", "Z")
        case Struct():
            return MessageToDict(value)
        case Message():
            return plain(value)
        case bytes():
            return base64.b64encode(value).decode()  # as protobuf's own JSON has them
        case float() if not math.isfinite(value):
            return str(value)  # JSON knows neither NaN nor infinity
        case int() if field.enum_type is not None:
            return field.enum_type.values_by_number[value].name
        case _:
            return value
