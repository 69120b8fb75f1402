"""Alarms as messages of the control API."""

from __future__ import annotations

from multishadow.v1 import alarms_pb2 as pb
from multishadow_server.core.alarms import REMEDIES, Alarm
from multishadow_server.entrypoints.moments import moment


def alarm_message(alarm: Alarm) -> pb.Alarm:
    """An alarm, with what to do."""
    return pb.Alarm(
        id=alarm.id,
        kind=alarm.key.kind,
        model=alarm.key.model,
        subject=alarm.key.subject,
        detail=alarm.detail,
        remedy=REMEDIES[alarm.key.kind],
        raised_at=moment(alarm.raised_at),
        seen_at=moment(alarm.seen_at),
        cleared_at=moment(alarm.cleared_at),
        acknowledged_at=moment(alarm.acknowledged_at),
        acknowledged_by=alarm.acknowledged_by,
        note=alarm.note,
    )
