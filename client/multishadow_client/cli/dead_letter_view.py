"""Dead letters as people see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1.deadletters_pb2 import DeadLetter, DeadLetterCount, GetDeadLetterResponse
from multishadow_client.cli import figures, listing_view

_STATES = {"waiting": "yellow", "parked": "bold red", "answered": "green"}
_SHOWN_BYTES = 4_000


def listing(letters: Sequence[DeadLetter]) -> RenderableType:
    """One line each."""
    rows = (
        (
            str(letter.id),
            _of(letter),
            letter.state,
            str(letter.attempts),
            failure(letter),
            figures.moment(letter.created_at),
            figures.moment(letter.next_attempt_at) if letter.HasField("next_attempt_at") else "",
            letter.request_id,
        )
        for letter in letters
    )
    headers = ("id", "version", "state", "calls", "last outcome", "written", "next", "request")
    return listing_view.table(headers, rows, nothing="no dead letters")


def letter(response: GetDeadLetterResponse) -> RenderableType:
    """Everything about one."""
    about = response.dead_letter
    state = Text.assemble(
        (f"dead letter {about.id}", "bold"), "  ", (about.state, _STATES.get(about.state, "")), "  ", _of(about)
    )
    lines = [
        ("last outcome", failure(about)),
        ("detail", about.detail),
        ("calls", str(about.attempts)),
        ("request", about.request_id),
        ("session", response.session_id),
        ("method", response.method),
        ("live", f"{response.live_version}, revision {response.revision}" if response.live_version else ""),
        ("received", figures.moment(about.received_at) if about.HasField("received_at") else ""),
        ("written", figures.moment(about.created_at)),
        ("next attempt", figures.moment(about.next_attempt_at) if about.HasField("next_attempt_at") else ""),
        ("deleted", figures.moment(about.expires_at)),
        ("payload", "too large to be kept whole: it cannot be tried again" if about.cut else ""),
        *((entry.key, entry.value) for entry in response.metadata),
    ]
    parts: list[RenderableType] = [state]
    parts += [Text.assemble((f"  {name:<13}", "dim"), value) for name, value in lines if value]
    for name, payload in (("request", response.request), ("live answer", response.response)):
        if payload:
            parts += [Text(), Text(f"{name}, {len(payload):,} bytes", style="dim"), Text(_printable(payload))]
    return Group(*parts)


def failure(letter: DeadLetter) -> str:
    """What the last attempt came to, in a word or two."""
    if letter.HasField("similarity"):
        return f"{letter.outcome} ({letter.similarity:.3g})"
    return f"{letter.outcome} {letter.reason}".strip()


def by_state(counts: Iterable[DeadLetterCount]) -> Counter[str]:
    """How many there are in each state."""
    total: Counter[str] = Counter()
    for count in counts:
        total[count.state] += count.count
    return total


def _of(letter: DeadLetter) -> str:
    return f"{letter.model}.{letter.version}" if letter.model else "(unreadable message)"


def _printable(payload: bytes) -> str:
    text = payload[:_SHOWN_BYTES].decode(errors="backslashreplace")
    shown = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
    return f"{shown}…" if len(payload) > _SHOWN_BYTES else shown
