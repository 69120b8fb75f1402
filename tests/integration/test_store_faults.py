"""PostgreSQL away, restarted, frozen, or not what it should be."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import (
    PostgresConfiguration,
    PostgresControl,
    PostgresObservations,
    PostgresProcesses,
    PostgresRetention,
    migrate,
    open_engine,
)
from multishadow_server.adapters.postgres import engine as connections
from multishadow_server.adapters.postgres.engine import driver_url
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollup import Cell, Family
from multishadow_server.errors import FailedPrecondition, LeaseLost, MultishadowError, StoreUnavailable
from store_fixtures import (
    LIVE,
    OFF,
    comparison,
    flush,
    noon_today,
    open_first_epoch,
    opened,
    partition,
    register,
    spam,
)
from waiting import PATIENCE, until


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that these tests may stop, kill and freeze."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("own") / "data")
    with psycopg.connect(server.start(), autocommit=True) as connection:
        # Only a power cut needs it, not SIGKILL: what the kernel has, it has. Recovery takes milliseconds then.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server
    server.stop()


@pytest.fixture
def own_url(own_postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> str:
    url = own_postgres.create_database(f"faults_{abs(hash(request.node.name))}")
    migrate(url)
    return url


@pytest.fixture
async def engine(own_url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(own_url) as engine:
        yield engine


@contextmanager
def stopped(server: EmbeddedPostgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


async def test_the_first_call_after_a_restart_works(engine: AsyncEngine, own_postgres: EmbeddedPostgres) -> None:
    store = PostgresControl(engine)
    await register(store, spam("base"))
    # Every connection of the pool has been used, and every one is dead afterwards.
    await asyncio.gather(*(store.read() for _ in range(8)))
    with stopped(own_postgres):
        pass
    assert (await store.read()).revision == 1
    await asyncio.gather(*(store.read() for _ in range(8)))


async def test_the_first_call_after_a_crash_works(engine: AsyncEngine, own_postgres: EmbeddedPostgres) -> None:
    store = PostgresControl(engine)
    await register(store, spam("base"))
    own_postgres.kill()
    own_postgres.start()
    assert (await store.read()).revision == 1


async def test_while_the_server_is_away_every_call_says_so_at_once(
    engine: AsyncEngine, own_postgres: EmbeddedPostgres
) -> None:
    control, source, store = PostgresControl(engine), PostgresConfiguration(engine), PostgresObservations(engine)
    epoch = await open_first_epoch(control)

    async def change() -> None:
        async with control.change("ada"):
            pytest.fail("a change began without a database")

    calls = {
        "reading the configuration": source.read,
        "reading the revision": source.revision,
        "opening a connection": lambda: anext(source.changes()),
        "reading an offset": lambda: store.offset("log-1", 0),
        "committing a micro-batch": lambda: store.commit(flush(epoch, previous=0, offset=1)),
        "beginning a change": change,
        "reading flags": control.flags,
        "reading experiments": control.experiments,
        "reading epochs": lambda: control.epochs(epoch.experiment_id),
        "reading counts": lambda: control.rollup(epoch.id),
        "reading processes": control.processes,
        "withdrawing a process": lambda: PostgresProcesses(engine).withdraw("host-7"),
        "keeping the days of comparisons and answers": PostgresRetention(engine, keep_days=30).enforce,
    }
    with stopped(own_postgres):
        for purpose, call in calls.items():
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=f"failed while {purpose}: .*MULTISHADOW_DATABASE_URL"):
                await call()
            assert time.monotonic() - began < connections.OPERATION_SECONDS / 2, purpose
    assert (await source.read()).revision == 2


async def test_a_listener_learns_that_its_connection_was_lost(
    engine: AsyncEngine, own_postgres: EmbeddedPostgres
) -> None:
    async with aclosing(PostgresConfiguration(engine).changes()) as changes:
        assert await anext(changes) == 0
        waiting = asyncio.ensure_future(anext(changes))
        with stopped(own_postgres), pytest.raises(StoreUnavailable, match="listening for changes"):
            await asyncio.wait_for(waiting, PATIENCE)
    async with aclosing(PostgresConfiguration(engine).changes()) as changes:
        assert await anext(changes) == 0


async def test_a_change_that_loses_its_connection_is_undone(
    engine: AsyncEngine, own_postgres: EmbeddedPostgres
) -> None:
    store = PostgresControl(engine)
    await register(store, spam("base"))

    async def interrupted() -> None:
        async with store.change("ada") as change:
            await change.put_flag("spam.base", LIVE, reason="")
            own_postgres.kill()
            own_postgres.start()

    with pytest.raises(StoreUnavailable, match="changing the configuration"):
        await interrupted()
    configuration = await store.read()
    assert (configuration.revision, configuration.flags) == (1, {"spam.base": OFF})
    async with store.change("ada") as change:  # and its lock is free
        await change.put_flag("spam.base", LIVE, reason="")


async def test_commits_over_many_crashes_count_every_micro_batch_once(
    engine: AsyncEngine, own_postgres: EmbeddedPostgres
) -> None:
    control, store = PostgresControl(engine), PostgresObservations(engine)
    epoch = await open_first_epoch(control)
    last, unknown = 0, 0
    done = asyncio.Event()

    async def reachable() -> bool:
        try:
            await store.offset("log-1", 0)
        except StoreUnavailable:
            return False
        return True

    async def work() -> None:
        """As a worker does: after an error whose outcome is unknown, read the offset and go on from there."""
        nonlocal last, unknown
        while not done.is_set():
            try:
                last = await store.offset("log-1", 0)
                while not done.is_set():
                    await store.commit(flush(epoch, previous=last, offset=last + 1))
                    last += 1
            except (StoreUnavailable, LeaseLost):
                unknown += 1
                await until(reachable)

    def has_reached(offset: int) -> bool:
        return last >= offset

    async def crash() -> None:
        for _ in range(3):
            await until(partial(has_reached, last + 20))
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.to_thread(own_postgres.start)
        done.set()

    await asyncio.gather(work(), crash())
    offset = await store.offset("log-1", 0)
    assert offset >= 60
    assert unknown >= 3
    assert (await control.rollup(epoch.id)).cells == {Cell(Family.OUTCOME, "A", Outcome.OK): offset}


async def test_a_frozen_server_does_not_hang_its_callers(
    engine: AsyncEngine, own_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PostgresConfiguration(engine)
    await source.read()
    monkeypatch.setattr(connections, "OPERATION_SECONDS", 0.3)
    postmaster = psutil.Process(own_postgres.pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable, match="it took too long"):
            await source.revision()
        took = time.monotonic() - began
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)
    assert took < 15
    monkeypatch.undo()
    assert await source.revision() == 0


async def test_a_held_lock_does_not_hang_the_next_change(own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.SERVER_LIMITS, "lock_timeout", "100ms")

    async def second(store: PostgresControl) -> None:
        async with store.change("bob"):
            pytest.fail("two changes at once")

    async with opened(own_url) as engine, PostgresControl(engine).change("ada"):
        with pytest.raises(StoreUnavailable, match="somebody else has locked"):
            await second(PostgresControl(engine))


async def test_a_pool_that_is_used_up_says_so(own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 1)
    engine = open_engine(own_url, pool_size=1)
    try:
        async with PostgresControl(engine).change("ada"):
            with pytest.raises(StoreUnavailable, match="it took too long"):
                await PostgresConfiguration(engine).revision()
    finally:
        await engine.dispose()


async def test_a_cancelled_change_is_undone_and_its_connection_serves_again(own_url: str) -> None:
    engine = open_engine(own_url, pool_size=1)
    began = asyncio.Event()

    async def endless() -> None:
        async with PostgresControl(engine).change("ada") as change:
            await change.put_flag("spam.base", LIVE, reason="")
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(endless())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await PostgresControl(engine).read()).flags == {}
    await engine.dispose()


async def test_a_database_without_a_schema_asks_to_be_migrated(own_postgres: EmbeddedPostgres) -> None:
    async with opened(own_postgres.create_database("never_migrated")) as engine:
        with pytest.raises(FailedPrecondition, match="multishadow migrate"):
            await PostgresConfiguration(engine).read()


@pytest.mark.parametrize("role", ["read", "change", "listen"])
async def test_a_password_never_leaves_in_a_message(role: str) -> None:
    async with opened("postgresql://ada:hunter2@127.0.0.1:1/multishadow") as engine:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "read": PostgresConfiguration(engine).read,
            "change": PostgresControl(engine).change("ada").__aenter__,
            "listen": lambda: anext(PostgresConfiguration(engine).changes()),
        }
        with pytest.raises(MultishadowError, match=r"127\.0\.0\.1:1/multishadow") as refused:
            await calls[role]()
    assert "hunter2" not in f"{refused.value!s} {refused.value!r} {refused.value.__cause__}"


def test_limits_that_the_url_sets_win(own_url: str) -> None:
    own = driver_url(f"{own_url}&options=-c%20statement_timeout%3D7s&connect_timeout=2")
    parameters = {**own.query, **own.translate_connect_args(username="user", database="dbname")}
    with psycopg.connect(**parameters) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("7s",)
        assert connection.execute("SHOW lock_timeout").fetchone() == ("10s",)
    assert own.query["connect_timeout"] == "2"


def test_sockets_are_named_by_their_folder(tmp_path: Path) -> None:
    url = driver_url(f"postgresql://postgres:@/shop?host={tmp_path}")
    assert (url.drivername, url.database, url.query["host"]) == ("postgresql+psycopg", "shop", str(tmp_path))


async def test_an_autovacuum_of_a_day_gives_way_to_its_drop(engine: AsyncEngine, own_url: str) -> None:
    await PostgresRetention(engine, keep_days=1).enforce()  # for the server's databases may be of yesterday
    epoch = await open_first_epoch(PostgresControl(engine))
    yesterday = noon_today(own_url) - timedelta(days=1)
    day = partition(yesterday)
    samples = [comparison(epoch, received_at=yesterday.timestamp())] * 200
    await PostgresObservations(engine).commit(flush(epoch, previous=0, offset=1, comparisons=samples))
    with psycopg.connect(own_url, autocommit=True) as admin:
        # One that comes at once, and would take for ever.
        admin.execute(
            f"ALTER TABLE {day} SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, "
            "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)".encode()
        )
        admin.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        admin.execute("SELECT pg_reload_conf()")
        try:
            admin.execute(f"DELETE FROM {day}".encode())
            vacuuming = f"SELECT FROM pg_stat_progress_vacuum WHERE relid = '{day}'::regclass".encode()
            await until(lambda: admin.execute(vacuuming).fetchone() is not None)
            await PostgresRetention(engine, keep_days=0, patience=0.0).enforce()
        finally:
            admin.execute("ALTER SYSTEM RESET autovacuum_naptime")
            admin.execute("SELECT pg_reload_conf()")
        assert admin.execute("SELECT to_regclass(%s)", (day,)).fetchone() == (None,)
