"""Every kind of alarm, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from docsite import members
from docsite.markdown import page, prose, table
from multishadow_server.core.alarms import REMEDIES, AlarmKind

SOURCE = "server/multishadow_server/core/alarms.py"
INTRODUCTION = """\
The kinds that `shadowctl alarms` names. From where on each is raised, and when it is cleared, is in
[watching](../watching.md#alarms)."""


def omissions() -> Iterator[str]:
    """Kinds that are not described, or that nobody says what to do about."""
    yield from members.omissions(AlarmKind)
    for kind in AlarmKind:
        if not REMEDIES.get(kind):
            yield f"REMEDIES says nothing of the alarm {kind}"


def pages() -> Iterator[tuple[str, str]]:
    """The one page of alarms."""
    said = members.described(AlarmKind)
    rows = [(f"`{kind}`", prose(said.get(kind, "")), prose(REMEDIES.get(kind, ""))) for kind in AlarmKind]
    body = [INTRODUCTION, table(("kind", "means that", "what to do"), rows)]
    yield "alarms.md", page(title="Alarms", source=SOURCE, parts=body)
