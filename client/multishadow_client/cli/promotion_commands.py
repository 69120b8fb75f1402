"""promote, rollback: which version answers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._client import ControlClient
from multishadow_client._errors import FailedPrecondition, MultishadowError
from multishadow_client.cli import document, gates_view, selection, terminal
from multishadow_client.cli.exit_code import Mistake, Refused
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    Model,
    Output,
    Percent,
    Reason,
    Server,
    Timeout,
    Version,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

PROMOTE_EXAMPLES = examples(
    "shadowctl promote A",
    "shadowctl promote A --percent 5",
    "shadowctl promote A --yes --reason 'release 41' --model spam",
)
ROLLBACK_EXAMPLES = examples("shadowctl rollback", "shadowctl rollback --model spam --reason 'complaints'")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")]


def promote(
    *,
    version: Version,
    percent: Percent = None,
    yes: Yes = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Although gates do not pass (give a --reason), or control cannot connect to it."),
    ] = False,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Make a version live, for all requests or a share of them.

    One flag is flipped: nothing is deployed or restarted, and the next requests are answered by it. `rollback` takes
    it back as fast. Ends with 4 when control refuses: gates do not all pass (see `gates`), or nothing listens there.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        if not yes:
            _ask(control, name, version, percent)
        request = control_pb2.PromoteRequest(
            model=name, version=version, percent=percent, actor=actor(), reason=reason, force=force
        )
        try:
            response = control.promote(request)
        except FailedPrecondition as error:
            raise Refused(error.message) from error
    terminal.show(output, _promoted(response, percent), document.plain(response))
    terminal.warn(response.warnings)


def rollback(
    *,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Take the last promotion back. It asks nothing: whoever rolls back is in a hurry."""
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.rollback(control_pb2.RollbackRequest(model=name, actor=actor(), reason=reason))
    said = Text.assemble((name, "bold"), ": live is ", (response.version, "bold green"))
    said.append(f"; the promotion of {response.rolled_back_version} is taken back, revision {response.revision}")
    terminal.show(output, said, document.plain(response))
    terminal.warn(response.warnings)


def _ask(control: ControlClient, model: str, version: str, percent: float | None) -> None:
    if not sys.stdin.isatty():
        raise Mistake("there is nobody here to ask whether to promote; pass --yes to go without asking")
    terminal.remark(_standing(control, model, version))
    share = f"{percent:g} %" if percent else "all"
    if not terminal.confirmed(f"{model}: have {version} answer {share} of the requests?"):
        raise typer.Abort


def _standing(control: ControlClient, model: str, version: str) -> str:
    """What the comparison says, for the person who decides; promoting without one is allowed, and said."""
    try:
        response = control.compare(control_pb2.CompareRequest(model=model))
    except MultishadowError as error:
        return f"No comparison to go by: {error}"
    caveat = f"(It compares agreement with {response.live_version}, which is not quality.)"
    verdicts = [gates_view.verdict(review).plain for review in response.reviews if review.version == version]
    return "\n".join([f"{response.advice} {caveat}", *verdicts])


def _promoted(response: control_pb2.PromoteResponse, percent: float | None) -> Text:
    said = Text.assemble((response.model, "bold"), ": ")
    version, previous = (response.version, "bold green"), response.previous_version
    if not response.changed:
        return said.append("live is ").append(*version).append(" already; nothing changed")
    if percent and percent < 100:
        said.append(*version).append(f" answers {percent:g} % of requests, {previous} the others")
    else:
        was = f" (was {previous})" if previous != response.version else ""
        said.append("live is ").append(*version).append(was)
    said.append(f", revision {response.revision}")
    return said.append(f"\nTake it back: shadowctl rollback --model {response.model}", style="dim")
