"""Stored answers as people see them: as a list, and a candidate's beside live's with what differs marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multishadow.v1.export_pb2 import StoredAnswer
from multishadow_client.cli import answer_diff, document, figures, listing_view, report_table
from multishadow_client.cli.review_view import VERDICTS
from multishadow_client.cli.stored_messages import StoredMessages

_WORDS = {number: name.replace("-", " ") for name, number in VERDICTS.items()}
_MOST_SHOWN = 40


def listing(answers: Sequence[StoredAnswer]) -> RenderableType:
    """A line each."""
    rows = (
        (
            str(answer.comparison_id),
            answer.version,
            _outcome(answer),
            f"{answer.similarity:.4f}" if answer.HasField("similarity") else figures.NONE,
            figures.milliseconds(answer.latency_ms if answer.HasField("latency_ms") else None),
            _WORDS.get(answer.verdict, figures.NONE),
            figures.moment(answer.received_at),
            answer.request_id,
        )
        for answer in answers
    )
    headers = ("id", "version", "outcome", "similarity", "ms", "verdict", "received", "request")
    return listing_view.table(headers, rows, nothing="no stored answer of this kind")


def side_by_side(answers: Sequence[StoredAnswer], *, marks: bool) -> RenderableType:
    """One request, and what each candidate made of it beside what live made of it.

    Args:
        answers: of one comparison, at least one.
        marks: whether to write `[-…-]` and `{+…+}` around words that differ: where there are no colours.
    """
    first = answers[0]
    title = Text.assemble((f"{first.model}: comparison {first.comparison_id}", "bold"), f" of {first.request_id}, ")
    parts: list[RenderableType] = [title.append(figures.moment(first.received_at))]
    about = {
        "session": first.session_id,
        "attributes": document.as_json(MessageToDict(first.attributes)) if first.attributes.fields else "",
        "request": _stored(first).shown_request(first.request),
    }
    parts += [Text.assemble((f"{name}  ", "dim"), value) for name, value in about.items() if value]
    for answer in answers:
        parts += [Text(), _heading(answer), *_differences(answer, marks=marks)]
    return Group(*parts)


def plain(answer: StoredAnswer) -> dict[str, Any]:
    """An answer as a document, with its messages read."""
    stored = _stored(answer)
    return {
        **document.plain(answer),
        "label": MessageToDict(answer.label) if answer.HasField("label") else None,
        "request": stored.request(answer.request),
        "live_response": stored.response(answer.live_response),
        "response": stored.response(answer.response),
    }


def _stored(answer: StoredAnswer) -> StoredMessages:
    return StoredMessages(protocol=answer.protocol, payloads=answer.payloads)


def _outcome(answer: StoredAnswer) -> str:
    return f"{answer.outcome} {answer.reason}".strip()


def _heading(answer: StoredAnswer) -> Text:
    facts = [_outcome(answer)]
    if answer.HasField("similarity"):
        facts.append(f"similarity {answer.similarity:.4f}")
    took = figures.milliseconds(answer.latency_ms if answer.HasField("latency_ms") else None)
    facts.append(f"{took} ms, live {figures.milliseconds(answer.live_latency_ms)} ms")
    if answer.verdict:
        facts.append(f"{_WORDS[answer.verdict]}, said {answer.reviewed_by}")
    if answer.HasField("label"):
        facts.append(f"right was {MessageToDict(answer.label)}")
    if answer.detail:
        facts.append(answer.detail)
    return Text.assemble(
        (f"{answer.version}", "bold"), f" beside {answer.live_version} (live)  ", (" · ".join(facts), "dim")
    )


def _differences(answer: StoredAnswer, *, marks: bool) -> Iterator[RenderableType]:
    stored = _stored(answer)
    live, own = stored.response(answer.live_response) or {}, stored.response(answer.response) or {}
    both = live.keys() & own.keys()
    if "text" in both:
        yield _texts(answer, answer_diff.words(live["text"], own["text"]), marks=marks)
    elif "classification" in both:
        yield _classes(answer, live["classification"], own["classification"])
    elif "structured" in both:
        yield from _fields(answer, live["structured"], own["structured"])
    elif "embedding" in both:
        yield from _vectors(answer, live["embedding"].get("values", []), own["embedding"].get("values", []))
    else:
        shown = stored.shown_response(answer.response) or f"({answer.outcome})"
        yield _beside(answer, Text(stored.shown_response(answer.live_response)), Text(shown))


def _texts(answer: StoredAnswer, found: answer_diff.Words, *, marks: bool) -> RenderableType:
    left = _marked(found.live, "red strike", ("[-", "-]"), marks=marks)
    right = _marked(found.candidate, "green bold", ("{+", "+}"), marks=marks)
    shown = _beside(answer, left, right)
    note = Text(f"the first {answer_diff.MOST_WORDS:,} words of each are shown", style="dim")
    return Group(shown, note) if found.cut else shown


def _marked(pieces: Sequence[tuple[str, bool]], style: str, around: tuple[str, str], *, marks: bool) -> Text:
    said = Text()
    for words, same in pieces:
        if same:
            said.append(words)
        elif marks:
            bare = words.rstrip(" ")
            said.append(f"{around[0]}{bare}{around[1]}{words[len(bare) :]}")
        else:
            said.append(words, style=style)
    return said


def _classes(answer: StoredAnswer, live: Mapping[str, Any], own: Mapping[str, Any]) -> RenderableType:
    table = report_table.table(
        ("class", "left"),
        (f"{answer.live_version} (live)", "right"),
        (answer.version, "right"),
        ("difference", "right"),
    )
    for field in answer_diff.classes(live, own)[:_MOST_SHOWN]:
        chosen = [name for name, said in (("live", live), (answer.version, own)) if said.get("label") == field.name]
        name = Text.assemble(field.name, (f"  ← {', '.join(chosen)}" if chosen else "", "dim"))
        change = _change(field.live, field.candidate)
        report_table.add_row(table, name, _probability(field.live), _probability(field.candidate), change)
    return table


def _change(live: float | None, own: float | None) -> str:
    return figures.NONE if live is None or own is None else f"{own - live:+.4f}".replace("-", "−")


def _probability(value: float | None) -> str:
    return figures.NONE if value is None else f"{float(value):.4f}"


def _fields(answer: StoredAnswer, live: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[RenderableType]:
    differing, equal = answer_diff.fields(live, own)
    table = report_table.table(("field", "left"), (f"{answer.live_version} (live)", "left"), (answer.version, "left"))
    for field in differing[:_MOST_SHOWN]:
        report_table.add_row(table, field.name, _json(field.live), _json(field.candidate))
    if differing:
        yield table
    more = f"; {len(differing) - _MOST_SHOWN} more differ" if len(differing) > _MOST_SHOWN else ""
    yield Text(f"{equal} fields are equal{more}", style="dim")


def _vectors(answer: StoredAnswer, live: Sequence[float], own: Sequence[float]) -> Iterator[RenderableType]:
    found = answer_diff.vectors([float(value) for value in live], [float(value) for value in own])
    if found.cosine is None:
        yield Text(f"{found.live} dimensions (live) and {found.candidate} cannot be held side by side")
        return
    yield Text(f"cosine {found.cosine:.6f} in {found.live} dimensions; farthest apart in")
    table = report_table.table(
        ("dimension", "right"), (f"{answer.live_version} (live)", "right"), (answer.version, "right")
    )
    for field in found.farthest:
        report_table.add_row(table, field.name, f"{field.live:.6g}", f"{field.candidate:.6g}")
    yield table


def _json(value: Any) -> str:  # noqa: ANN401  JSON is any
    return figures.NONE if value is None else str(value)


def _beside(answer: StoredAnswer, live: Text, own: Text) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True, header_style="bold")
    table.add_column(f"{answer.live_version} (live)", ratio=1, overflow="fold")
    table.add_column(answer.version, ratio=1, overflow="fold")
    table.add_row(live, own)
    return table
