"""Options that commands share."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Annotated

import typer

from multishadow_client.cli import completion, duration
from multishadow_client.cli.terminal import Format

DEFAULT_TIMEOUT = 10
DEFAULT_PATIENCE = 30
_CONNECTION = "Connection and output"

Server = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        envvar="MULTISHADOW_CONTROL",
        metavar="HOST:PORT",
        help="Where control is.",
        rich_help_panel=_CONNECTION,
    ),
]
Timeout = Annotated[
    int,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=duration.seconds,
        show_default=f"{DEFAULT_TIMEOUT}s",
        help="How long a call may take.",
        rich_help_panel=_CONNECTION,
    ),
]
Patience = Annotated[
    int,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=duration.seconds,
        show_default="30s",
        help="How long to wait for the routers, and for a call.",
        rich_help_panel=_CONNECTION,
    ),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every router follows, and see who answers.")]
Output = Annotated[
    Format,
    typer.Option("--output", "-o", help="For people, or for programs.", rich_help_panel=_CONNECTION),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="MULTISHADOW_MODEL",
        metavar="MODEL",
        help="The model; default: the chosen one (see `use`), or the only one.",
        autocompletion=completion.models,
    ),
]
ExperimentId = Annotated[
    int,
    typer.Option("--experiment", min=0, metavar="ID", show_default=False, help="Default: the running, or latest."),
]
Versions = Annotated[
    list[str] | None,
    typer.Argument(metavar="VERSION", help="Candidates; default: all.", autocompletion=completion.versions),
]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="The version.", autocompletion=completion.versions, show_default=False)
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the audit log.")]
Percent = Annotated[
    float | None,
    typer.Option("--percent", "-p", min=0, max=100, metavar="PERCENT", help="Share of requests; default: all."),
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change and what is wrong; change nothing.")]
ExpectedRevision = Annotated[
    int | None,
    typer.Option(
        "--expected-revision",
        min=0,
        metavar="REVISION",
        help="Refuse if a flag that this touches has changed since.",
    ),
]
FlagKey = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="The flag's key; for a version's MODEL.VERSION, or VERSION of the chosen model.",
        autocompletion=completion.flags,
        show_default=False,
    ),
]
FlagSet = Annotated[
    str | None,
    typer.Option("--set", metavar="NAME", help="Only flags of this set; '' is the default set."),
]


def actor() -> str:
    """Who asks, for the audit log: MULTISHADOW_ACTOR, or user@host."""
    if named := os.environ.get("MULTISHADOW_ACTOR", ""):
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def examples(*lines: str) -> str:
    """A command's closing help text: what it looks like in use."""
    return "\n".join(("Examples:", *(f"  {line}" for line in lines)))
