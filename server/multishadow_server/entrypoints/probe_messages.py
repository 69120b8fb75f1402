"""Probes as messages of the control API."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from multishadow.v1 import alarms_pb2 as pb
from multishadow.v1 import prediction_pb2
from multishadow_server.core.probe import DEFAULT_EVERY, Probe
from multishadow_server.core.probe_state import ProbeChange
from multishadow_server.entrypoints.moments import moment
from multishadow_server.errors import InvalidInput
from multishadow_server.service.ports import ProbeKey
from multishadow_server.service.probing import ProbeView

LARGEST_LISTED = 16 * 1024
"""Answers beyond that stay out of listings, which hold all versions' answers and are messages of a bounded size."""


def probes_of(message: pb.ProbeSet, *, model: str) -> tuple[Probe, ...]:
    """The probes that were applied.

    Raises:
        InvalidInput: a request without an input, or a known answer without an output.
    """
    return tuple(_probe_of(f"probes[{index}]", probe, model) for index, probe in enumerate(message.probes))


def _probe_of(where: str, message: pb.Probe, model: str) -> Probe:
    if message.request.WhichOneof("input") is None:
        raise InvalidInput(f"{where} ({message.name}).request: it sets no input; text, structured, tensor or raw")
    if message.HasField("expected") and message.expected.WhichOneof("output") is None:
        raise InvalidInput(
            f"{where} ({message.name}).expect: it sets no output; leave it out for whatever is answered first"
        )
    request = prediction_pb2.PredictRequest()
    request.CopyFrom(message.request)
    request.model = model
    return Probe(
        name=message.name,
        # The same probe applied again must be the same bytes, also where it has maps.
        request=request.SerializeToString(deterministic=True),
        every=message.every_seconds or DEFAULT_EVERY,
        expected=message.expected.SerializeToString(deterministic=True) if message.HasField("expected") else b"",
        threshold=message.threshold if message.HasField("threshold") else None,
    )


def probe_set(probes: Iterable[Probe]) -> pb.ProbeSet:
    """A model's probes."""
    return pb.ProbeSet(probes=[_probe_message(probe) for probe in probes])


def _probe_message(probe: Probe) -> pb.Probe:
    return pb.Probe(
        name=probe.name,
        request=prediction_pb2.PredictRequest.FromString(probe.request),
        every_seconds=round(probe.every),
        expected=prediction_pb2.PredictResponse.FromString(probe.expected) if probe.expected else None,
        threshold=probe.threshold,
    )


def standing_message(view: ProbeView, *, with_answer: bool = True) -> pb.ProbeStanding:
    """How one version stands with one probe."""
    state, probe = view.state, view.probe
    message = pb.ProbeStanding(
        model=view.version.model,
        version=view.version.name,
        probe=probe.name,
        outcome="not asked yet",
        address=view.version.address,
        every_seconds=round(probe.every),
        expects="known answer" if probe.expected else "stable",
    )
    if state is None:
        return message
    message.MergeFrom(
        pb.ProbeStanding(
            outcome=state.outcome,
            reason=state.reason,
            detail=state.detail,
            similarity=state.similarity,
            latency_ms=None if state.latency is None else state.latency * 1000,
            asked_at=moment(state.asked_at),
            since=moment(state.since),
            changed_at=moment(state.changed_at),
            changes=state.changes,
            failures=state.failures,
            answer=_readable(state.answer) if with_answer and len(state.answer) <= LARGEST_LISTED else None,
        )
    )
    return message


def _readable(answer: bytes) -> prediction_pb2.PredictResponse | None:
    """The answer; None where it is no PredictResponse: a version may answer anything."""
    try:
        return prediction_pb2.PredictResponse.FromString(answer) if answer else None
    except DecodeError:
        return None


def change_message(key: ProbeKey, change: ProbeChange) -> pb.ProbeChange:
    """One line of a probe's history."""
    return pb.ProbeChange(
        at=moment(change.at),
        version=key.version,
        probe=key.probe,
        before=change.before,
        after=change.after,
        detail=change.detail,
    )
