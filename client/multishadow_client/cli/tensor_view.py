"""Messages of the Open Inference Protocol as its REST form has them: tensors with their elements as lists.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict

from multishadow.oip.v2 import inference_pb2

_Tensor: TypeAlias = (
    "inference_pb2.ModelInferRequest.InferInputTensor | inference_pb2.ModelInferResponse.InferOutputTensor"
)

# Raw contents by data type, as `struct` names them: little-endian. A BF16 is the upper half of an FP32.
_FORMATS: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d", "BF16": "H",
}  # fmt: skip


def request(data: bytes) -> dict[str, Any]:
    """A ModelInferRequest as plain values. Raises DecodeError when the bytes are none."""
    message = inference_pb2.ModelInferRequest.FromString(data)
    return _document(message, "inputs", message.inputs, message.raw_input_contents)


def response(data: bytes) -> dict[str, Any]:
    """A ModelInferResponse as plain values. Raises DecodeError when the bytes are none."""
    message = inference_pb2.ModelInferResponse.FromString(data)
    return _document(message, "outputs", message.outputs, message.raw_output_contents)


def _document(
    message: inference_pb2.ModelInferRequest | inference_pb2.ModelInferResponse,
    name: str,
    tensors: Sequence[_Tensor],
    raw: Sequence[bytes],
) -> dict[str, Any]:
    head: Any = type(message)()
    head.CopyFrom(message)
    for field in (name, f"raw_{name[:-1]}_contents"):
        head.ClearField(field)
    contents = [*raw, *[None] * len(tensors)] if raw else [None] * len(tensors)
    shown = [_tensor(tensor, content) for tensor, content in zip(tensors, contents, strict=False)]
    return {**MessageToDict(head, preserving_proto_field_name=True), name: shown}


def _tensor(tensor: _Tensor, raw: bytes | None) -> dict[str, Any]:
    said = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if raw is None:
        values = [value for _, values in tensor.contents.ListFields() for value in values]
        return {**said, "data": [_plain(value) for value in values]}
    try:
        return {**said, "data": _elements(tensor.datatype, raw)}
    except (KeyError, struct.error):
        return {**said, "unreadable": base64.b64encode(raw).decode()}


def _elements(datatype: str, raw: bytes) -> list[Any]:
    """Raises KeyError for a data type that there is not, and struct.error for contents that are cut off."""
    if datatype == "BYTES":
        return [_plain(element) for element in _split(raw)]
    values = [value for (value,) in struct.iter_unpack(f"<{_FORMATS[datatype]}", raw)]
    if datatype == "BF16":
        return [_plain(struct.unpack("<f", struct.pack("<I", half << 16))[0]) for half in values]
    return [_plain(value) for value in values]


def _split(raw: bytes) -> list[bytes]:
    elements, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4 + length
        if at > len(raw):
            raise struct.error("cut off")
        elements.append(raw[at - length : at])
    return elements


def _plain(value: Any) -> Any:  # noqa: ANN401  a document is any
    """As JSON has it: bytes that are no text as base64, numbers that are none as words."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    return value if not isinstance(value, float) or abs(value) < float("inf") else str(value)
