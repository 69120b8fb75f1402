"""`multishadow`: the command that runs the roles.

The composition root is imported by the commands that need it: it takes a second, which `--help`, the demo's version
servers and its callers do without.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from pydantic import ValidationError
from rich.console import Console

from multishadow_server.entrypoints import event_loop, grpc_core
from multishadow_server.entrypoints.log_lines import JsonFormatter, PayloadFreeFormatter
from multishadow_server.entrypoints.token_cli import tokens
from multishadow_server.errors import MultishadowError
from multishadow_server.loading import loading
from multishadow_server.settings import Settings

# Beyond `drain_seconds`: closing connections. Then the process ends itself, whatever it hangs in.
EXIT_MARGIN_SECONDS = 5.0
PLAIN_COLUMNS = 100
INTERRUPTED = 130  # as a shell says it of SIGINT

Ready = Callable[[str], None]

cli = typer.Typer(
    name="multishadow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Shadow several versions of a model on real traffic, rank them, and promote the winner.\n\n"
    "**multishadow demo** shows it all in about a minute. **multishadow serve** runs every role on this machine, "
    "with an embedded PostgreSQL and nats-server. **multishadow router|worker|control** run one role each, for a "
    "deployment of your own. **shadowctl** is the command for models, flags, experiments and promotions.",
    epilog="Everything that can be set has an environment variable `MULTISHADOW_<NAME>`; the README lists them.",
)


class Role(Protocol):
    """A role of the composition root."""

    async def __call__(self, settings: Settings, stop: asyncio.Event, *, ready: Ready) -> None:
        """Serve until `stop` is set."""


class LogLevel(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", help="PostgreSQL to use. [MULTISHADOW_DATABASE_URL]", show_default=False)
]
NatsUrl = Annotated[
    str | None, typer.Option("--nats-url", help="NATS server to use. [MULTISHADOW_NATS_URL]", show_default=False)
]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded engines.", show_default=False)]
Level = Annotated[LogLevel, typer.Option("--log-level", help="How much the log on standard error says.")]
Listen = Annotated[
    str | None, typer.Option("--listen", help="Address to serve on, host:port; port 0 takes a free one.")
]
HttpListen = Annotated[
    str | None,
    typer.Option(
        help="Address of control's HTTP; port 0 takes a free one. [MULTISHADOW_HTTP_LISTEN]", show_default=False
    ),
]


cli.add_typer(tokens, name="token")


def _tell_version(wanted: bool) -> None:  # noqa: FBT001  as Typer calls it
    if wanted:
        typer.echo(f"multishadow {version('multishadow')}")
        raise typer.Exit


@cli.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Say which version this is.")
    ] = False,
) -> None:
    """What goes before a command."""


@cli.command()
def router(
    *,
    listen: Listen = None,
    database_url: DatabaseUrl = None,
    nats_url: NatsUrl = None,
    log_level: Level = LogLevel.INFO,
) -> None:
    """Answer callers with the live version, and capture samples for the shadows.

    Several routers may share one address on a machine. Set with MULTISHADOW_ROUTER_LISTEN, or --listen.

    Example: multishadow router --listen 0.0.0.0:50051 --database-url postgresql://db/multishadow --nats-url nats://log
    """
    settings = _settings(router_listen=listen, database_url=database_url, nats_url=nats_url)
    _run_role("router", settings, log_level)


@cli.command()
def worker(*, database_url: DatabaseUrl = None, nats_url: NatsUrl = None, log_level: Level = LogLevel.INFO) -> None:
    """Call the shadows with captured requests, compare, and count.

    Start as many as the traffic needs: they share the log's partitions.

    Example: multishadow worker --database-url postgresql://db/multishadow --nats-url nats://log
    """
    settings = _settings(database_url=database_url, nats_url=nats_url)
    _run_role("worker", settings, log_level)


@cli.command()
def control(
    *,
    listen: Listen = None,
    http_listen: HttpListen = None,
    database_url: DatabaseUrl = None,
    nats_url: NatsUrl = None,
    log_level: Level = LogLevel.INFO,
) -> None:
    """Hold models, flags and experiments; report, promote and roll back. `shadowctl` talks to it.

    Applications read flags from it, too: flagd's clients at the same address, OFREP's at --http-listen.

    Example: multishadow control --listen 0.0.0.0:50052 --database-url postgresql://db/multishadow --nats-url nats://log
    """
    settings = _settings(control_listen=listen, http_listen=http_listen, database_url=database_url, nats_url=nats_url)
    _run_role("control", settings, log_level, needs_log=False)


@cli.command()
def serve(
    *,
    routers: Annotated[int, typer.Option(min=1, max=64, help="Router processes; they share the address.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    router_listen: Annotated[str | None, typer.Option(help="Address of the routers.", show_default=False)] = None,
    control_listen: Annotated[str | None, typer.Option(help="Address of control.", show_default=False)] = None,
    http_listen: HttpListen = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    nats_url: NatsUrl = None,
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Run every role on this machine until Ctrl-C.

    Without --database-url and --nats-url it starts a PostgreSQL and a nats-server of its own in --data-dir
    (.multishadow), and stops them at the end. Crashed roles are started again. Ctrl-C or SIGTERM drains the routers,
    then the workers, then control, then the engines.

    Example: multishadow serve --routers 4 --workers 2
    """
    from multishadow_server.app import machine  # noqa: PLC0415  see the module's docstring

    settings = _settings(
        router_listen=router_listen,
        control_listen=control_listen,
        http_listen=http_listen,
        data_dir=data_dir,
        database_url=database_url,
        nats_url=nats_url,
    )
    _log_to_stderr("serve", log_level, settings)
    _run(
        "serve",
        lambda stop: machine.serve(
            settings, stop, routers=routers, workers=workers, report=_say, log_level=log_level.value
        ),
    )


@cli.command()
def migrate(*, database_url: DatabaseUrl = None, log_level: Level = LogLevel.INFO) -> None:
    """Bring the database to this program's schema. Safe to repeat, and to run from several places at once.

    Example: multishadow migrate --database-url postgresql://db/multishadow
    """
    settings = _settings(database_url=database_url)
    _require("migrate", database_url=settings.database_url)
    _log_to_stderr("migrate", log_level, settings)
    from multishadow_server.app import machine  # noqa: PLC0415  see the module's docstring

    _run("migrate", lambda _: machine.migrate(settings))
    _say("the database is at this program's schema")


@cli.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    nats_url: NatsUrl = None,
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Write the database into a file, while everything runs: models, flags, experiments, counts, samples, audit log.

    It is an archive of PostgreSQL's pg_dump, of one moment. Without --database-url it is the embedded database in
    --data-dir, whether `serve` runs or not. The capture log is no part of it: what that means is in docs/backup.md.

    Example: multishadow backup multishadow-$(date +%F).dump
    """
    settings = _settings(data_dir=data_dir, database_url=database_url, nats_url=nats_url)
    _log_to_stderr("backup", log_level, settings)
    from multishadow_server.app import backup as backups  # noqa: PLC0415  see the module's docstring

    _run("backup", lambda stop: backups.back_up(settings, stop, file=file, force=force, report=_say))


@cli.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `multishadow backup` wrote.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Drop everything that the database holds first.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Put a backup into a database, all of it or nothing, and bring it to this program's schema.

    No role may work on the database meanwhile. A database that is not empty is left alone without --force.

    Example: multishadow restore multishadow-2026-11-26.dump --database-url postgresql://db/multishadow
    """
    settings = _settings(data_dir=data_dir, database_url=database_url)
    _log_to_stderr("restore", log_level, settings)
    from multishadow_server.app import backup as backups  # noqa: PLC0415  see the module's docstring

    _run("restore", lambda stop: backups.restore(settings, stop, file=file, force=force, report=_say))


@cli.command()
def health(
    address: Annotated[str, typer.Argument(help="host:port of a router, control or version server.")],
    *,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 3.0,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="MULTISHADOW_CLIENT_TLS", help="Over TLS; the others here mean it, too.")
    ] = False,
    ca: Annotated[
        Path | None, typer.Option(envvar="MULTISHADOW_CLIENT_CA", help="Authorities to trust; else the public ones.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(envvar="MULTISHADOW_CLIENT_CERT", help="Certificate to show, with --key.")
    ] = None,
    key: Annotated[Path | None, typer.Option(envvar="MULTISHADOW_CLIENT_KEY", help="Its private key.")] = None,
    server_name: Annotated[
        str, typer.Option(envvar="MULTISHADOW_CLIENT_SERVER_NAME", help="Whose certificate the server must show.")
    ] = "",
) -> None:
    """Ask a server whether it serves: exit code 0 yes, 1 no. For health checks of containers.

    Example: multishadow health 127.0.0.1:50051 --ca /certs/ca.pem --server-name router.internal
    """
    from multishadow_client import Tls  # noqa: PLC0415  see the module's docstring
    from multishadow_server.app import machine  # noqa: PLC0415  as above

    how = Tls(ca=ca, cert=cert, key=key, server_name=server_name)
    _run("health", lambda _: machine.health(address, timeout=timeout, tls=how if tls or how != Tls() else None))
    _say(f"{address} serves")


@cli.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running at the end, until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option(min=5, max=600, help="How long to send traffic before promoting.")] = 30.0,
) -> None:
    """Show the whole path on this machine, with real models and real data, in about a minute.

    It trains four versions of a digit classifier and four of a text summariser, serves each from a process of its own,
    sends held-out samples as traffic, watches the comparison converge, promotes the winner and rolls back. It checks
    what it claims: the exit code is 0 only if every station did what it should. Nothing is left behind.
    """
    from multishadow_server.app import machine  # noqa: PLC0415  see the module's docstring

    _log_to_stderr("demo", LogLevel.ERROR)
    # A log has no width; the comparison fits into this one.
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_COLUMNS)
    with _demo_extra():
        _run("demo", lambda stop: machine.demo(stop, keep=keep, seconds=seconds, console=console))


@cli.command("version-server")
def version_server(
    model: Annotated[str, typer.Argument(help="digits or summary.")],
    version: Annotated[str, typer.Argument(help="base, A, B or C.")],
    *,
    listen: Annotated[str, typer.Option(help="Address to serve on; port 0 takes a free one.")] = "127.0.0.1:0",
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Train and serve one version of a demo model.

    Example: multishadow version-server digits A --listen 127.0.0.1:9001
    """
    with _demo_extra(), loading():
        from multishadow_server.demo import version_server as server  # noqa: PLC0415  see the module's docstring

    _log_to_stderr(f"version-server {model} {version}", log_level)
    _run(
        "version-server",
        lambda stop: server.serve(model, version, listen, stop, ready=_announcer(f"{model} {version}"), report=_say),
    )


@cli.command()
def traffic(
    model: Annotated[str, typer.Argument(help="digits or summary.")],
    *,
    router: Annotated[
        str, typer.Option(envvar="MULTISHADOW_ROUTER", help="Address of the router.")
    ] = "127.0.0.1:50051",
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Requests per second.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 30.0,
) -> None:
    """Send held-out samples of a demo model to a router, and say who answered.

    Example: multishadow traffic digits --rate 50 --seconds 60
    """
    with _demo_extra():
        from multishadow_server.demo import catalogue  # noqa: PLC0415  see the module's docstring
        from multishadow_server.demo import traffic as callers  # noqa: PLC0415  as above

    async def call(stop: asyncio.Event) -> int:
        samples = catalogue.model_named(model).samples()
        tally = await callers.run(samples, router, stop, rate=rate, seconds=seconds, report=_say)
        return 0 if tally.answers else 1

    _run("traffic", call)


def main() -> None:
    """Run the command line."""
    grpc_core.quiet()
    cli()


def _settings(**chosen: Any) -> Settings:  # noqa: ANN401  pydantic checks what they are
    """Settings with the options that were given; a bad value ends the program with exit code 2."""
    try:
        return Settings(**{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            _complain(f"MULTISHADOW_{name.removeprefix('MULTISHADOW_')}={problem['input']!r}: {problem['msg']}")
        raise typer.Exit(2) from None


def _require(role: str, **needed: str | None) -> None:
    for name, value in needed.items():
        if value is None:
            option = "--" + name.replace("_", "-")
            _complain(
                f"multishadow {role}: no {name.replace('_', ' ')}. Give {option} or set MULTISHADOW_{name.upper()}, "
                "or let `multishadow serve` start everything with engines of its own"
            )
            raise typer.Exit(2)


def _run_role(name: str, settings: Settings, log_level: LogLevel, *, needs_log: bool = True) -> None:
    _require(name, database_url=settings.database_url, **({"nats_url": settings.nats_url} if needs_log else {}))
    _log_to_stderr(name, log_level, settings)
    if name in event_loop.CALLING_ROLES:
        grpc_core.poll_sockets()
    role = _role(name)

    def give_up_later() -> None:
        # The default action of SIGALRM ends the process even where the event loop hangs.
        seconds = settings.drain_delay + settings.drain_seconds + EXIT_MARGIN_SECONDS
        signal.setitimer(signal.ITIMER_REAL, seconds)

    _run(name, lambda stop: role(settings, stop, ready=_announcer(name)), on_stop=give_up_later)


def _role(name: str) -> Role:
    """A role's coroutine. Only its own module is imported: the others' would double the time that it takes to start."""
    with loading():
        if name == "router":
            from multishadow_server.app import router  # noqa: PLC0415

            return partial(router.run, metrics_ready=_metrics_announcer(name))
        if name == "worker":
            from multishadow_server.app import worker  # noqa: PLC0415

            return partial(worker.run, metrics_ready=_metrics_announcer(name))
        from multishadow_server.app import control  # noqa: PLC0415

        return partial(control.run, http_ready=_http_announcer(name))


def _run(
    name: str, work: Callable[[asyncio.Event], Awaitable[int | None]], *, on_stop: Callable[[], None] = lambda: None
) -> None:
    """Run `work` until it ends or SIGTERM or SIGINT sets its event; what it returns is the exit code.

    An error of ours is one line and exit code 1.
    """

    async def until_signal() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def ask() -> None:
            stop.set()
            on_stop()
            # Who asks twice means it.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ask)
        return await work(stop) or 0

    try:
        with asyncio.Runner(loop_factory=event_loop.factory(name)) as runner:
            code = runner.run(until_signal())
    except MultishadowError as error:
        _complain(f"multishadow {name}: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if code:
        raise typer.Exit(code)


@contextmanager
def _demo_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        _complain(f"the demo needs {error.name}, which comes with its extra: pip install 'multishadow[demo]'")
        raise typer.Exit(1) from None


def _announcer(name: str) -> Ready:
    """Say on standard output that it serves; a supervisor reads this line (adapters/processes.py)."""
    return lambda address: _say(f"{name} ready on {address}")


def _http_announcer(name: str) -> Ready:
    """Say where it serves HTTP; a supervisor reads this line, too, which comes before the other."""
    return lambda address: _say(f"{name} http on {address}")


def _metrics_announcer(name: str) -> Ready:
    """Say where its metrics are; a supervisor hands on what it does not read itself."""
    return lambda address: _say(f"{name} metrics on {address}")


def _log_to_stderr(name: str, level: LogLevel, settings: Settings | None = None) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if settings is not None and settings.log_format == "json":
        handler.setFormatter(JsonFormatter(role=name, instance=settings.instance))
    else:
        handler.setFormatter(PayloadFreeFormatter(f"%(asctime)s %(levelname)s {name} %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.value.upper())
    # It names its plugins whenever it is imported, which every role does.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)


def _say(line: str) -> None:
    # Flushed: a supervisor or a log waits for the line. In one piece: lines of the log may come between two.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
