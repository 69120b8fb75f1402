"""What is stored of traffic, as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1 import privacy_pb2 as pb
from multishadow_client.cli import figures, report_table

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def in_short(terms: pb.Privacy) -> str:
    """A model's terms in a line; empty for those that it has unasked: everything as it is."""
    parts = list(_parts(terms))
    return f"payloads {terms.payloads or 'full'}{''.join(f'; {part}' for part in parts)}" if _said(terms, parts) else ""


def stored(response: pb.GetStoredTrafficResponse) -> RenderableType:
    """What there is, by table and form."""
    title = Text.assemble((response.model, "bold"), f": {in_short(response.terms) or 'payloads full'}")
    table = report_table.table(("stored", "left"), ("payloads", "left"), ("rows", "right"), ("bytes", "right"))
    table.add_column("oldest")
    for each in response.stored:
        cells = (each.what, each.payloads or figures.NONE, figures.count(each.rows), size(each.bytes))
        report_table.add_row(table, *cells, figures.moment(each.oldest_at))
    looser = [each for each in response.stored if _looser(each.payloads, response.terms.payloads)]
    parts: list[RenderableType] = [title, table if response.stored else Text("nothing is stored", style="dim")]
    if looser:
        rows = figures.count(sum(each.rows for each in looser))
        parts.append(Text(f"{rows} rows were stored by looser terms: shadowctl privacy apply {response.model}"))
    return Group(*parts, *_waiting(response, "they hold requests as they came, until workers have finished them"))


def applied(response: pb.ApplyPrivacyResponse) -> RenderableType:
    """What holding stored traffic to its terms came to."""
    said = (
        f": of {figures.count(response.examined)} stored comparisons and answers, "
        f"{figures.count(response.rewritten)} were stored anew"
    )
    more = [
        f"; {figures.count(number)} {words}"
        for number, words in (
            (response.deleted, "answers were deleted"),
            (response.labels_rewritten, "labels were stored anew"),
            (response.levels_merged, "levels of segments were merged or forgotten"),
        )
        if number
    ]
    line = Text.assemble((response.model, "bold"), said, *more, f"; {size(response.bytes_freed)} are free again")
    return Group(line, *_waiting(response, "apply again when workers have finished them"))


def purged(response: pb.PurgeStoredResponse, *, dry_run: bool) -> RenderableType:
    """What was erased, or would be."""
    what = (
        f"{figures.count(response.comparisons)} comparisons, {figures.count(response.answers)} answers, "
        f"{figures.count(response.labels)} labels and {figures.count(response.dead_letters)} dead letters"
    )
    if dry_run:
        return Text.assemble((response.model, "bold"), f": {what} would be erased; nothing was")
    line = Text.assemble((response.model, "bold"), f": {what} are erased; {size(response.bytes_freed)} are free again")
    return Group(line, *_waiting(response, "purge again when workers have finished them"))


def size(number: int) -> str:
    """12.3 MiB."""
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{number} B"


def _parts(terms: pb.Privacy) -> Iterator[str]:
    hidden = [*terms.paths, *terms.patterns, *(each.name for each in terms.custom)]
    if hidden:
        yield f"hiding {', '.join(hidden)}"
    if terms.HasField("keep_seconds"):
        yield f"kept for {figures.span(terms.keep_seconds)}"
    if terms.HasField("keep_bytes"):
        yield f"at most {size(terms.keep_bytes)}"


def _said(terms: pb.Privacy, parts: list[str]) -> bool:
    return bool(parts) or terms.payloads not in {"", "full"}


_STRICTNESS = {"full": 0, "redacted": 1, "hashed": 2, "none": 3}


def _looser(payloads: str, terms: str) -> bool:
    return _STRICTNESS.get(payloads, 3) < _STRICTNESS.get(terms, 0)


def _waiting(
    response: pb.GetStoredTrafficResponse | pb.ApplyPrivacyResponse | pb.PurgeStoredResponse, what: str
) -> Iterator[Text]:
    if not response.HasField("log_messages_waiting"):
        yield Text(f"The capture log cannot be asked; messages may wait in it: {what}.", style="yellow")
    elif response.log_messages_waiting:
        waiting = figures.count(response.log_messages_waiting)
        yield Text(f"{waiting} messages wait in the capture log: {what}.", style="yellow")
