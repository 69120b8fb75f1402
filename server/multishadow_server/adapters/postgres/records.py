"""Between the tables' rows and the core's values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from multishadow_server.adapters.postgres import privacy_records, probe_records
from multishadow_server.adapters.postgres.tables import (
    EpochRow,
    ExperimentRow,
    FlagRevisionRow,
    GateRecordRow,
    ModelRow,
    ProcessRow,
    PromotionRow,
    VersionRow,
)
from multishadow_server.core import cost_terms, dead_letter_policy, windows
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Record
from multishadow_server.core.model import Comparator, LabelTerms, Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.prediction import Json
from multishadow_server.core.protocols import OutputTerms, Protocol, ReadAs
from multishadow_server.core.schedule import Calls, Progress, Schedule
from multishadow_server.core.session_terms import SessionTerms, Unit
from multishadow_server.core.version_limits import NO_LIMITS, CircuitTerms, Pause, VersionLimits
from multishadow_server.core.writes import NO_WRITES, Writes
from multishadow_server.service.ports import FlagRecord, FlagRevision, ProcessStatus, Promotion


def moment(seconds: float) -> datetime:
    """A point in time from seconds since the Unix epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def storable_text(text: str) -> str:
    """The text as PostgreSQL can hold it: it has no NUL character, whereas a caller's request may."""
    return text.replace("\x00", "\ufffd")


def storable_json(value: Json) -> Json:
    """The value as `jsonb` can hold it: without NUL characters, and with NaN and infinities as words.

    Callers send attributes; one that cannot be stored must not stop its whole partition.
    """
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {storable_text(key): storable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(item) for item in value]
    return value


def comparator_record(comparator: Comparator) -> dict[str, Any]:
    """A comparator as it is stored; see `comparator_of`."""
    output = asdict(comparator.output) | {"labels": list(comparator.output.labels)}
    return asdict(comparator) | {"ignored_fields": list(comparator.ignored_fields), "output": output}


def comparator_of(record: Mapping[str, Any]) -> Comparator:
    """The comparator that `comparator_record` stored."""
    # Those that were stored before there were protocols name none.
    spoken = Protocol(record.get("protocol", Protocol.MULTISHADOW))
    output = _output_of(record["output"]) if "output" in record else OutputTerms()
    fields = {**record, "ignored_fields": tuple(record["ignored_fields"]), "protocol": spoken, "output": output}
    return Comparator(**fields)


def _output_of(record: Mapping[str, Any]) -> OutputTerms:
    return OutputTerms(tensor=record["tensor"], read_as=ReadAs(record["read_as"]), labels=tuple(record["labels"]))


def observation_record(observation: Observation) -> Json:
    """An observation without its bytes, which are stored beside it."""
    record = asdict(observation)
    del record["response"]
    return storable_json(record)


def observation_of(record: Mapping[str, Any], response: bytes) -> Observation:
    """The observation that `observation_record` stored, with its bytes."""
    return Observation(**{**record, "outcome": Outcome(record["outcome"])}, response=response)


def model_record(model: Model) -> dict[str, Any]:
    """A model's own columns, without when it was created."""
    return {
        "name": model.name,
        "comparator": comparator_record(model.comparator),
        "default_timeout": model.default_timeout,
        "labels": asdict(model.labels) if model.labels else None,
        "gates": asdict(model.gates),
        "segments": list(model.segments),
        "privacy": privacy_records.terms_record(model.privacy),
        "max_request_bytes": model.max_request_bytes,
        "writes": asdict(model.writes) | {"methods": list(model.writes.methods)},
        "sessions": asdict(model.sessions) if model.sessions else None,
        "probes": probe_records.probes_record(model.probes),
        "dead_letters": dead_letter_policy.record(model.dead_letters),
        "cost": cost_terms.record(model.cost),
    }


def session_terms_of(record: Mapping[str, Any]) -> SessionTerms:
    """The terms that `model_record` stored."""
    return SessionTerms(**{**record, "unit": Unit(record["unit"])})


def version_record(version: Version) -> dict[str, Any]:
    """A version's columns, without when it was created."""
    record = asdict(version)
    del record["created_at"]
    return record


def _limits_of(record: Mapping[str, Any] | None) -> VersionLimits:
    if record is None:
        return NO_LIMITS
    circuit = record["circuit"]
    return VersionLimits(**{**record, "circuit": CircuitTerms(**circuit) if circuit else None})


def _writes_of(record: Mapping[str, Any] | None) -> Writes:
    return NO_WRITES if record is None else Writes(all=record["all"], methods=tuple(record["methods"]))


def models_of(models: Iterable[ModelRow], versions: Iterable[VersionRow]) -> dict[str, Model]:
    """Models by name, each with its versions in order of registration."""
    ordered: dict[str, list[Version]] = {}
    for row in sorted(versions, key=lambda row: row.ordinal):
        ordered.setdefault(row.model, []).append(_version_of(row))
    return {
        row.name: Model(
            name=row.name,
            comparator=comparator_of(row.comparator),
            default_timeout=row.default_timeout,
            labels=LabelTerms(**row.labels) if row.labels else None,
            gates=GateLimits(**row.gates) if row.gates else GateLimits(),
            segments=tuple(row.segments),
            privacy=privacy_records.terms_of(row.privacy),
            sessions=session_terms_of(row.sessions) if row.sessions else None,
            probes=probe_records.probes_of(row.probes),
            dead_letters=dead_letter_policy.policy_of(row.dead_letters),
            cost=cost_terms.terms_of(row.cost),
            versions=tuple(ordered.get(row.name, ())),
            created_at=row.created_at.timestamp(),
            max_request_bytes=row.max_request_bytes,
            writes=_writes_of(row.writes),
        )
        for row in models
    }


def _version_of(row: VersionRow) -> Version:
    return Version(
        model=row.model,
        name=row.name,
        address=row.address,
        timeout=row.timeout,
        max_in_flight=row.max_in_flight,
        ordinal=row.ordinal,
        served_name=row.served_name,
        served_version=row.served_version,
        created_at=row.created_at.timestamp(),
        limits=_limits_of(row.limits),
        pause=Pause(**row.pause) if row.pause else None,
    )


def flag_of(row: FlagRevisionRow) -> FlagRecord:
    """A flag from its newest revision, which is no deletion."""
    assert row.definition is not None
    return FlagRecord(
        key=row.key,
        definition=row.definition,
        revision=row.revision,
        changed_at=row.changed_at.timestamp(),
        changed_by=row.changed_by,
        reason=row.reason,
    )


def flag_revision_of(row: FlagRevisionRow) -> FlagRevision:
    """One line of a flag's history."""
    return FlagRevision(
        key=row.key,
        revision=row.revision,
        definition=row.definition,
        changed_at=row.changed_at.timestamp(),
        changed_by=row.changed_by,
        reason=row.reason,
    )


def experiment_of(row: ExperimentRow) -> Experiment:
    """An experiment."""
    assert row.id is not None
    return Experiment(
        id=row.id,
        model=row.model,
        candidates=tuple(row.candidates),
        percent=row.percent,
        noise_percent=row.noise_percent,
        rank_by=RankBy(row.rank_by),
        bucket_seconds=row.bucket_seconds,
        started_at=row.started_at.timestamp(),
        ends_at=row.ends_at.timestamp(),
        started_by=row.started_by,
        stopped_at=row.stopped_at.timestamp() if row.stopped_at else None,
        stop_reason=row.stop_reason,
        schedule=schedule_of(row.schedule),
        progress=_progress_of(row.progress),
    )


def schedule_record(schedule: Schedule) -> dict[str, Any]:
    """A schedule as it is stored; see `schedule_of`."""
    return {"ramp": schedule.ramp, "dwell": schedule.dwell, "windows": [str(window) for window in schedule.windows]}


def schedule_of(record: Mapping[str, Any] | None) -> Schedule:
    """The schedule that `schedule_record` stored."""
    if record is None:
        return Schedule()
    return Schedule(
        ramp=tuple(record["ramp"]), dwell=record["dwell"], windows=tuple(map(windows.parse, record["windows"]))
    )


def progress_record(progress: Progress) -> dict[str, Any]:
    """How far an experiment has come, as it is stored."""
    return asdict(progress)


def _progress_of(record: Mapping[str, Any] | None) -> Progress | None:
    if record is None:
        return None
    calls = {version: Calls(**counts) for version, counts in record["calls"].items()}
    return Progress(**{**record, "set_aside": tuple(record["set_aside"]), "calls": calls})


def epoch_of(
    row: EpochRow,
    *,
    model: str,
    bucket_seconds: int,
    schedule: Mapping[str, Any] | None = None,
    ends_at: float = math.inf,
) -> Epoch:
    """An epoch, with what it has of its experiment.

    `schedule` and `ends_at` (seconds since the Unix epoch) decide what belongs to it, which only matters to workers.
    """
    assert row.id is not None
    return Epoch(
        id=row.id,
        experiment_id=row.experiment_id,
        model=model,
        number=row.number,
        live=row.live,
        candidates=tuple(row.candidates),
        comparator=comparator_of(row.comparator),
        from_revision=row.from_revision,
        until_revision=row.until_revision,
        opened_at=row.opened_at.timestamp(),
        reason=row.reason,
        bucket_seconds=bucket_seconds,
        noise_percent=row.noise_percent,
        windows=schedule_of(schedule).windows,
        ends_at=ends_at,
        closed_at=row.closed_at.timestamp() if row.closed_at else math.inf,
    )


def promotion_of(row: PromotionRow) -> Promotion:
    """A promotion."""
    assert row.id is not None
    return Promotion(
        id=row.id,
        model=row.model,
        version=row.version,
        previous=row.previous,
        flags_before=row.flags_before,
        revision=row.revision,
        rolled_back=row.rolled_back_revision is not None,
    )


def gate_record_of(row: GateRecordRow) -> Record:
    """An attestation or a waiver."""
    return Record(
        version=row.version,
        subject=row.subject,
        waiver=row.waiver,
        text=row.text,
        by=row.by,
        at=row.at.timestamp(),
    )


def process_of(row: ProcessRow) -> ProcessStatus:
    """What a process said of itself."""
    return ProcessStatus(
        role=row.role,
        instance=row.instance,
        host=row.host,
        pid=row.pid,
        started_at=row.started_at.timestamp(),
        revision=row.revision,
        counters=row.counters,
        seen_at=row.seen_at.timestamp(),
        flag_source=row.flag_source,
        program=row.program,
    )
