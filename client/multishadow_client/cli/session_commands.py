"""sessions, sessions show: which sessions diverged, and their turns side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from multishadow.v1 import sessions_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, document, selection, sessions_view, terminal
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

HELP = "List stored sessions in which a candidate diverged or failed, newest first; `show` one turn by turn."
LIST_EXAMPLES = examples("shadowctl sessions", "shadowctl sessions --of A --most 50", "shadowctl sessions show user-17")
SHOW_EXAMPLES = examples("shadowctl sessions show user-17", "shadowctl sessions show user-17 --of A -o json")

OneVersion = Annotated[
    str,
    typer.Option("--of", metavar="VERSION", help="The candidate; default: any.", autocompletion=completion.versions),
]


def add_to(group: typer.Typer) -> None:
    """Let the group list sessions when no command of it is named."""
    group.callback()(list_sessions)


def list_sessions(
    context: typer.Context,
    *,
    version: OneVersion = "",
    most: Annotated[int, typer.Option("--most", min=1, max=1000, metavar="N", help="At most so many.")] = 20,
    experiment: ExperimentId = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List stored sessions in which a candidate diverged or failed, newest first."""
    if context.invoked_subcommand is not None:
        return
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_sessions(
            pb.ListSessionsRequest(
                model=selection.model(model, control), version=version, experiment_id=experiment, most=most
            )
        )
    terminal.show(output, sessions_view.lines(response), document.plain(response))


def show(
    *,
    session: Annotated[str, typer.Argument(metavar="ID", help="The session's id, as callers send it.")],
    version: OneVersion = "",
    experiment: ExperimentId = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Show the stored turns of one session in order: what was asked, live's answer, and the candidates' beside it.

    Of a session's turns those are stored that diverged, those after them, and a sample of the others.
    """
    with ControlClient(server, timeout=timeout) as control:
        response = control.get_session(
            pb.GetSessionRequest(model=selection.model(model, control), session_id=session, experiment_id=experiment)
        )
    terminal.show(output, sessions_view.turns(response, version), sessions_view.plain(response))
