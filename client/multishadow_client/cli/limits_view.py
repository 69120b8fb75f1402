"""Limits, pauses and a lowered sampling, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from multishadow.v1.control_pb2 import Model, Pause, ProcessStatus, Version, VersionLimits
from multishadow_client.cli import figures

SAMPLING = "sampling_permille"
"""The counter by which a router tells how much of its sampling it does, in thousandths."""


def limits(of: VersionLimits) -> str:
    """What a version may be asked at most: "50 requests/s, 70 % of 200 requests/s, circuit breaker"."""
    return ", ".join(_limits(of)) or figures.NONE


def _limits(of: VersionLimits) -> Iterator[str]:
    if of.HasField("requests_per_second"):
        yield f"{of.requests_per_second:,g} requests/s"
    if of.HasField("bytes_per_second"):
        yield f"{of.bytes_per_second:,.0f} bytes/s"
    if of.HasField("capacity"):
        yield f"{100 * of.utilisation:g} % of {of.capacity:,g} requests/s"
    if of.HasField("max_request_bytes"):
        yield f"requests of {of.max_request_bytes:,} bytes"
    if of.HasField("circuit_breaker"):
        terms = of.circuit_breaker
        yield f"{terms.failures} failures in a row or {100 * terms.share:g} %"


def claim(version: Version, *, in_short: bool = False) -> str:
    """What a version claims, and that it is paused: in short, or with until when, by whom and why."""
    if not version.HasField("pause"):
        return version.claim
    return f"{version.claim}, {'paused' if in_short else pause(version.pause)}"


def pause(of: Pause) -> str:
    """A pause: "paused until 2026-11-24 18:00 by ann@laptop (its database is restored)"."""
    until = f" until {figures.moment(of.until)}" if of.HasField("until") else ""
    reason = f" ({of.reason})" if of.reason else ""
    return f"paused{until} by {of.by}{reason}"


def paused(version: Version, revision: int) -> Text:
    """What pausing or resuming came to."""
    key = (f"{version.model}.{version.name}", "bold")
    if version.HasField("pause"):
        back = f"; `shadowctl resume {version.model}.{version.name}` ends it"
        return Text.assemble(key, f": {pause(version.pause)}, revision {revision}{back}")
    return Text.assemble(key, f": not paused, revision {revision}; its flag says {version.claim}")


def writes(model: Model) -> str:
    """Which of a model's requests write; empty when none do."""
    if not model.HasField("writes"):
        return ""
    which = "its requests write" if model.writes.all else f"requests of {', '.join(model.writes.methods)} write"
    return f"{which}, and are never shadowed"


def samplings(processes: Sequence[ProcessStatus]) -> Iterator[Text]:
    """The routers that sample less than flags say."""
    for process in processes:
        if process.alive and (permille := process.counters.get(SAMPLING, 0)):
            yield Text.assemble(
                (f"{process.instance}: ", "bold"),
                (f"samples {permille / 10:g} % of what flags say: workers do not keep up", "yellow"),
            )
