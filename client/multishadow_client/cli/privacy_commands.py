"""privacy show, apply, purge: what is stored of traffic."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import privacy_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, document, duration, privacy_view, selection, terminal
from multishadow_client.cli.exit_code import ExitCode, Mistake
from multishadow_client.cli.options import DryRun, Output, Reason, Server, actor, examples
from multishadow_client.cli.terminal import Format

SHOW_EXAMPLES = examples("shadowctl privacy show", "shadowctl privacy show spam -o json")
APPLY_EXAMPLES = examples("shadowctl privacy apply spam --reason 'ticket 4711'")
PURGE_EXAMPLES = examples(
    "shadowctl privacy purge spam --before 30d",
    "shadowctl privacy purge spam --session user-17 --reason 'erasure request 12' --yes",
    "shadowctl privacy purge spam --request 6f1c… --dry-run",
)
# Rewriting takes its time.
PATIENCE = 600

OneModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="The model; default: the chosen one, or the only one.", autocompletion=completion.models
    ),
]
LongTimeout = Annotated[
    int,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=duration.seconds,
        show_default="10m",
        help="How long it may take; asked again, it goes on where it was.",
        rich_help_panel="Connection and output",
    ),
]


def show(
    *, model: OneModel = "", server: Server = CONTROL, timeout: LongTimeout = PATIENCE, output: Output = Format.TABLE
) -> None:
    """Show what is stored of a model's traffic, in which form, and since when."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.stored_traffic(selection.model(model, control))
    terminal.show(output, privacy_view.stored(response), document.plain(response))


def apply(
    *,
    model: OneModel = "",
    reason: Reason = "",
    server: Server = CONTROL,
    timeout: LongTimeout = PATIENCE,
    output: Output = Format.TABLE,
) -> None:
    """Hold what is stored already to the model's present privacy terms, which otherwise count from now on.

    What was stored in a stricter form stays in it: what is gone cannot be had back.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.apply_privacy(pb.ApplyPrivacyRequest(model=name, actor=actor(), reason=reason))
    terminal.show(output, privacy_view.applied(response), document.plain(response))


def purge(
    *,
    model: OneModel = "",
    before: Annotated[
        str, typer.Option("--before", metavar="WHEN", help="Older than a span (30d), or a time (2026-11-01, in UTC).")
    ] = "",
    request: Annotated[str, typer.Option("--request", metavar="ID", help="Of one request.")] = "",
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Of one session.")] = "",
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")] = False,
    reason: Reason = "",
    server: Server = CONTROL,
    timeout: LongTimeout = PATIENCE,
    output: Output = Format.TABLE,
) -> None:
    """Erase stored requests, answers and labels, at once and for good.

    Counts stay, and with them the values of attributes that reports are cut by.

    Without --before, --request or --session: everything that is stored of the model's traffic.
    """
    if sum(map(bool, (before, request, session))) > 1:
        raise Mistake("choose one of --before, --request and --session")
    when = _moment(before) if before else None
    with ControlClient(server, timeout=timeout) as control:
        wish = pb.PurgeStoredRequest(
            model=selection.model(model, control),
            before=when,
            request_id=request,
            session_id=session,
            actor=actor(),
            reason=reason,
            dry_run=True,
        )
        response = control.purge_stored(wish)
        if not dry_run:
            if not yes and not _agreed(response):
                raise typer.Exit(ExitCode.FAILED)
            wish.dry_run = False
            response = control.purge_stored(wish)
    terminal.show(output, privacy_view.purged(response, dry_run=dry_run), document.plain(response))


def _agreed(would: pb.PurgeStoredResponse) -> bool:
    if not sys.stdin.isatty():
        raise Mistake("there is nobody here to ask whether to erase; pass --yes to go without asking")
    what = (
        f"{would.comparisons:,} comparisons, {would.answers:,} answers, {would.labels:,} labels and "
        f"{would.dead_letters:,} dead letters"
    )
    return terminal.confirmed(f"Erase {what} of {would.model} for good?")


def _moment(typed: str) -> Timestamp:
    """A point in time: so long ago, or an ISO date or time, which is UTC unless it says otherwise."""
    if re.match(r"\d{4}-", typed):
        try:
            at = datetime.fromisoformat(typed)
        except ValueError as error:
            raise Mistake(f"--before: {typed!r} is no date or time: 2026-11-01, 2026-11-01T12:00, 30d") from error
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    else:
        try:
            seconds = time.time() - duration.seconds(typed)
        except typer.BadParameter as error:
            raise Mistake(f"--before: {error.message}, and no date: 2026-11-01") from error
    return Timestamp(seconds=int(seconds))
