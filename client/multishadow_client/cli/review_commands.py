"""review: people look at two answers side by side, and say which is better."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, document, review_view, selection, terminal
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
from multishadow_client.cli.terminal import Format

LIST_EXAMPLES = examples(
    "shadowctl review list", "shadowctl review list A --most 50", "shadowctl review list --agreeing"
)
SHOW_EXAMPLES = examples("shadowctl review show 4711", "shadowctl review show 4711 A")
RECORD_EXAMPLES = examples("shadowctl review record 4711 A live-better", "shadowctl review record 4711 A both-fine")

Comparison = Annotated[int, typer.Argument(metavar="ID", min=1, help="The comparison: see `review list`.")]
OneVersion = Annotated[
    str, typer.Argument(metavar="VERSION", help="The candidate; default: all.", autocompletion=completion.versions)
]


class Verdict(StrEnum):
    """Which answer is better."""

    CANDIDATE_BETTER = "candidate-better"
    LIVE_BETTER = "live-better"
    BOTH_FINE = "both-fine"
    BOTH_WRONG = "both-wrong"


def list_comparisons(
    *,
    version: OneVersion = "",
    agreeing: Annotated[
        bool, typer.Option("--agreeing", help="A sample of answers that agreed, newest first: for `calibrate`.")
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, max=1000, metavar="N", help="At most so many.")] = 10,
    experiment: ExperimentId = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List stored answers that diverged, the least similar first: look at the top ten before you promote."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_comparisons(
            control_pb2.ListComparisonsRequest(
                model=selection.model(model, control),
                experiment_id=experiment,
                version=version,
                agreeing=agreeing,
                most=most,
            )
        )
    terminal.show(output, review_view.lines(response.comparisons), document.plain(response))


def show(
    *,
    comparison: Comparison,
    version: OneVersion = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Show a request, and live's answer beside the candidates'."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.get_comparison(comparison)
    terminal.show(output, review_view.side_by_side(response, version), review_view.plain(response))


def record(
    *,
    comparison: Comparison,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="The candidate.", autocompletion=completion.versions)
    ],
    verdict: Annotated[Verdict, typer.Argument(metavar="VERDICT", help="Which answer is better.", show_default=False)],
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Say which answer is better. The last verdict on an answer counts."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.record_review(
            control_pb2.RecordReviewRequest(
                comparison_id=comparison,
                version=version,
                verdict=review_view.VERDICTS[verdict],
                actor=actor(),
            )
        )
    said = Text.assemble((response.model, "bold"), f": {verdict.replace('-', ' ')}, for {response.version} ")
    terminal.show(output, said.append(f"in comparison {comparison}"), document.plain(response))
