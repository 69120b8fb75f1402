"""`promote --staged`: the plan, the question, the start."""

from __future__ import annotations

import sys

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1 import rollouts_pb2 as pb
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import FailedPrecondition
from multishadow_client.cli import arrival, document, rollout_commands, rollout_view, terminal, watching
from multishadow_client.cli.exit_code import ExitCode, Mistake, Refused
from multishadow_client.cli.terminal import Format

WATCH_SECONDS = 2.0


def dry_run(control: ControlClient, wish: pb.RolloutWish, *, output: Format) -> None:
    """Show the plan and what the gates say; change nothing. Ends with 4 when it could not be started."""
    plan = _planned(control, wish)
    terminal.show(output, rollout_view.plan(plan), document.plain(plan))
    raise typer.Exit(ExitCode.REFUSED if plan.obstacle else ExitCode.YES)


def start(
    control: ControlClient, wish: pb.RolloutWish, *, yes: bool, wait: bool, watch: bool, within: float, output: Format
) -> None:
    """Show the plan, ask, begin, and wait until the routers follow the first stage; with `watch`, until it ends.

    Raises:
        Mistake: there is nobody to ask.
        Refused: gates, another rollout, or the flags do not allow it.
        typer.Exit: unless everything is as it was asked for.
    """
    plan = _planned(control, wish)
    if plan.obstacle:
        raise Refused(plan.obstacle)
    terminal.stderr().print(rollout_view.plan(plan))
    if not yes:
        _ask(plan)
    try:
        rollout = control.start_rollout(wish).rollout
    except FailedPrecondition as error:
        raise Refused(error.message) from error
    if watch:
        raise typer.Exit(_watch(control, rollout, output))
    said, answer = _started(rollout), document.plain(rollout)
    if not wait:
        terminal.show(output, said, answer)
        return
    arrived = arrival.wait(
        control, rollout.model, rollout.stage_revision, version=rollout.version, share=rollout.percent, within=within
    )
    terminal.show(output, Group(said, arrived.render()), {**answer, "arrival": arrived.document()})
    # Requests that fail are for the guardrails to judge, at a share this small.
    if arrived.standing is not arrival.Standing.FAILING and arrived.exit_code:
        raise typer.Exit(arrived.exit_code)


def _planned(control: ControlClient, wish: pb.RolloutWish) -> pb.PlanRolloutResponse:
    try:
        return control.plan_rollout(wish)
    except FailedPrecondition as error:
        raise Refused(error.message) from error


def _ask(plan: pb.PlanRolloutResponse) -> None:
    if not sys.stdin.isatty():
        raise Mistake("there is nobody here to ask whether to start; pass --yes to go without asking")
    if not terminal.confirmed(f"{plan.model}: roll {plan.version} out like this?"):
        raise typer.Abort


def _started(rollout: pb.Rollout) -> Text:
    said = Text.assemble((rollout.model, "bold"), ": ", (rollout.version, "bold green"))
    said.append(f" answers {rollout.percent:g} % of requests, {rollout.previous_version} the others; ")
    said.append(f"rollout {rollout.id}, revision {rollout.stage_revision}")
    return said.append(f"\nFollow it: shadowctl rollout status --watch --model {rollout.model}", style="dim")


def _watch(control: ControlClient, rollout: pb.Rollout, output: Format) -> ExitCode:
    def page(view: pb.GetRolloutResponse) -> RenderableType:
        return rollout_view.status(view)

    watch = watching.Watch(output=output, every=WATCH_SECONDS, page=page, render=page, ended=rollout_commands.settled)
    return rollout_commands.exit_code_of(watch.watch(lambda: control.get_rollout(rollout.model, rollout.id)).rollout)
