"""rollout status, list, pause, resume, step, abort: a staged promotion that goes on."""

from __future__ import annotations

from typing import Annotated

import typer

from multishadow.v1 import rollouts_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import FailedPrecondition
from multishadow_client.cli import document, duration, rollout_view, selection, terminal, watching
from multishadow_client.cli.exit_code import ExitCode, Refused
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    Model,
    Output,
    Reason,
    Server,
    Timeout,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

STATUS_EXAMPLES = examples(
    "shadowctl rollout status",
    "shadowctl rollout status --watch",
    "shadowctl rollout status --watch -o json | jq -r '.rollout.state'",
)
LIST_EXAMPLES = examples("shadowctl rollout list", "shadowctl rollout list --model spam -o json")
PAUSE_EXAMPLES = examples("shadowctl rollout pause --reason 'looking into a ticket'")
RESUME_EXAMPLES = examples("shadowctl rollout resume")
STEP_EXAMPLES = examples("shadowctl rollout step --reason 'seen enough'")
ABORT_EXAMPLES = examples("shadowctl rollout abort --reason 'wrong build'")

_EXIT_CODES = {
    "completed": ExitCode.YES,
    "running": ExitCode.NOT_YET,
    "paused": ExitCode.NOT_YET,
    "aborted": ExitCode.FAILED,
    "rolled_back": ExitCode.FAILED,
}


def status(
    *,
    rollout: Annotated[
        int, typer.Option("--id", min=0, metavar="ID", show_default=False, help="Default: the running, or latest.")
    ] = 0,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep looking until it ends or is paused, or until Ctrl-C.")
    ] = False,
    every: Annotated[
        int,
        typer.Option(
            "--every", metavar="TIME", parser=duration.seconds, show_default="2s", help="With --watch: how often."
        ),
    ] = 2,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Show a rollout: its stages, its guardrails with their numbers and bounds, what comes next, and what happened.

    Ends with 0 when it is completed, with 3 while it goes on or is paused, with 1 when it was aborted or rolled back.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = model if rollout else selection.model(model, control)
        if watch:
            watch_ = watching.Watch(
                output=output, every=every, page=rollout_view.status, render=rollout_view.status, ended=settled
            )
            response = watch_.watch(lambda: control.get_rollout(name, rollout))
        else:
            response = control.get_rollout(name, rollout)
            terminal.show(output, rollout_view.status(response), document.plain(response))
    raise typer.Exit(exit_code_of(response.rollout))


def list_rollouts(
    *, model: Model = "", server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """List rollouts, newest first."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_rollouts(model)
    terminal.show(output, rollout_view.listing(response.rollouts), document.plain(response))


def pause(
    *,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Let the rollout stay at its stage, neither on nor back. A severe breach still aborts it: its callers go on."""
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.pause_rollout(pb.PauseRolloutRequest(model=name, actor=actor(), reason=reason))
    terminal.show(output, rollout_view.changed(response.rollout), document.plain(response))


def resume(
    *,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Go on with a paused rollout.

    A stage that dwelt long enough meanwhile is left at once, if every guardrail is kept. Where somebody else wrote the
    rollout's flags, they say again what its stage says, and the dwell begins anew.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.resume_rollout(pb.ResumeRolloutRequest(model=name, actor=actor(), reason=reason))
    terminal.show(output, rollout_view.changed(response.rollout), document.plain(response))


def step(
    *,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Go to the next stage now, without waiting for the dwell or for evidence.

    Ends with 4 while a guardrail is broken: then the way is back, not on.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        try:
            response = control.step_rollout(pb.StepRolloutRequest(model=name, actor=actor(), reason=reason))
        except FailedPrecondition as error:
            raise Refused(error.message) from error
    terminal.show(output, rollout_view.changed(response.rollout), document.plain(response))


def abort(
    *,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """End the rollout: everything goes back to the version that was live before it. `rollback` does the same."""
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.abort_rollout(pb.AbortRolloutRequest(model=name, actor=actor(), reason=reason))
    terminal.show(output, rollout_view.changed(response.rollout), document.plain(response))


def settled(view: pb.GetRolloutResponse) -> bool:
    """Whether nothing more happens by itself: it has ended, or somebody has to look."""
    return view.rollout.state != "running"


def exit_code_of(rollout: pb.Rollout) -> ExitCode:
    """What a script is told of a rollout."""
    return _EXIT_CODES.get(rollout.state, ExitCode.FAILED)
