"""Sessions as people look at them: what was counted, which diverged, and one turn by turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import CompareResponse
from multishadow.v1.sessions_pb2 import (
    GetSessionResponse,
    ListSessionsResponse,
    SessionReport,
    StoredTurn,
)
from multishadow_client.cli import document, figures, report_table
from multishadow_client.cli.stored_messages import StoredMessages

_CUT_WORDS = {
    "began_before": "may have begun earlier",
    "went_on": "may have gone on",
    "gap": "a turn is missing",
    "partly_sampled": "partly sampled",
    "dropped": "a copy was dropped",
    "other_epoch": "an epoch ended in it",
    "epoch_gone": "its epoch is gone",
    "too_long": "too many turns",
    "bound": "too many sessions",
}
_MOST_TURNS = 12
_AGREES = "ok"


def counted(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[tuple[Text, RenderableType]]:
    """What `compare` says of sessions: their outcomes, and divergence by turn."""
    report = response.sessions
    without = f"; {figures.count(report.without_id)} requests without a session" if report.without_id else ""
    about = f"{figures.count(report.ended)} ended, {_mean(report)} turns each{without}"
    yield report_table.title("Sessions", about), _outcomes(report, labels)
    if any(each.by_turn for each in report.candidates):
        title = "bad turns of whole sessions; ▸ sessions that diverge there first"
        yield report_table.title("By turn", title), _by_turn(report, labels)


def _mean(report: SessionReport) -> str:
    return f"{report.turns / report.ended:.1f}" if report.ended else figures.NONE


def _outcomes(report: SessionReport, labels: Mapping[str, str]) -> RenderableType:
    table = report_table.table(
        ("version", "left"),
        ("whole", "right"),
        ("diverged", "right"),
        ("cut", "right"),
        ("bad before", "right"),
        ("bad after", "right"),
        ("cut because", "left"),
    )
    for each in report.candidates:
        report_table.add_row(
            table,
            Text(labels.get(each.version, each.version), style="bold"),
            figures.count(each.whole),
            f"{figures.count(each.diverged)} ({figures.percent(each.diverged / each.whole)})"
            if each.whole
            else figures.NONE,
            figures.count(sum(each.cut.values())),
            _share(each.before_bad, each.before),
            _share(each.after_bad, each.after),
            _why(each.cut),
        )
    note = Text("bad before, bad after: share of bad turns before and after a session's first bad one", style="dim")
    return Group(table, note)


def _why(cut: Mapping[str, int]) -> str:
    ordered = sorted(cut.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{_CUT_WORDS.get(why, why)} {figures.count(number)}" for why, number in ordered)


def _share(bad: int, n: int) -> str:
    return figures.percent(bad / n) if n else figures.NONE


def _by_turn(report: SessionReport, labels: Mapping[str, str]) -> Table:
    """A row for each place, a column for each candidate; later places are drawn together where there are many."""
    columns = [(labels.get(each.version, each.version), "right") for each in report.candidates]
    table = report_table.table(("turn", "right"), ("n", "right"), *columns)
    known = {each.version: {counts.turn: counts for counts in each.by_turn} for each in report.candidates}
    places = sorted({place for by_place in known.values() for place in by_place if place})
    rows: list[tuple[str, Sequence[int]]] = [(str(place), [place]) for place in places[:_MOST_TURNS]]
    later = [*places[_MOST_TURNS:], *({0} & {place for by_place in known.values() for place in by_place})]
    if later:
        rows.append((f"{places[_MOST_TURNS] if len(places) > _MOST_TURNS else places[-1] + 1}+", later))
    for name, together in rows:
        counts = [_sum(known[each.version], together) for each in report.candidates]
        report_table.add_row(table, name, figures.count(max(n for n, _, _ in counts)), *map(_cell, counts))
    return table


def _sum(known: Mapping[int, Any], places: Sequence[int]) -> tuple[int, int, int]:
    found = [known[place] for place in places if place in known]
    return sum(each.n for each in found), sum(each.bad for each in found), sum(each.first for each in found)


def _cell(counts: tuple[int, int, int]) -> str:
    n, bad, first = counts
    return f"{_share(bad, n)} ▸{figures.count(first)}" if n else figures.NONE


def lines(response: ListSessionsResponse) -> RenderableType:
    """Sessions, a line each."""
    if not response.sessions:
        return Text("no stored session in which a candidate diverged or failed", style="dim")
    table = report_table.table(("session", "left"), ("last turn", "left"), ("stored", "right"), ("bad turns", "left"))
    for each in response.sessions:
        first = "\n".join(
            f"{version}: {each.bad_by_version[version]}, from turn {place} on"
            for version, place in sorted(each.first_bad.items())
        )
        report_table.add_row(
            table, Text(each.session_id, style="bold"), figures.moment(each.last_at), figures.count(each.turns), first
        )
    return table


def turns(response: GetSessionResponse, version: str) -> RenderableType:
    """One session, turn by turn: live's answer beside the candidates' that differ."""
    numbered = "turns as the caller numbers them" if response.numbered else "turns in order of arrival"
    title = Text.assemble(
        (f"{response.model}: session {response.session_id}", "bold"),
        f", {len(response.turns)} stored {numbered}, against live {response.live_version}",
    )
    parts: list[RenderableType] = [title]
    before = None
    for turn in response.turns:
        if response.numbered and before is not None and turn.turn > before + 1:
            parts += [Text(), Text(_between(before + 1, turn.turn - 1), style="dim")]
        parts += [Text(), *_turn(response, turn, version)]
        before = turn.turn
    return Group(*parts)


def _between(first: int, last: int) -> str:
    return f"turn {first} is not stored" if first == last else f"turns {first} to {last} are not stored"


def _turn(response: GetSessionResponse, turn: StoredTurn, version: str) -> Iterator[RenderableType]:
    stored = _stored(response, turn)
    asked = stored.shown_request(turn.request)
    head = Text.assemble((f"turn {turn.turn}", "bold"), f"  {figures.moment(turn.received_at)}  {turn.request_id}")
    yield head
    table = Table(box=box.SIMPLE_HEAD, show_header=False, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(style="bold", overflow="fold", max_width=24)
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold", ratio=1)
    table.add_row(Text("asked"), Text(), Text(asked))
    live = stored.shown_response(turn.live_response)
    table.add_row(Text(response.live_version), Text("live"), Text(live))
    for answer in turn.answers:
        if version in {"", answer.version}:
            bad = answer.outcome not in {_AGREES, "uncomparable", "dropped", "duplicate"}
            said = stored.shown_response(answer.response) if answer.response else answer.detail
            outcome = " ".join(filter(None, (answer.outcome, answer.reason)))
            table.add_row(Text(answer.version), Text(outcome, style="red" if bad else ""), Text(said))
    yield table


def plain(response: GetSessionResponse) -> dict[str, Any]:
    """The session as a document, with its messages read."""
    return {
        **document.plain(response),
        "turns": [_plain_turn(turn, _stored(response, turn)) for turn in response.turns],
    }


def _plain_turn(turn: StoredTurn, stored: StoredMessages) -> dict[str, Any]:
    answers = [
        {**document.plain(answer), "response": stored.response(answer.response) if answer.response else None}
        for answer in turn.answers
    ]
    return {
        **document.plain(turn),
        "request": stored.request(turn.request),
        "live_response": stored.response(turn.live_response),
        "answers": answers,
    }


def _stored(response: GetSessionResponse, turn: StoredTurn) -> StoredMessages:
    return StoredMessages(protocol=response.protocol, payloads=turn.payloads)
