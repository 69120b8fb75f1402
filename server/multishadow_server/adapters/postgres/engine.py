"""Connections to PostgreSQL, and the one place where the driver's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg import errors as pg
from sqlalchemy import URL, make_url
from sqlalchemy import exc as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from multishadow_server.errors import Conflict, FailedPrecondition, InvalidInput, NotFound, StoreUnavailable

DRIVER = "postgresql+psycopg"
CONNECT_SECONDS = 5
# The longest that any one operation may take; the statement's own limit is shorter, so that the server's words arrive.
OPERATION_SECONDS = 20.0
SERVER_LIMITS = {
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    # Compiling takes longer than any query here: a month of partitions looks dear to the planner, and is not.
    "jit": "off",
    # A client that froze within a change would keep everybody else from changing anything.
    "idle_in_transaction_session_timeout": "30s",
}
# A server that vanished from the network is noticed after about ten seconds, not after TCP's two hours.
KEEPALIVE = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


def driver_url(database_url: str, *, limits: bool = True) -> URL:
    """The URL in the driver's form, with time limits.

    Args:
        database_url: `postgresql://user:password@host:port/database`, or with `?host=/folder` of a Unix socket.
        limits: whether statements are limited too; a migration or a LISTEN takes as long as it takes.

    Raises:
        InvalidInput: it is no URL of a PostgreSQL database. The message does not repeat it: it may hold a password.
    """
    try:
        url = make_url(database_url)
    except (sa.ArgumentError, ValueError):
        raise InvalidInput(_NO_URL) from None
    if url.get_backend_name() not in {"postgresql", "postgres"} or not url.database:
        raise InvalidInput(_NO_URL)
    query = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "multishadow", **KEEPALIVE, **url.query}
    if limits:
        settings = " ".join(f"-c {name}={value}" for name, value in SERVER_LIMITS.items())
        # What the URL itself sets comes last, and wins.
        query["options"] = f"{settings} {query.get('options', '')}".strip()
    return url.set(drivername=DRIVER, query=query)


_NO_URL = "MULTISHADOW_DATABASE_URL is no PostgreSQL URL; write it as postgresql://user:password@host:5432/database"


def open_engine(database_url: str, *, pool_size: int = 4) -> AsyncEngine:
    """A small pool of connections, made when they are needed. Close it with `await engine.dispose()`.

    A connection that died while idle is replaced before use, so the first call after a restart of PostgreSQL works.
    """
    return create_async_engine(
        driver_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        # Requests' contents stay out of messages and logs.
        hide_parameters=True,
    )


async def open_connection(url: URL) -> psycopg.AsyncConnection:
    """One connection outside the pool, in autocommit mode: for LISTEN and for locks of a session.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    parameters: dict[str, Any] = {**url.query, **url.translate_connect_args(username="user", database="dbname")}
    async with reaching(url, "opening a connection"):
        return await psycopg.AsyncConnection.connect(**parameters, autocommit=True)


def lacked_a_lock(error: sa.DBAPIError) -> bool:
    """Whether a statement failed for want of a lock, and may be tried again in a new transaction."""
    return isinstance(error.orig, pg.LockNotAvailable | pg.DeadlockDetected)


@asynccontextmanager
async def reaching(engine: AsyncEngine | URL, purpose: str) -> AsyncIterator[None]:
    """An operation on the store: it ends within its time limit, and its errors leave as ours. See `translated`."""
    url = engine if isinstance(engine, URL) else engine.url
    with cancelled_first(), translated(url, purpose):
        async with asyncio.timeout(OPERATION_SECONDS):
            yield


@contextmanager
def cancelled_first() -> Iterator[None]:
    """Let a cancellation leave as one, whatever the driver made of it.

    A connection that breaks while a cancelled operation is rolled back raises the driver's error in place of the
    cancellation. Whoever retries what failed would go on for ever, and whoever cancelled would wait for it as long.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        yield
    except Exception as error:
        if task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise


@contextmanager
def translated(url: URL, purpose: str) -> Iterator[None]:
    """Let the driver's errors leave as ours.

    Raises:
        StoreUnavailable: PostgreSQL is away, too slow, or refuses for now; whether a commit happened is unknown.
        Conflict: somebody else wrote what had to be unique.
        NotFound: what was written refers to what does not exist.
        InvalidInput: a value that the schema does not allow.
        FailedPrecondition: the schema is missing or older than the program.
    """
    try:
        yield
    except (sa.TimeoutError, TimeoutError) as error:
        raise _unavailable(url, purpose, "it took too long") from error
    except (sa.DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, sa.DBAPIError) else error
        raise _translate(cause, url, purpose) from error
    except OSError as error:
        raise _unavailable(url, purpose, str(error)) from error


def _translate(cause: BaseException | None, url: URL, purpose: str) -> Exception:
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError | pg.ReadOnlySqlTransaction):
        busy = isinstance(cause, pg.LockNotAvailable)
        return _busy(url, purpose) if busy else _unavailable(url, purpose, str(cause))
    if isinstance(cause, pg.UniqueViolation):
        return Conflict(f"{purpose}: somebody else did it first ({cause.diag.constraint_name}); read again and retry")
    if isinstance(cause, pg.ForeignKeyViolation):
        return NotFound(f"{purpose}: {cause.diag.message_detail}")
    if isinstance(cause, pg.CheckViolation | psycopg.DataError):
        return InvalidInput(f"{purpose}: {_first_line(cause)}")
    if isinstance(cause, pg.UndefinedTable | pg.UndefinedColumn | pg.InvalidSchemaName):
        return FailedPrecondition(
            f"the schema of {place(url)} does not fit this program ({_first_line(cause)}): run `multishadow migrate` "
            "on it, or this program in the release that migrated it"
        )
    return cause if isinstance(cause, Exception) else RuntimeError(f"{purpose}: the driver gave no cause")


def _unavailable(url: URL, purpose: str, reason: str) -> StoreUnavailable:
    first_line = _first_line(reason) or "the connection was lost"
    if url.password:
        first_line = first_line.replace(str(url.password), "***")
    return StoreUnavailable(
        f"PostgreSQL at {place(url)} failed while {purpose}: {first_line}; see that it runs and that "
        "MULTISHADOW_DATABASE_URL is right"
    )


def _busy(url: URL, purpose: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgreSQL at {place(url)} is busy: somebody else has locked what is needed for {purpose}; try again "
        "(pg_locks and pg_stat_activity tell who it is)"
    )


def _first_line(said: object) -> str:
    return str(said).strip().partition("\n")[0]


def place(url: URL) -> str:
    """Where it is, for a person, without credentials: `host:port/database`."""
    host = url.host or url.query.get("host") or "localhost"
    return f"{host}:{url.port or 5432}/{url.database}"
