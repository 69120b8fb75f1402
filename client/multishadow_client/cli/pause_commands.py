"""pause, resume: holding back the copies of requests for one version."""

from __future__ import annotations

from typing import Annotated

import typer

from multishadow.v1 import shadowing_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import document, duration, limits_view, selection, terminal
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    Model,
    Output,
    Reason,
    Server,
    Timeout,
    Version,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

PAUSE_EXAMPLES = examples(
    "shadowctl pause spam.A --for 2h --reason 'its database is restored'",
    "shadowctl pause A",
)
RESUME_EXAMPLES = examples("shadowctl resume spam.A")


def pause(
    *,
    version: Version,
    seconds: Annotated[
        int | None,
        typer.Option(
            "--for",
            metavar="TIME",
            parser=duration.seconds,
            show_default=False,
            help="End by itself after that; default: last until it is resumed.",
        ),
    ] = None,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Let nobody call a version as a shadow, from within a second, captures that wait in the log among them.

    Flags, experiments and statistics stay as they are; copies for it count as dropped, with the reason `paused`. If it
    serves callers, it goes on serving them. VERSION may be written MODEL.VERSION.
    """
    with ControlClient(server, timeout=timeout) as control:
        of, name = selection.version(version, model, control)
        request = pb.PauseShadowingRequest(model=of, version=name, seconds=seconds, actor=actor(), reason=reason)
        response = control.pause_shadowing(request)
    terminal.show(output, limits_view.paused(response.version, response.revision), document.plain(response))


def resume(
    *,
    version: Version,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """End the pause of a version; one that is not paused stays as it is. VERSION may be written MODEL.VERSION."""
    with ControlClient(server, timeout=timeout) as control:
        of, name = selection.version(version, model, control)
        request = pb.ResumeShadowingRequest(model=of, version=name, actor=actor(), reason=reason)
        response = control.resume_shadowing(request)
    terminal.show(output, limits_view.paused(response.version, response.revision), document.plain(response))
