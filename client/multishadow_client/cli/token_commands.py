"""token create, list, rotate, revoke, whoami: who may do what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from multishadow.v1 import access_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, document, duration, figures, listing_view, terminal
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Output, Reason, Server, Timeout, actor, examples
from multishadow_client.cli.terminal import Format

CREATE_EXAMPLES = examples(
    "shadowctl token create ci-bot --role operator --expires 90d --save ci-bot.token",
    "shadowctl token create dashboards --role viewer -o json | jq -r .text",
)
LIST_EXAMPLES = examples("shadowctl token list", "shadowctl token list --all -o json")
ROTATE_EXAMPLES = examples(
    "shadowctl token rotate ci-bot --grace 2h --save ci-bot.token", "shadowctl token rotate ci-bot --now"
)
REVOKE_EXAMPLES = examples("shadowctl token revoke ci-bot --reason 'leaked in a build log'")
WHOAMI_EXAMPLES = examples("shadowctl token whoami")

Token = Annotated[str, typer.Argument(metavar="TOKEN", help="Its name, or its id.", show_default=False)]
Expires = Annotated[
    int | None,
    typer.Option("--expires", metavar="TIME", parser=duration.seconds, help="How long it is good, like 90d."),
]
Save = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Write its text there, for you alone (0600), in place of showing it."),
]


def create(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.", show_default=False)],
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="viewer, operator or admin.", autocompletion=completion.roles)
    ],
    expires: Expires = None,
    save: Save = None,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Make a token. Its text is told once, here: nobody can look it up later, not even in the database.

    viewer reads everything; operator also changes flags, experiments, promotions, labels and reviews; admin also
    registers versions and makes tokens. The name is the actor of everything that is done with it.
    """
    _check_save(save)
    with ControlClient(server, timeout=timeout) as control:
        request = pb.CreateTokenRequest(name=name, role=role, actor=actor(), expires_in_seconds=expires)
        response = control.create_token(request)
    _tell(response, output, save)


def list_tokens(
    *,
    all_of_them: Annotated[bool, typer.Option("--all", "-a", help="Those that were revoked, too.")] = False,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List tokens, with when each was used last (to within some minutes)."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_tokens(all_of_them=all_of_them)
    terminal.show(output, _listing(response), document.plain(response))


def rotate(
    *,
    token: Token,
    grace: Annotated[
        int,
        typer.Option(
            "--grace",
            metavar="TIME",
            parser=duration.seconds,
            show_default="1d",
            help="How long the present secret stays good.",
        ),
    ] = 86_400,
    now: Annotated[bool, typer.Option("--now", help="End the present secret at once.")] = False,
    expires: Expires = None,
    save: Save = None,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Give a token another secret, under the same name and role; without --expires it lasts as long again."""
    _check_save(save)
    with ControlClient(server, timeout=timeout) as control:
        request = pb.RotateTokenRequest(
            token=token, grace_seconds=0 if now else grace, actor=actor(), expires_in_seconds=expires
        )
        response = control.rotate_token(request)
    _tell(response, output, save)


def revoke(
    *,
    token: Token,
    reason: Reason = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """End a token within seconds, with every secret that it has."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.revoke_token(pb.RevokeTokenRequest(token=token, reason=reason, actor=actor()))
    said = f"{response.token.name} ({response.token.id}) is revoked"
    terminal.show(output, Text(said), document.plain(response))


def whoami(*, server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE) -> None:
    """Tell who you are to control."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.caller()
    said = f"{response.name} ({response.token_id}), {response.role}" if response.name else "control asks nobody"
    terminal.show(output, Text(said), document.plain(response))


def _check_save(save: Path | None) -> None:
    """Before anything is made: a token that cannot be written down is lost."""
    if save is not None and not os.access(save.parent, os.W_OK):
        raise Mistake(f"cannot write into {save.parent}")


def _tell(response: pb.CreateTokenResponse | pb.RotateTokenResponse, output: Format, save: Path | None) -> None:
    answer: dict[str, Any] = document.plain(response)
    if save is not None:
        _write(save, response.text)
        answer["text"] = None
    terminal.show(output, _issued(response, save), answer)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
        beside.replace(path)
    except OSError as error:
        # Better shown than lost.
        raise Mistake(f"cannot write {path} ({error.strerror}); the token is {text}") from error


def _issued(response: pb.CreateTokenResponse | pb.RotateTokenResponse, save: Path | None) -> RenderableType:
    token = response.token
    until = f"until {figures.moment(token.expires_at)}" if token.HasField("expires_at") else "without end"
    said = Text(f"{token.name} ({token.id}), {token.role}, {until}")
    if token.HasField("former_until"):
        said.append(f"; the secret before is good until {figures.moment(token.former_until)}")
    if save is not None:
        return said.append(f"\nits text is in {save}")
    said.append(f"\n{response.text}", style="bold")
    return said.append("\nThis is the only time that it is shown.", style="dim")


def _listing(response: pb.ListTokensResponse) -> RenderableType:
    rows = (
        (
            token.name,
            token.id,
            token.role,
            token.state,
            figures.moment(token.created_at),
            token.created_by,
            figures.moment(token.expires_at) if token.HasField("expires_at") else "never",
            figures.moment(token.last_used_at) if token.HasField("last_used_at") else figures.NONE,
        )
        for token in response.tokens
    )
    headers = ("name", "id", "role", "state", "created", "by", "expires", "used")
    return listing_view.table(headers, rows, nothing="no tokens yet: shadowctl token create")
