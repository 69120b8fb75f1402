"""status: what is live now, what goes on, and how the processes are."""

from __future__ import annotations

from datetime import UTC, datetime

from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import document, terminal
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Output, Server, Timeout, examples
from multishadow_client.cli.status_view import StatusView
from multishadow_client.cli.terminal import Format

EXAMPLES = examples(
    "shadowctl status",
    "shadowctl status -o json | jq '.processes[] | {role, instance, alive}'",
)


def status(*, server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE) -> None:
    """Tell what is live, what is being compared or rolled out, and how routers and workers are."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.status()
        versions = control.list_versions().versions
        running = [item for item in control.list_experiments().experiments if item.state == "running"]
        going_on = [item for item in control.list_rollouts().rollouts if item.state in {"running", "paused"}]
    view = StatusView(status=response, versions=versions, experiments=running, rollouts=going_on, now=datetime.now(UTC))
    terminal.show(output, view, document.plain(response))
