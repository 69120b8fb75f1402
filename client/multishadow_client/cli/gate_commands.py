"""gates, attest, waive: what has to hold before a promotion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import document, gates_view, selection, terminal
from multishadow_client.cli.exit_code import ExitCode
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    Model,
    Output,
    Server,
    Timeout,
    Version,
    Versions,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

GATES_EXAMPLES = examples("shadowctl gates A", "shadowctl gates -o json | jq '.reviews[] | {version, verdict}'")
ATTEST_EXAMPLES = examples(
    "shadowctl attest A cost --note '2 GPUs instead of 3, see OPS-12'",
    "shadowctl attest A rollback_plan --note 'on call rolls back; runbook 7'",
    "shadowctl attest A agreement_only --note 'a faster build of the same weights'",
)
WAIVE_EXAMPLES = examples("shadowctl waive A minimum_duration --reason 'security fix; two days were looked at'")


def gates(
    *,
    versions: Versions = None,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Show what has to hold before candidates are promoted, what was found, and what would change it.

    Ends with 0 when every candidate that is named may be promoted, with 4 when one is rejected, and with 3 otherwise.
    """
    with ControlClient(server, timeout=timeout) as control:
        request = control_pb2.ListGatesRequest(model=selection.model(model, control), candidates=versions or [])
        response = control.list_gates(request)
    terminal.show(output, gates_view.render(response.reviews), document.plain(response))
    raise typer.Exit(_exit_code([review.verdict for review in response.reviews]))


def attest(
    *,
    version: Version,
    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help="agreement_only, top_reviewed, cost or rollback_plan.", show_default=False),
    ],
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What was found, or where it stands written.")],
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Vouch for something about a candidate that no number shows; it is kept with your name.

    It counts for the candidate's present epoch: when something that is compared changes, somebody has to look again.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.attest(
            control_pb2.AttestRequest(model=name, version=version, what=what, note=note, actor=actor())
        )
    terminal.show(output, gates_view.verdict(response.review), document.plain(response))


def waive(
    *,
    version: Version,
    gate: Annotated[str, typer.Argument(metavar="GATE", help="As `gates` names it.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept for ever.")],
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Let a candidate pass one gate, in its present epoch; who did so and why is kept for ever."""
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.waive_gate(
            control_pb2.WaiveGateRequest(model=name, version=version, gate=gate, reason=reason, actor=actor())
        )
    terminal.show(output, gates_view.verdict(response.review), document.plain(response))


def _exit_code(verdicts: Sequence[str]) -> ExitCode:
    if "REJECT" in verdicts:
        return ExitCode.REFUSED
    return ExitCode.YES if set(verdicts) == {"PROMOTE"} else ExitCode.NOT_YET
