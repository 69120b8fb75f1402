"""How commands connect: TLS and a token, typed, from the environment, or remembered.

Every command that says where it connects to takes these options, too: `connecting` adds them, and hands the command an
address that brings them along. So no command knows of them.
"""

from __future__ import annotations

import functools
import inspect
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
import yaml

from multishadow_client._address import Endpoint
from multishadow_client._diagnosis import diagnose
from multishadow_client._errors import Unreachable
from multishadow_client._tls import Tls
from multishadow_client.cli import selection
from multishadow_client.cli.exit_code import Mistake

_PANEL = "TLS and token"
_TYPED = {"COMMANDLINE", "ENVIRONMENT", "PROMPT"}
# Whom a token is for may read it; nobody else.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


# What a command calls its own parameters is its business: `key` is a flag's, too.
_PARAMETER = "connection_"


def _option(*names: str, help_: str, metavar: str | None = None) -> Any:  # noqa: ANN401  as typer types it
    variable = names[0].partition("/")[0].removeprefix("--").replace("-", "_").upper()
    envvar = f"MULTISHADOW_{'' if variable == 'TOKEN_FILE' else 'CLIENT_'}{variable}"
    return typer.Option(*names, envvar=envvar, help=help_, metavar=metavar, show_default=False, rich_help_panel=_PANEL)


_OPTIONS: Mapping[str, Any] = {
    "tls": Annotated[bool | None, _option("--tls/--no-tls", help_="Connect over TLS; the others here mean it, too.")],
    "ca": Annotated[Path | None, _option("--ca", metavar="FILE", help_="Authorities to trust; else the public ones.")],
    "cert": Annotated[Path | None, _option("--cert", metavar="FILE", help_="Certificate to show, with --key.")],
    "key": Annotated[Path | None, _option("--key", metavar="FILE", help_="Its private key.")],
    "server_name": Annotated[
        str | None,
        _option("--server-name", metavar="NAME", help_="Whose certificate it must show, where not the host's."),
    ],
    "token_file": Annotated[
        Path | None,
        _option(
            "--token-file", metavar="FILE", help_="The token, in a file of mode 0600; or give it in MULTISHADOW_TOKEN."
        ),
    ],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """Where control is, and how to connect to it.

    Args:
        server: as it was typed; empty for the default.
        tls: whether over TLS; None where nobody said.
        ca, cert, key, server_name: see Tls.
        token_file: where the token is; empty for none.
    """

    server: str = ""
    tls: bool | None = None
    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""
    token_file: str = ""

    def how(self) -> Tls | None:
        """How to speak TLS; None in the clear, or where the address's scheme decides."""
        details = bool(self.ca or self.cert or self.key or self.server_name)
        if self.tls is False and details:
            raise Mistake("--no-tls goes with none of --ca, --cert, --key and --server-name")
        if not (self.tls or details):
            return None
        return Tls(ca=self.ca or None, cert=self.cert or None, key=self.key or None, server_name=self.server_name)


class Chosen(Endpoint):
    """An address as a command gets it, with what `use` may remember of it."""

    __slots__ = ("connection", "typed")

    connection: Connection
    typed: bool


def connecting(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options, if it connects to anything."""
    signature = inspect.signature(command)
    named = next((name for name in ("server", "router") if name in signature.parameters), "")
    if not named:
        return command

    @functools.wraps(command)
    def run(*, context_: typer.Context, **given: Any) -> None:  # noqa: ANN401  whatever the command takes
        options = {name: given.pop(f"{_PARAMETER}{name}") for name in _OPTIONS}
        sources = {name: _source(context_, f"{_PARAMETER}{name}") for name in _OPTIONS}
        sources[named] = _source(context_, named)
        if given.get("clear"):
            pass  # what is about to be forgotten need not be readable
        elif named == "server":
            given[named] = _control(given[named], options, sources)
        else:
            given[named] = _router(given[named], options)
        command(**given)

    hints = get_type_hints(command, include_extras=True)
    added = {"context_": typer.Context, **{f"{_PARAMETER}{name}": _OPTIONS[name] for name in _OPTIONS}}
    parameters = [
        *(each.replace(annotation=hints[each.name]) for each in signature.parameters.values()),
        *(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if name == "context_" else None,
                annotation=annotation,
            )
            for name, annotation in added.items()
        ),
    ]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # as inspect reads it
    run.__annotations__ = {**hints, **added}
    return run


def completing(server: str, options: Mapping[str, Any], *, default: str) -> str:
    """Where to ask for completions: as `connecting` has it, by what stands on the line so far. Raises Mistake."""
    known = {name: options.get(f"{_PARAMETER}{name}") for name in _OPTIONS}
    typed = {name for name, value in known.items() if value} | ({"server"} if server else set())
    merged = _merged(server, known, typed)
    return _endpoint(merged if merged.server else replace(merged, server=default))


def remember_typed(server: str) -> None:
    """Keep what was typed of a connection, if anything was, for commands that type nothing. Raises Mistake."""
    if isinstance(server, Chosen) and server.typed:
        remember(server.connection)


def plain(connection: Connection) -> dict[str, Any] | None:
    """A connection as a document; None when nothing is said of it."""
    return {name: value for name, value in asdict(connection).items() if value not in {"", None}} or None


def remember(connection: Connection) -> None:
    """Keep it for commands that say nothing of their own. Raises Mistake when the file cannot be written."""
    path = file()
    kept = plain(connection) or {}
    for name in ("ca", "cert", "key", "token_file"):
        if name in kept:
            # Commands are typed in any folder.
            kept[name] = str(Path(kept[name]).expanduser().absolute())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(kept), encoding="utf-8")
    except OSError as error:
        raise Mistake(f"cannot write {path}: {error.strerror}") from error


def forget() -> None:
    """Drop it, if there is one."""
    file().unlink(missing_ok=True)


def remembered() -> Connection:
    """What `use` kept. Raises Mistake when the file is there and cannot be used."""
    path = file()
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Connection()
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} is no YAML; `shadowctl use --clear` removes it") from error
    try:
        return Connection(**stored)
    except TypeError as error:
        raise Mistake(f"{path} holds what this shadowctl does not know; `shadowctl use --clear` removes it") from error


def file() -> Path:
    """Where it is kept: beside the choice of a model."""
    return selection.file().with_name("connection.yaml")


def words(connection: Connection) -> str:
    """A connection in one line."""
    parts = [connection.server or "the default address", "over TLS" if connection.how() else "as the address says"]
    if connection.token_file:
        parts.append(f"with the token in {connection.token_file}")
    return ", ".join(parts)


def advice(error: Exception) -> str:
    """What TLS has to do with it that nothing answers; empty when it has nothing."""
    if isinstance(error, Unreachable) and error.address is not None:
        return diagnose(error.address)
    return ""


def _control(server: str, options: Mapping[str, Any], sources: Mapping[str, str]) -> Chosen:
    typed = {name for name, source in sources.items() if source in _TYPED}
    merged = _merged(server, options, typed)
    endpoint = _endpoint(merged if merged.server else replace(merged, server=server))
    chosen = Chosen(endpoint, tls=endpoint.tls, token=endpoint.token)
    chosen.connection = merged
    chosen.typed = "COMMANDLINE" in sources.values()
    return chosen


def _router(router: str, options: Mapping[str, Any]) -> Endpoint:
    """A token is for control: shown to a router, it would be passed on to the versions."""
    given: dict[str, Any] = {name: str(options[name] or "") for name in ("ca", "cert", "key", "server_name")}
    return Endpoint(router, tls=_checked(Connection(tls=options["tls"], **given)))


def _merged(server: str, options: Mapping[str, Any], typed: set[str]) -> Connection:
    """What was typed, and what was remembered of the same server: another is shown neither token nor certificate."""
    kept = remembered()
    if "server" in typed and server != kept.server:
        kept = Connection()
    values: dict[str, Any] = asdict(kept) | ({"server": server} if "server" in typed else {})
    for name in _OPTIONS:
        if name in typed and options[name] is not None:
            values[name] = options[name] if name == "tls" else str(options[name])
    return Connection(**values)


def _endpoint(connection: Connection) -> Endpoint:
    return Endpoint(connection.server, tls=_checked(connection), token=_token(connection))


def _checked(connection: Connection) -> Tls | None:
    """Its TLS. Raises Mistake: a file cannot be used."""
    tls = connection.how()
    if tls is not None:
        try:
            tls.credentials()
        except ValueError as error:
            raise Mistake(str(error)) from error
    return tls


def _token(connection: Connection) -> str:
    """The token: of the file, else of the environment. Raises Mistake: somebody else can read the file."""
    if not connection.token_file:
        return os.environ.get("MULTISHADOW_TOKEN", "").strip()
    path = Path(connection.token_file).expanduser()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"cannot read the token in {path}: {getattr(error, 'strerror', None) or 'no text'}") from error
    if mode & _OTHERS:
        raise Mistake(f"others than its owner may read the token in {path}: `chmod 600 {path}`, and rotate the token")
    if not text or any(character.isspace() for character in text):
        raise Mistake(f"{path} must hold a token and nothing else")
    return text


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return source.name if source is not None else ""
