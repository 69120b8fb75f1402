"""Between probes and how they are stored; bytes travel in JSON as base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from multishadow_server.core.probe import Probe


def probes_record(probes: Sequence[Probe]) -> list[dict[str, Any]] | None:
    """A model's probes as they are stored; None for none."""
    records = [
        {
            "name": probe.name,
            "request": base64.b64encode(probe.request).decode(),
            "every": probe.every,
            "expected": base64.b64encode(probe.expected).decode(),
            "threshold": probe.threshold,
        }
        for probe in probes
    ]
    return records or None


def probes_of(records: Sequence[dict[str, Any]] | None) -> tuple[Probe, ...]:
    """The probes that `probes_record` stored."""
    return tuple(
        Probe(
            name=record["name"],
            request=base64.b64decode(record["request"]),
            every=record["every"],
            expected=base64.b64decode(record["expected"]),
            threshold=record["threshold"],
        )
        for record in records or ()
    )
