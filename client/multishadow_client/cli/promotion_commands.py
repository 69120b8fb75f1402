"""promote, rollback: which version answers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from multishadow.v1 import control_pb2, rollouts_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import FailedPrecondition, MultishadowError
from multishadow_client.cli import (
    arrival,
    completion,
    document,
    duration,
    gates_view,
    selection,
    share,
    staged_promotion,
    stages,
    terminal,
)
from multishadow_client.cli.exit_code import ExitCode, Mistake, Refused
from multishadow_client.cli.options import (
    DEFAULT_PATIENCE,
    Model,
    Output,
    Patience,
    Percent,
    Reason,
    Server,
    Version,
    Wait,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

PROMOTE_EXAMPLES = examples(
    "shadowctl promote A",
    "shadowctl promote A --percent 5",
    "shadowctl promote A --yes --reason 'release 41' --model spam",
    "shadowctl promote A --staged --dry-run",
    "shadowctl promote A --staged --yes --watch",
    "shadowctl promote A --staged --stages 5,50,100 --dwell 30m --max-divergence 4%",
)
ROLLBACK_EXAMPLES = examples("shadowctl rollback", "shadowctl rollback --model spam --reason 'complaints'")

_STAGED = "With --staged"

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
    wait: Wait = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what the gates say; change nothing.")
    ] = False,
    staged: Annotated[
        bool, typer.Option("--staged", help="In stages that guardrails watch, from 1 % to all requests.")
    ] = False,
    plan: Annotated[
        str,
        typer.Option(
            "--plan",
            metavar="PLAN",
            autocompletion=completion.plans,
            show_default="auto",
            help="cautious, bold, or auto: by the measured divergence.",
            rich_help_panel=_STAGED,
        ),
    ] = "",
    stages_: Annotated[
        str,
        typer.Option(
            "--stages",
            metavar="PERCENTS",
            show_default=False,
            help="Shares of requests, e.g. 1,5,25,50,100; default: the plan's.",
            rich_help_panel=_STAGED,
        ),
    ] = "",
    dwell: Annotated[
        int | None,
        typer.Option(
            "--dwell",
            metavar="TIME",
            parser=duration.seconds,
            show_default=False,
            help="How long a stage lasts at least; default: the plan's.",
            rich_help_panel=_STAGED,
        ),
    ] = None,
    max_divergence: Annotated[
        float | None,
        typer.Option(
            "--max-divergence",
            metavar="SHARE",
            parser=share.share,
            show_default=False,
            help="How often it may answer differently than the base; default: the gate's limit.",
            rich_help_panel=_STAGED,
        ),
    ] = None,
    max_errors: Annotated[
        float | None,
        typer.Option(
            "--max-errors",
            metavar="SHARE",
            parser=share.share,
            show_default="1%",
            help="How much more often than the base it may fail.",
            rich_help_panel=_STAGED,
        ),
    ] = None,
    min_requests: Annotated[
        int | None,
        typer.Option(
            "--min-requests",
            min=1,
            metavar="NUMBER",
            show_default="100",
            help="Requests that a stage needs of each version.",
            rich_help_panel=_STAGED,
        ),
    ] = None,
    max_setbacks: Annotated[
        int | None,
        typer.Option(
            "--max-setbacks",
            min=1,
            metavar="NUMBER",
            show_default="2",
            help="The setback of this number aborts.",
            rich_help_panel=_STAGED,
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Follow it until it ends or is paused.", rich_help_panel=_STAGED),
    ] = False,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Patience = DEFAULT_PATIENCE,
    output: Output = Format.TABLE,
) -> None:
    """Make a version live: for all requests, for a share of them, or in stages.

    One flag is flipped: nothing is deployed or restarted. Then it waits until every router follows, and sees who
    answers. `rollback` takes it back as fast.

    Ends with 0 when it is done and seen to be (or nobody calls), with 3 when a router does not follow in time (the flip
    stands), with 4 when control refuses: gates do not all pass (see `gates`), a rollout goes on, or nothing listens
    there; with 1 when the version fails its callers.
    """
    asked_for = {"plan": plan, "stages": stages_, "dwell": dwell, "max-divergence": max_divergence}
    more = {"max-errors": max_errors, "min-requests": min_requests, "max-setbacks": max_setbacks, "watch": watch}
    _check(staged=staged, percent=percent, asked_for=asked_for | more)
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        if dry_run and not staged:
            _dry_run(control, name, version, output)
        if staged:
            wish = rollouts_pb2.RolloutWish(
                model=name,
                version=version,
                plan=plan,
                stages=stages.stages(stages_),
                dwell_seconds=dwell,
                minimum_requests=min_requests,
                max_setbacks=max_setbacks,
                max_divergence=max_divergence,
                max_errors=max_errors,
                force=force,
                reason=reason,
                actor=actor(),
            )
            if dry_run:
                staged_promotion.dry_run(control, wish, output=output)
            staged_promotion.start(control, wish, yes=yes, wait=wait, watch=watch, within=timeout, output=output)
            return
        if not yes:
            _ask(control, name, version, percent)
        request = control_pb2.PromoteRequest(
            model=name, version=version, percent=percent, actor=actor(), reason=reason, force=force
        )
        try:
            response = control.promote(request)
        except FailedPrecondition as error:
            raise Refused(error.message) from error
        arrived = _arrived(
            control, response.model, response.revision, wait=wait, within=timeout, version=version, share=percent or 100
        )
    _show(output, _promoted(response, percent), document.plain(response), arrived, response.warnings)


def rollback(
    *,
    reason: Reason = "",
    wait: Wait = True,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Patience = DEFAULT_PATIENCE,
    output: Output = Format.TABLE,
) -> None:
    """Take the last promotion back; a rollout that goes on ends with it. It asks nothing: who rolls back is in a hurry.

    It needs models and flags alone, so it works while the data of experiments cannot be read. Then it waits until every
    router follows, and sees who answers. Ends as `promote` does.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.rollback(control_pb2.RollbackRequest(model=name, actor=actor(), reason=reason))
        arrived = _arrived(
            control, name, response.revision, wait=wait, within=timeout, version=response.version, share=100
        )
    said = Text.assemble((name, "bold"), ": live is ", (response.version, "bold green"))
    said.append(f"; the promotion of {response.rolled_back_version} is taken back, revision {response.revision}")
    _show(output, said, document.plain(response), arrived, response.warnings)


def _check(*, staged: bool, percent: float | None, asked_for: Mapping[str, Any]) -> None:
    if staged and percent is not None:
        raise Mistake("--percent is one share, --staged goes through several: name them with --stages")
    given = [f"--{name}" for name, value in asked_for.items() if value not in (None, "", False)]
    if given and not staged:
        raise Mistake(f"{', '.join(given)} makes sense with --staged only")


def _dry_run(control: ControlClient, model: str, version: str, output: Format) -> None:
    """What the gates say. Ends with 4 when `promote` would be refused."""
    try:
        response = control.list_gates(control_pb2.ListGatesRequest(model=model, candidates=[version]))
    except FailedPrecondition as error:
        raise Refused(error.message) from error
    terminal.show(output, gates_view.render(response.reviews), document.plain(response))
    held_up = any(gate.holds_up for review in response.reviews for gate in review.gates)
    raise typer.Exit(ExitCode.REFUSED if held_up else ExitCode.YES)


def _arrived(
    control: ControlClient, model: str, revision: int, *, wait: bool, within: float, version: str, share: float
) -> arrival.Arrival | None:
    if not wait:
        return None
    return arrival.wait(control, model, revision, version=version, share=share, within=within)


def _show(
    output: Format, said: Text, answer: Mapping[str, Any], arrived: arrival.Arrival | None, warnings: Iterable[str]
) -> None:
    terminal.warn(warnings)
    if arrived is None:
        terminal.show(output, said, answer)
        return
    terminal.show(output, Group(said, arrived.render()), {**answer, "arrival": arrived.document()})
    if arrived.exit_code:
        raise typer.Exit(arrived.exit_code)


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
