"""Lists as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import Comparator, Experiment, Flag, Model, Version
from multishadow_client.cli import (
    cost_view,
    dead_letter_terms,
    figures,
    limits_view,
    privacy_view,
    protocol_view,
    schedule_view,
)


def models(items: Sequence[Model]) -> RenderableType:
    """Models, with what is live."""
    rows = (
        (model.name, model.live_version, ", ".join(model.versions), protocol_view.agreement(model, _comparator))
        for model in items
    )
    listed = table(("model", "live", "versions", "answers agree when"), rows, nothing="no models yet: shadowctl apply")
    # Beneath the table: most models have none.
    notes = [Text(f"{model.name}: {said}", style="dim") for model in items for said in _settings(model)]
    return Group(listed, *notes) if notes else listed


def _settings(model: Model) -> Iterator[str]:
    """What a model has that most have not, a sentence each."""
    if stored := privacy_view.in_short(model.privacy):
        yield stored
    if model.HasField("sessions"):
        terms = model.sessions
        turns = f", turns numbered by {terms.turn}" if terms.turn else ""
        yield f"sessions end after {figures.span(terms.idle_seconds)}{turns}, ranked by {terms.unit}"
    if model.probes.probes:
        yield f"probes: {', '.join(probe.name for probe in model.probes.probes)}"
    if writes := limits_view.writes(model):
        yield writes
    if model.max_request_bytes:
        yield f"requests above {model.max_request_bytes:,} bytes are not captured"
    if model.HasField("dead_letters"):
        yield f"dead letters: {dead_letter_terms.in_a_line(model.dead_letters)}"
    if model.HasField("cost"):
        yield cost_view.terms(model.cost)


def versions(items: Sequence[Version]) -> RenderableType:
    """Versions in order of registration."""
    # Few versions have limits; a column for none would press the others.
    limited = any(version.limits.ListFields() for version in items)
    rows = (
        (
            version.model,
            version.name,
            limits_view.claim(version, in_short=True),
            protocol_view.address(version),
            f"{version.timeout_ms:,} ms",
            str(version.max_in_flight),
            *([limits_view.limits(version.limits)] if limited else []),
        )
        for version in items
    )
    headers = ("model", "version", "claim", "address", "timeout", "in flight", *(["at most"] if limited else []))
    listed = table(headers, rows, nothing="no versions yet: shadowctl apply")
    # Beneath the table: who paused it and why is a sentence, and would press the columns flat.
    paused = [
        Text(f"{version.model}.{version.name}: {limits_view.pause(version.pause)}", style="dim")
        for version in items
        if version.HasField("pause")
    ]
    return Group(listed, *paused) if paused else listed


def flags(items: Sequence[Flag]) -> RenderableType:
    """Flags with their last change."""
    rows = (
        (flag.key, flag.claim, str(flag.revision), figures.moment(flag.changed_at), flag.changed_by, flag.reason)
        for flag in items
    )
    return table(
        ("flag", "claim", "revision", "changed", "by", "reason"), rows, nothing="no flags yet: shadowctl apply"
    )


def experiments(items: Sequence[Experiment]) -> RenderableType:
    """Experiments, as control orders them: newest first."""
    rows = (
        (
            str(experiment.id),
            experiment.model,
            ", ".join(experiment.candidates),
            schedule_view.share(experiment),
            experiment.state,
            figures.moment(experiment.started_at),
            _end(experiment),
            experiment.started_by,
        )
        for experiment in items
    )
    headers = ("id", "model", "candidates", "share", "state", "started", "ends", "by")
    listed = table(headers, rows, nothing="no experiments yet: shadowctl start")
    # Beneath the table: what a ramp waits for is a sentence, and would press the columns flat.
    coming = [(experiment, schedule_view.coming(experiment)) for experiment in items]
    notes = [Text(f"experiment {experiment.id}: {said}", style="dim") for experiment, said in coming if said]
    return Group(listed, *notes) if notes else listed


def _end(experiment: Experiment) -> str:
    if not experiment.HasField("stopped_at"):
        return figures.moment(experiment.ends_at)
    reason = f" ({experiment.stop_reason})" if experiment.stop_reason else ""
    return f"{figures.moment(experiment.stopped_at)}{reason}"


def _comparator(comparator: Comparator) -> str:
    parts = [f"similarity ≥ {comparator.threshold:g}"] if comparator.HasField("threshold") else []
    if comparator.ignored_fields:
        parts.append(f"ignoring {', '.join(comparator.ignored_fields)}")
    return "; ".join(parts) or "by default"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str) -> RenderableType:
    """Rows under their headers; `nothing` when there are none."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table if table.row_count else Text(nothing, style="dim")
