"""Tracked events that say what the right answer to a request was."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import struct_pb2
from openfeature.evaluation_context import EvaluationContext
from openfeature.track import TrackingEventDetails

from multishadow_client._outcomes import Outcome
from multishadow_client._tls import Tls


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracking:
    """How tracked events become labels.

    Args:
        model: whose requests they are about, unless an event or its context says `model`; empty for the only one there
            is.
        events: names of the events that are outcomes; None for every event with a request id and a value.
        control: address of control, when flags come from elsewhere (a flagd that follows control); empty for the
            provider's address.
        tls, token: how to connect to `control`, and what to show to it; the provider's own are for its address alone.
        actor: who says so, for the record; empty for the address that the events come from.
        most_waiting: most outcomes that wait to be sent; when full, the newest is dropped and counted.
        flush_interval: longest time that an outcome waits for its batch, in seconds.
        flush_at_end: seconds that `shutdown` may spend on sending what waits.
    """

    model: str = ""
    events: Collection[str] | None = None
    control: str = ""
    tls: Tls | None = None
    token: str = field(default="", repr=False)
    actor: str = ""
    most_waiting: int = 10_000
    flush_interval: float = 1.0
    flush_at_end: float = 2.0


def outcome_of(
    context: EvaluationContext | None, details: TrackingEventDetails | None, *, model: str
) -> Outcome | None:
    """What an event says; None when it says no request or no outcome. Raises what a value that is no JSON raises.

    Args:
        context: the event's.
        details: the event's.
        model: whose request it is, unless the event or its context says so.
    """
    attributes: Mapping[str, Any] = details.attributes if details is not None else {}
    around: Mapping[str, Any] = context.attributes if context is not None else {}

    def said(name: str) -> Any:  # noqa: ANN401  an attribute of any type
        return attributes[name] if name in attributes else around.get(name)

    label: Any = attributes.get("label", details.value if details is not None else None)
    request_id = said("request_id")
    if label is None or not isinstance(request_id, str) or not request_id:
        return None
    holder = struct_pb2.Struct()
    holder.update({"label": label})
    return Outcome(model=str(said("model") or model), request_id=request_id, value=holder.fields["label"])
