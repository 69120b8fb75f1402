"""flagd's messages from and to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.struct_pb2 import Struct, Value
from openfeature.schemas.protobuf.flagd.evaluation.v1 import evaluation_pb2 as v1

from multishadow_server.errors import EvaluationFailed
from multishadow_server.service.ports import Evaluation, FlagType

Response = TypeVar("Response")
# Beyond it a double does not hold every whole number, and one that looks whole may not have been.
_EXACT = 2**53
_INT64 = range(-(2**63), 2**63)


def context_of(struct: Struct) -> dict[str, Any]:
    """What rules read.

    Numbers that are whole become so again: a Struct has doubles only, and text made of 41.0 is not text made of 41, by
    which whoever evaluates in process buckets.
    """
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> Any:  # noqa: ANN401  JSON of any shape
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return context_of(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case _:
            return None


def struct_of(mapping: Mapping[str, Any]) -> Struct:
    """The mapping as a Struct. Raises ValueError or OverflowError for what it cannot hold."""
    struct = Struct()
    struct.update(mapping)
    return struct


def change(happened: Mapping[str, str]) -> Struct:
    """The data of a `configuration_change`: what happened to which flags, by their keys."""
    return struct_of({"flags": {key: {"type": what} for key, what in happened.items()}})


def resolved(evaluation: Evaluation, wanted: FlagType, response: Callable[..., Response]) -> Response:
    """An evaluation as a response of that type.

    Raises:
        EvaluationFailed: the protocol cannot carry the value.
    """
    metadata = struct_of(evaluation.metadata)
    if evaluation.variant is None:
        return response(reason=evaluation.reason, metadata=metadata)
    return response(
        value=_carried(evaluation, wanted), variant=evaluation.variant, reason=evaluation.reason, metadata=metadata
    )


def _carried(evaluation: Evaluation, wanted: FlagType) -> Any:  # noqa: ANN401  what the message's field takes
    value = evaluation.value
    if wanted is FlagType.INTEGER and value not in _INT64:
        raise _mismatch(evaluation, f"{value} does not fit into 64 bits")
    if wanted is not FlagType.OBJECT:
        return value
    if not isinstance(value, Mapping):
        raise _mismatch(evaluation, "flagd's protocol carries no lists; in process and over OFREP they work")
    try:
        return struct_of(value)
    except (ValueError, OverflowError) as error:
        raise _mismatch(evaluation, str(error)) from error


def _mismatch(evaluation: Evaluation, why: str) -> EvaluationFailed:
    return EvaluationFailed(f'flag "{evaluation.key}": {why}', code="TYPE_MISMATCH", key=evaluation.key)


def any_flag(evaluation: Evaluation | EvaluationFailed) -> v1.AnyFlag | None:
    """One entry of ResolveAll; None for a flag without a value that it can carry."""
    if isinstance(evaluation, EvaluationFailed) or evaluation.variant is None:
        return None
    try:
        value = _any_value(evaluation.value)
    except (ValueError, OverflowError):
        return None
    return v1.AnyFlag(
        reason=evaluation.reason, variant=evaluation.variant, metadata=struct_of(evaluation.metadata), **value
    )


def _any_value(value: object) -> dict[str, Any]:
    match value:
        case bool():
            return {"bool_value": value}
        case str():
            return {"string_value": value}
        case int() | float():
            return {"double_value": float(value)}
        case Mapping():
            return {"object_value": struct_of(value)}
        case _:
            raise ValueError("a list")
