"""Between the control API's messages and the core's values."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core import flags as flag_rules
from multishadow_server.core.experiment import Experiment, RankBy
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.model import Comparator, LabelTerms, Version
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.core.protocols import OutputTerms, protocol_of, read_as_of
from multishadow_server.core.routing import Claim
from multishadow_server.entrypoints import (
    cost_messages,
    dead_letter_terms,
    limit_messages,
    privacy_messages,
    probe_messages,
    session_term_messages,
)
from multishadow_server.entrypoints.moments import moment as moment  # noqa: PLC0414  re-exported: who writes messages takes it from here
from multishadow_server.errors import InvalidInput
from multishadow_server.service.labelling import Label
from multishadow_server.service.models import ModelView
from multishadow_server.service.ports import FlagRecord
from multishadow_server.service.status import ProcessView

LONGEST_TEXT = 1_000

_CLAIMS: dict[int, Claim] = {pb.CLAIM_OFF: Claim.OFF, pb.CLAIM_SHADOW: Claim.SHADOW, pb.CLAIM_LIVE: Claim.LIVE}


# --- requests -----------------------------------------------------------------------------------------------------


def free_text(field: str, text: str) -> str:
    """A caller's own words, for the records.

    Raises:
        InvalidInput: they are too long, or hold a NUL character, which PostgreSQL cannot store.
    """
    if len(text) > LONGEST_TEXT or "\x00" in text:
        raise InvalidInput(f"{field}: at most {LONGEST_TEXT} characters, and no NUL, are allowed")
    return text


def claim_of(claim: pb.Claim.ValueType) -> Claim:
    """The claim that was asked for. Raises InvalidInput unless it is one."""
    if claim not in _CLAIMS:
        raise InvalidInput("claim: say which: CLAIM_OFF, CLAIM_SHADOW or CLAIM_LIVE")
    return _CLAIMS[claim]


def rank_by(words: str) -> RankBy:
    """What to rank by; agreement, when nothing is said. Raises InvalidInput unless it is one."""
    try:
        return RankBy(words or RankBy.AGREEMENT)
    except ValueError:
        raise InvalidInput(f"rank_by: allowed are {' and '.join(RankBy)}, not {words!r}") from None


def model_spec(request: pb.ApplyModelRequest) -> ModelSpec:
    """The model that was applied."""
    return ModelSpec(
        name=request.model,
        comparator=_comparator(request.comparator) if request.HasField("comparator") else None,
        default_timeout=request.default_timeout_ms / 1000 if request.HasField("default_timeout_ms") else None,
        labels=_label_terms(request.labels) if request.HasField("labels") else None,
        gates=_gate_limits(request.gates) if request.HasField("gates") else None,
        segments=tuple(request.segments.attributes) if request.HasField("segments") else None,
        privacy=privacy_messages.terms_of(request.privacy) if request.HasField("privacy") else None,
        protocol=protocol_of(request.protocol) if request.HasField("protocol") else None,
        sessions=session_term_messages.terms_of(request.sessions) if request.HasField("sessions") else None,
        probes=probe_messages.probes_of(request.probes, model=request.model) if request.HasField("probes") else None,
        dead_letters=dead_letter_terms.policy_of(request.dead_letters) if request.HasField("dead_letters") else None,
        cost=cost_messages.terms_of(request.cost) if request.HasField("cost") else None,
        versions=tuple(_version_spec(version) for version in request.versions),
        max_request_bytes=request.max_request_bytes if request.HasField("max_request_bytes") else None,
        writes=limit_messages.writes_of(request.writes) if request.HasField("writes") else None,
    )


def _comparator(message: pb.Comparator) -> Comparator:
    default = Comparator()
    return Comparator(
        threshold=message.threshold if message.HasField("threshold") else default.threshold,
        ignored_fields=tuple(message.ignored_fields),
        absolute_tolerance=(
            message.absolute_tolerance if message.HasField("absolute_tolerance") else default.absolute_tolerance
        ),
        relative_tolerance=(
            message.relative_tolerance if message.HasField("relative_tolerance") else default.relative_tolerance
        ),
        output=OutputTerms(
            tensor=message.output.tensor,
            read_as=read_as_of(message.output.read_as),
            labels=tuple(message.output.labels),
        ),
    )


def _gate_limits(message: pb.GateLimits) -> GateLimits:
    said = {descriptor.name: value for descriptor, value in message.ListFields()}
    if "minimum_duration_seconds" in said:
        said["minimum_duration"] = float(said.pop("minimum_duration_seconds"))
    return GateLimits(**said)


def _label_terms(message: pb.LabelTerms) -> LabelTerms:
    default = LabelTerms()
    keep = message.keep_seconds if message.HasField("keep_seconds") else default.keep
    # Whoever keeps answers for less than a day, and says no delay, cannot mean one that is longer.
    delay = message.delay_seconds if message.HasField("delay_seconds") else min(default.delay, keep)
    return LabelTerms(delay=delay, keep=keep)


def label_of(request: pb.RecordLabelRequest | pb.ImportLabelsRequest) -> Label:
    """The label that was recorded. Raises InvalidInput: it holds a number that JSON has not."""
    try:
        value = json_format.MessageToDict(request.value) if request.HasField("value") else None
    except (ValueError, json_format.Error) as error:
        raise InvalidInput(f'the label of request "{request.request_id}" is no JSON value: {error}') from error
    return Label(request_id=request.request_id, value=value)


def _version_spec(message: pb.VersionSpec) -> VersionSpec:
    return VersionSpec(
        name=message.name,
        address=message.address,
        timeout=message.timeout_ms / 1000 if message.HasField("timeout_ms") else None,
        max_in_flight=message.max_in_flight if message.HasField("max_in_flight") else None,
        served_name=message.served_name if message.HasField("served_name") else None,
        served_version=message.served_version if message.HasField("served_version") else None,
        limits=limit_messages.limits_of(message.limits) if message.HasField("limits") else None,
    )


# --- responses ----------------------------------------------------------------------------------------------------


def model_message(view: ModelView) -> pb.Model:
    """A model with what is live."""
    comparator = view.model.comparator
    return pb.Model(
        name=view.model.name,
        comparator=pb.Comparator(
            threshold=comparator.threshold,
            ignored_fields=comparator.ignored_fields,
            absolute_tolerance=comparator.absolute_tolerance,
            relative_tolerance=comparator.relative_tolerance,
            output=_output_message(comparator.output) if comparator.output != OutputTerms() else None,
        ),
        protocol=view.model.protocol,
        default_timeout_ms=round(view.model.default_timeout * 1000),
        labels=label_terms_message(view.model.labels),
        created_at=moment(view.model.created_at),
        live_version=view.live,
        versions=[version.name for version in view.model.versions],
        gates=_gate_limits_message(view.model.gates),
        segments=pb.SegmentTerms(attributes=view.model.segments),
        privacy=privacy_messages.terms_message(view.model.privacy),
        max_request_bytes=view.model.max_request_bytes or 0,
        writes=limit_messages.writes_message(view.model.writes),
        sessions=session_term_messages.terms_message(view.model.sessions),
        probes=probe_messages.probe_set(view.model.probes),
        dead_letters=dead_letter_terms.message(view.model.dead_letters),
        cost=cost_messages.terms_message(view.model.cost),
    )


def _output_message(terms: OutputTerms) -> pb.OutputTerms:
    return pb.OutputTerms(tensor=terms.tensor, read_as=terms.read_as, labels=terms.labels)


def _gate_limits_message(limits: GateLimits) -> pb.GateLimits:
    return pb.GateLimits(
        minimum_duration_seconds=round(limits.minimum_duration),
        divergence=limits.divergence,
        inferiority=limits.inferiority,
        latency_ratio=limits.latency_ratio,
        failures=limits.failures,
        completeness=limits.completeness,
        divergent_samples=limits.divergent_samples,
    )


def label_terms_message(terms: LabelTerms | None) -> pb.LabelTerms | None:
    """How a model's answers are kept to be labelled."""
    if terms is None:
        return None
    return pb.LabelTerms(delay_seconds=round(terms.delay), keep_seconds=round(terms.keep))


def version_messages(view: ModelView) -> Iterable[pb.Version]:
    """A model's versions with what their flags say."""
    return [_version_message(version, view.claims[version.name]) for version in view.model.versions]


def _version_message(version: Version, claim: str) -> pb.Version:
    return pb.Version(
        model=version.model,
        name=version.name,
        address=version.address,
        timeout_ms=round(version.timeout * 1000),
        max_in_flight=version.max_in_flight,
        ordinal=version.ordinal,
        served_name=version.served_name,
        served_version=version.served_version,
        created_at=moment(version.created_at),
        claim=claim,
        limits=limit_messages.limits_message(version.limits),
        pause=limit_messages.pause_message(version.pause),
    )


def flag_message(record: FlagRecord) -> pb.Flag:
    """A flag with its last change."""
    return pb.Flag(
        key=record.key,
        definition=json_format.ParseDict(dict(record.definition), Struct()),
        revision=record.revision,
        changed_at=moment(record.changed_at),
        changed_by=record.changed_by,
        reason=record.reason,
        claim=flag_rules.describe(record.definition),
    )


def experiment_message(experiment: Experiment, schedule: pb.ExperimentSchedule | None = None) -> pb.Experiment:
    """An experiment, with its schedule where that is asked for."""
    return pb.Experiment(
        id=experiment.id,
        model=experiment.model,
        candidates=experiment.candidates,
        percent=experiment.percent,
        started_at=moment(experiment.started_at),
        ends_at=moment(experiment.ends_at),
        stopped_at=moment(experiment.stopped_at),
        stop_reason=experiment.stop_reason,
        started_by=experiment.started_by,
        state="running" if experiment.running else "stopped",
        noise_floor_percent=experiment.noise_percent,
        rank_by=experiment.rank_by,
        schedule=schedule,
    )


def process_message(view: ProcessView) -> pb.ProcessStatus:
    """What a process last said of itself."""
    said = view.said
    return pb.ProcessStatus(
        role=said.role,
        instance=said.instance,
        host=said.host,
        pid=said.pid,
        started_at=moment(said.started_at),
        seen_at=moment(said.seen_at),
        revision=said.revision,
        counters=said.counters,
        alive=view.alive,
        flag_source=said.flag_source,
    )
