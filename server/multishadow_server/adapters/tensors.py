"""Output tensors of the Open Inference Protocol as arrays. Nothing is allocated by what they claim to be."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from multishadow.oip.v2 import inference_pb2

Elements: TypeAlias = "NDArray[Any] | list[bytes]"
Message: TypeAlias = (
    "inference_pb2.ModelInferRequest.InferInputTensor | inference_pb2.ModelInferResponse.InferOutputTensor"
)

BYTES = "BYTES"
BF16 = "BF16"
# How raw contents hold a number: https://github.com/kserve/open-inference-protocol, "Tensor Data Types".
DTYPES: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    # The upper half of an FP32.
    BF16: "<u2",
}
# The field of InferTensorContents that holds them; FP16 and BF16 have none.
FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_HELD_AS: Mapping[str, str] = {
    "bool_contents": "?",
    "int_contents": "<i4",
    "int64_contents": "<i8",
    "uint_contents": "<u4",
    "uint64_contents": "<u8",
    "fp32_contents": "<f4",
    "fp64_contents": "<f8",
}
_FLOATS = frozenset({"FP32", "FP64"})
_LENGTH = struct.Struct("<I")


class Malformed(Exception):
    """A tensor that is not what it says; the message says in what, and never holds contents."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tensor:
    """An output tensor with at least one element.

    Args:
        name, datatype, shape: as the response says; the shape's product is the number of elements.
        elements: in row-major order; an array of shape (n,), or the n values of BYTES.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Elements

    def raw(self) -> bytes:
        """Its elements as raw contents, however they came; those of BF16 as FP32."""
        if isinstance(self.elements, list):
            return b"".join(_LENGTH.pack(len(each)) + each for each in self.elements)
        return self.elements.tobytes()


def output(response: inference_pb2.ModelInferResponse, name: str) -> Tensor:
    """The output tensor of that name; the only one there is when the name is empty.

    Raises:
        Malformed: there is none or more than one, it is empty, or it is not what it says.
    """
    place = _place(response, name)
    message = response.outputs[place]
    shape = tuple(message.shape)
    if any(length < 0 for length in shape):
        raise Malformed(f"{message.name}: its shape {_shown(shape)} has a negative length")
    if response.raw_output_contents:
        if len(response.raw_output_contents) != len(response.outputs):
            raise Malformed(
                f"{len(response.raw_output_contents)} raw contents for {len(response.outputs)} output tensors"
            )
        elements = _of_raw(message.name, message.datatype, response.raw_output_contents[place])
    else:
        elements = _of_contents(message)
    if math.prod(shape) != len(elements):
        raise Malformed(f"{message.name}: its shape {_shown(shape)} does not hold its {len(elements):,} elements")
    if not len(elements):
        raise Malformed(f"{message.name}: it has no elements")
    return Tensor(name=message.name, datatype=message.datatype, shape=shape, elements=elements)


def elements_of(message: Message, raw: bytes | None) -> Elements:
    """The elements of one tensor of a request or a response, whatever its shape says.

    Raises:
        Malformed: its contents are not what its data type says.
    """
    return _of_contents(message) if raw is None else _of_raw(message.name, message.datatype, raw)


def _place(response: inference_pb2.ModelInferResponse, name: str) -> int:
    names = [each.name for each in response.outputs]
    if name:
        if name not in names:
            raise Malformed(f"it has no output tensor {name!r}; it has {_listed(names)}")
        return names.index(name)
    if len(names) != 1:
        raise Malformed(f"it has {_listed(names)}: say which to compare in comparator.output.tensor")
    return 0


def _of_raw(name: str, datatype: str, content: bytes) -> Elements:
    if datatype == BYTES:
        return _split(name, content)
    dtype = np.dtype(_known(name, datatype))
    if len(content) % dtype.itemsize:
        raise Malformed(f"{name}: {len(content):,} bytes are no whole number of {datatype} elements")
    # Any byte but 0 is true; numpy would keep it as it is, and compare it so.
    if datatype == "BOOL":
        return np.frombuffer(content, dtype=np.uint8).astype(np.bool_)
    elements = np.frombuffer(content, dtype=dtype)
    return _widened(elements) if datatype == BF16 else elements


def _widened(halves: NDArray[Any]) -> NDArray[np.float32]:
    return (halves.astype("<u4") << 16).view("<f4")


def _split(name: str, content: bytes) -> list[bytes]:
    """Elements of BYTES: four bytes of length before each."""
    elements: list[bytes] = []
    at = 0
    while at < len(content):
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(content, at)[0] if begin <= len(content) else begin
        if at > len(content):
            raise Malformed(f"{name}: element {len(elements)} goes beyond the end of its {len(content):,} bytes")
        elements.append(content[begin:at])
    return elements


def _of_contents(message: Message) -> Elements:
    name, datatype = message.name, message.datatype
    field = FIELDS.get(datatype)
    if field is None:
        _known(name, datatype)
        raise Malformed(f"{name}: {datatype} has no contents that are not raw")
    values = getattr(message.contents, field)
    if datatype == BYTES:
        return list(values)
    held = np.array(values, dtype=_HELD_AS[field])
    elements = held.astype(DTYPES[datatype])
    # Small integers travel in fields of 32 bits.
    if datatype not in _FLOATS and not np.array_equal(held, elements):
        raise Malformed(f"{name}: an element is out of the range of {datatype}")
    return elements


def _known(name: str, datatype: str) -> str:
    if datatype not in DTYPES:
        raise Malformed(f"{name}: {datatype[:40]!r} is no data type of the protocol")
    return DTYPES[datatype]


def _shown(shape: Sequence[int]) -> str:
    more = ", …" if len(shape) > 8 else ""
    return f"[{', '.join(map(str, shape[:8]))}{more}]"


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "no output tensor"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{len(names)} ({', '.join(each[:40] for each in names[:8])}{more})"
