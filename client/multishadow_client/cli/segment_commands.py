"""segments: on which kinds of request a candidate differs."""

from __future__ import annotations

from typing import Annotated

import typer

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, document, segments_view, selection, share, terminal
from multishadow_client.cli.exit_code import ExitCode
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    ExperimentId,
    Model,
    Output,
    Server,
    Timeout,
    examples,
)
from multishadow_client.cli.terminal import Format

SEGMENTS_EXAMPLES = examples(
    "shadowctl segments A",
    "shadowctl segments A --all",
    "shadowctl segments A -o json | jq '.segments[] | select(.alert)'",
)


def segments(
    *,
    version: Annotated[
        str,
        typer.Argument(
            metavar="[VERSION]",
            help="The candidate; default: the only one.",
            autocompletion=completion.versions,
            show_default=False,
        ),
    ] = "",
    every_one: Annotated[bool, typer.Option("--all", help="Every segment, and not only the first 15.")] = False,
    experiment: ExperimentId = 0,
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha",
            parser=share.chance,
            metavar="ALPHA",
            show_default="0.05",
            help="Expected share of false alerts.",
        ),
    ] = 0.0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Tell on which kinds of request a candidate diverges more, or less, often than on the rest.

    Kinds are the request's attributes, its size, the hour, and how confident the live version was. Alerts hold however
    often you look; the rest is for ideas.

    Ends with 0 when it could look, with 3 when nothing is compared yet.
    """
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_segments(
            control_pb2.ListSegmentsRequest(
                model=selection.model(model, control), candidate=version, experiment_id=experiment, alpha=alpha
            )
        )
    terminal.show(output, segments_view.render(response, most=None if every_one else 15), document.plain(response))
    raise typer.Exit(ExitCode.YES if response.n else ExitCode.NOT_YET)
