"""`multishadow token`: tokens, made on the database itself."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from multishadow_server.errors import MultishadowError
from multishadow_server.settings import Settings

Result = TypeVar("Result")


def _seconds(text: str | int) -> int:
    """See `multishadow_client.cli.duration`."""
    # The client loads gRPC, whose settings the roles have yet to make.
    from multishadow_client.cli import duration  # noqa: PLC0415

    return duration.seconds(text)


tokens = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke tokens on the database itself: the first one, and the way back in.",
)
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help="PostgreSQL of control. [MULTISHADOW_DATABASE_URL]", show_default=False),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Or the folder of `multishadow serve`. [MULTISHADOW_DATA_DIR]", show_default=False),
]


@tokens.command()
def create(
    *,
    name: Annotated[str, typer.Option(help="Whose it is; the actor of what is done with it.")],
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")] = "admin",
    expires: Annotated[
        int | None,
        typer.Option(metavar="TIME", parser=_seconds, help="How long it is good, like 90d; else without end."),
    ] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token, and write its text, and nothing else, to standard output. It is kept nowhere.

    Example: (umask 077; multishadow token create --name ann --expires 90d > ann.token)
    """
    from multishadow_server.app import tokens as on_database  # noqa: PLC0415  as in `cli`

    issued = _run(on_database.create(_settings(database_url, data_dir), name=name, role=role, life=expires))
    print(f"the token {issued.token.name} ({issued.token.id}), {issued.token.role}:", file=sys.stderr, flush=True)
    print(issued.text, flush=True)


@tokens.command("list")
def list_tokens(*, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """List tokens, those that were revoked among them: id, name, role, state, by whom.

    Example: multishadow token list --database-url postgresql://db/multishadow
    """
    from multishadow_server.app import tokens as on_database  # noqa: PLC0415  as in `cli`

    for token in _run(on_database.list_tokens(_settings(database_url, data_dir))):
        print(token.id, token.name, token.role, token.state(time.time()), token.created_by, sep="\t", flush=True)


@tokens.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its name, or its id.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "",
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """End a token within seconds, on every control.

    Example: multishadow token revoke ann --reason 'laptop lost'
    """
    from multishadow_server.app import tokens as on_database  # noqa: PLC0415  as in `cli`

    ended = _run(on_database.revoke(_settings(database_url, data_dir), token, reason=reason))
    print(f"{ended.name} ({ended.id}) is revoked", flush=True)


def _settings(database_url: str | None, data_dir: Path | None) -> Settings:
    given: dict[str, Any] = {"database_url": database_url, "data_dir": data_dir}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except MultishadowError as error:
        print(f"multishadow token: {error}", file=sys.stderr, flush=True)
        raise typer.Exit(1) from None
