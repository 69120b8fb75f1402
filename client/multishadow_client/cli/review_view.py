"""Stored comparisons as people look at them: as a list, and two answers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client.cli import document, figures, report_table
from multishadow_client.cli.stored_messages import StoredMessages

VERDICTS = {
    "candidate-better": control_pb2.REVIEW_VERDICT_CANDIDATE_BETTER,
    "live-better": control_pb2.REVIEW_VERDICT_LIVE_BETTER,
    "both-fine": control_pb2.REVIEW_VERDICT_BOTH_FINE,
    "both-wrong": control_pb2.REVIEW_VERDICT_BOTH_WRONG,
}
_COLUMNS = (("id", "right"), ("version", "left"), ("similarity", "right"), ("verdict", "left"))
# From here on, a request's id and what differed have room beside each other.
_ROOMY = 120
_LONGEST_ID = 40  # a UUID has 36 characters
_WORDS = {number: name.replace("-", " ") for name, number in VERDICTS.items()}


def lines(comparisons: Sequence[control_pb2.ComparisonLine]) -> RenderableType:
    """Stored comparisons, a line each."""
    if not comparisons:
        return Text("no stored comparison of this kind yet", style="dim")
    return _Lines(comparisons=comparisons)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lines:
    """Ids of requests are there to be copied, so what stands beside them gives way where it is narrow."""

    comparisons: Sequence[control_pb2.ComparisonLine]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As Rich asks for it."""
        yield self._wide() if options.max_width >= _ROOMY else self._narrow()

    def _wide(self) -> Table:
        table = report_table.table(*_COLUMNS, ("request", "left"), ("received", "left"), ("what differed", "left"))
        # Ids of callers may be longer than any line.
        table.columns[4].no_wrap = all(len(line.request_id) <= _LONGEST_ID for line in self.comparisons)
        for line in self.comparisons:
            cells = (line.request_id, figures.moment(line.received_at), line.detail)
            report_table.add_row(table, *_judged(line), *cells)
        return table

    def _narrow(self) -> Table:
        table = report_table.table(*_COLUMNS, ("request, and what differed", "left"))
        # The longest of its words; "candidate better" takes two lines, as the request does.
        table.columns[3].max_width = len("candidate")
        for line in self.comparisons:
            about = f"{line.request_id}\n{figures.moment(line.received_at)}  {line.detail}"
            report_table.add_row(table, *_judged(line), about)
        return table


def _judged(line: control_pb2.ComparisonLine) -> tuple[str | Text, ...]:
    return (
        str(line.id),
        Text(line.version, style="bold"),
        f"{line.similarity:.4f}" if line.HasField("similarity") else figures.NONE,
        _WORDS.get(line.verdict, figures.NONE),
    )


def side_by_side(found: control_pb2.GetComparisonResponse, version: str) -> RenderableType:
    """The request, then live's answer beside each candidate's; of one candidate when a version is named."""
    answers = [answer for answer in found.answers if version in {"", answer.version}]
    title = Text.assemble((f"{found.model}: comparison {found.id}", "bold"), f" of request {found.request_id}, ")
    stored = StoredMessages(protocol=found.protocol, payloads=found.payloads)
    request = stored.shown_request(found.request)
    parts: list[RenderableType] = [title.append(figures.moment(found.received_at)), Text(f"request  {request}")]
    live = stored.shown_response(found.live_response)
    for answer in answers:
        own = stored.shown_response(answer.response)
        parts += [Text(), _beside(found.live_version, live, answer, own or f"({answer.outcome})"), *_about(answer)]
    return Group(*parts)


def plain(found: control_pb2.GetComparisonResponse) -> dict[str, Any]:
    """The comparison as a document, with its messages read."""
    stored = StoredMessages(protocol=found.protocol, payloads=found.payloads)
    answers = [{**document.plain(answer), "response": stored.response(answer.response)} for answer in found.answers]
    return {
        **document.plain(found),
        "request": stored.request(found.request),
        "live_response": stored.response(found.live_response),
        "answers": answers,
    }


def verdicts(counts: Sequence[control_pb2.ReviewCounts], labels: Mapping[str, str]) -> Iterator[Text]:
    """What people said, a line for each candidate that they looked at."""
    for each in counts:
        said = [
            f"{figures.count(number)} {words}"
            for words, number in (
                ("candidate better", each.candidate_better),
                ("live better", each.live_better),
                ("both fine", each.both_fine),
                ("both wrong", each.both_wrong),
            )
            if number
        ]
        if said:
            yield Text(f"{labels.get(each.version, each.version)}: people who looked said {', '.join(said)}.")


def _beside(live_version: str, live: str, answer: control_pb2.CandidateAnswer, own: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True, header_style="bold")
    table.add_column(f"{live_version} (live)", ratio=1, overflow="fold")
    table.add_column(answer.version, ratio=1, overflow="fold")
    table.add_row(Text(live), Text(own))
    return table


def _about(answer: control_pb2.CandidateAnswer) -> Iterator[Text]:
    facts = [answer.outcome, answer.reason, answer.detail]
    if answer.HasField("similarity"):
        facts.insert(1, f"similarity {answer.similarity:.4f}")
    if answer.verdict:
        facts.append(f"{_WORDS[answer.verdict]}, said {answer.reviewed_by}")
    yield Text(" · ".join(fact for fact in facts if fact), style="dim")
