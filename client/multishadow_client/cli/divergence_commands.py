"""divergences list, show, review: find stored answers, look at them side by side, and say which is better."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow.v1 import export_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import (
    answer_filter,
    completion,
    divergence_view,
    document,
    review_view,
    selection,
    terminal,
)
from multishadow_client.cli.answer_filter import Above, Attributes, Below, Candidate, Looked, Outcomes, Reviewed, Since
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    ExperimentId,
    Model,
    Output,
    Server,
    Timeout,
    actor,
    examples,
)
from multishadow_client.cli.review_commands import Comparison, OneVersion, Verdict
from multishadow_client.cli.terminal import Format

LIST_EXAMPLES = examples(
    "shadowctl divergences list",
    "shadowctl divergences list --sort similarity --reviewed no",
    "shadowctl divergences list --version A --where country=NO --where user.plan=pro --since 2d",
    "shadowctl divergences list --outcome all --similarity-from 0.8 --similarity-to 0.9",
)
SHOW_EXAMPLES = examples("shadowctl divergences show 4711", "shadowctl divergences show 4711 A -o json")
REVIEW_EXAMPLES = examples(
    "shadowctl divergences review",
    "shadowctl divergences review 4711 A live-better",
    "shadowctl divergences review -w country=NO",
)


class Sort(StrEnum):
    """How answers are listed."""

    TIME = "time"
    SIMILARITY = "similarity"
    LATENCY = "latency"


_ORDERS = {
    Sort.TIME: pb.ANSWER_ORDER_UNSPECIFIED,
    Sort.SIMILARITY: pb.ANSWER_ORDER_SIMILARITY,
    Sort.LATENCY: pb.ANSWER_ORDER_LATENCY,
}
_KEYS = {
    "c": Verdict.CANDIDATE_BETTER,
    "l": Verdict.LIVE_BETTER,
    "f": Verdict.BOTH_FINE,
    "w": Verdict.BOTH_WRONG,
}
_QUESTION = "[c]andidate better, [l]ive better, both [f]ine, both [w]rong, [s]kip, [q]uit: "
_PAGE = 50


def list_divergences(
    *,
    version: Candidate = "",
    outcome: Outcomes = None,
    where: Attributes = None,
    similarity_from: Above = None,
    similarity_to: Below = None,
    reviewed: Reviewed = None,
    since: Since = 0,
    sort: Annotated[Sort, typer.Option("--sort", help="Newest, least similar, or slowest first.")] = Sort.TIME,
    most: Annotated[int, typer.Option("--most", min=1, max=500, metavar="N", help="At most so many.")] = 20,
    after: Annotated[
        str, typer.Option("--after", metavar="CURSOR", show_default=False, help="The page after this one.")
    ] = "",
    experiment: Annotated[
        int, typer.Option("--experiment", min=0, metavar="ID", show_default=False, help="Default: all of the model's.")
    ] = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List stored answers that diverged, or of another kind, a page at a time."""
    with ControlClient(server, timeout=timeout) as control:
        which = answer_filter.chosen(
            model=selection.model(model, control),
            experiment=experiment,
            version=version,
            outcomes=outcome,
            where=where,
            similarity_from=similarity_from,
            similarity_to=similarity_to,
            reviewed=reviewed,
            since=since,
        )
        request = pb.ListAnswersRequest(filter=which, order=_ORDERS[sort], page_size=most, cursor=after)
        response = control.list_answers(request)
    terminal.show(output, divergence_view.listing(response.answers), document.plain(response))
    if response.next_cursor and output is Format.TABLE:
        terminal.remark(f"there are more: --after {response.next_cursor}")


def show(
    *,
    comparison: Comparison,
    version: OneVersion = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Show a request, and live's answer beside the candidates', with what differs: words, classes, fields."""
    with ControlClient(server, timeout=timeout) as control:
        found = control.get_answers(comparison)
    answers = [answer for answer in found.answers if version in {"", answer.version}]
    if not answers:
        held = ", ".join(answer.version for answer in found.answers)
        raise Mistake(f"comparison {comparison} holds nothing of {version}; it holds {held}")
    view = divergence_view.side_by_side(answers, marks=not _colours())
    terminal.show(output, view, {"answers": [divergence_view.plain(answer) for answer in answers]})


def review(
    *,
    comparison: Annotated[
        int, typer.Argument(metavar="ID", min=0, show_default=False, help="Which; default: one after the other.")
    ] = 0,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="The candidate.", autocompletion=completion.versions)
    ] = "",
    verdict: Annotated[
        Verdict | None, typer.Argument(metavar="VERDICT", help="Which answer is better.", show_default=False)
    ] = None,
    where: Attributes = None,
    only: Candidate = "",
    sort: Annotated[Sort, typer.Option("--sort", help="Newest, least similar, or slowest first.")] = Sort.SIMILARITY,
    experiment: ExperimentId = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Say which answer is better: of one comparison, or one by one of those that nobody has looked at.

    The last verdict on an answer counts.
    """
    with ControlClient(server, timeout=timeout) as control:
        if comparison:
            if not version or verdict is None:
                raise Mistake("say whose answer, and which is better: `divergences review 4711 A live-better`")
            response = control.record_review(_review(comparison, version, verdict))
            said = Text.assemble((response.model, "bold"), f": {verdict.replace('-', ' ')}, for {response.version} ")
            terminal.show(output, said.append(f"in comparison {comparison}"), document.plain(response))
            return
        if not sys.stdin.isatty():
            raise Mistake("there is nobody here to ask; name a comparison, a version and a verdict")
        which = answer_filter.chosen(
            model=selection.model(model, control), experiment=experiment, version=only, outcomes=None, where=where,
            similarity_from=None, similarity_to=None, reviewed=Looked.NO, since=0,
        )  # fmt: skip
        count = _one_by_one(control, which, sort)
    terminal.show(output, Text(f"{count} reviewed"), {"reviewed": count})


def _one_by_one(control: ControlClient, which: pb.AnswerFilter, sort: Sort) -> int:
    count = 0
    for line in _unlooked(control, which, sort):
        found = control.get_answers(line.comparison_id)
        answers = [answer for answer in found.answers if answer.version == line.version]
        terminal.stdout().print(divergence_view.side_by_side(answers, marks=not _colours()))
        key = _asked()
        if key == "q":
            break
        if key in _KEYS:
            control.record_review(_review(line.comparison_id, line.version, _KEYS[key]))
            count += 1
    return count


def _unlooked(control: ControlClient, which: pb.AnswerFilter, sort: Sort) -> Iterator[pb.StoredAnswer]:
    """Page by page: what was reviewed meanwhile is passed over by the key, and nothing is asked twice."""
    cursor = ""
    while True:
        request = pb.ListAnswersRequest(filter=which, order=_ORDERS[sort], page_size=_PAGE, cursor=cursor)
        page = control.list_answers(request)
        yield from page.answers
        cursor = page.next_cursor
        if not cursor:
            return


def _asked() -> str:
    """A key that means something; the end of what is typed means to quit."""
    while True:
        terminal.stderr().print(Text(_QUESTION), end="", soft_wrap=True)
        line = sys.stdin.readline()
        if not line:
            return "q"
        # The letter alone: who types a word has something else in mind.
        key = line.strip().lower()
        if key in {*_KEYS, "s", "q"}:
            return key


def _review(comparison: int, version: str, verdict: Verdict) -> control_pb2.RecordReviewRequest:
    return control_pb2.RecordReviewRequest(
        comparison_id=comparison, version=version, verdict=review_view.VERDICTS[verdict], actor=actor()
    )


def _colours() -> bool:
    console = terminal.stdout()
    return console.is_terminal and not console.no_color
