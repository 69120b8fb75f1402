"""gRPC statuses of versions' answers, as words."""

from __future__ import annotations

from multishadow_server.service.shadowing import DEADLINE_EXCEEDED, STATUS_NAMES


def status_word(status_code: int) -> str:
    """How a failed call is spoken of: `timeout`, or its status' name; UNKNOWN for a number that gRPC does not know."""
    if status_code == DEADLINE_EXCEEDED:
        return "timeout"
    return STATUS_NAMES[status_code] if status_code < len(STATUS_NAMES) else "UNKNOWN"
