"""Real engines for the tests: one PostgreSQL and one nats-server for the whole run, a fresh database for each test."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import nats
import psutil
import psycopg
import pytest
from nats.js.errors import NotFoundError
from psycopg import sql

from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres

# A slow machine is no counterexample.
hypothesis.settings.register_profile("multishadow", deadline=None)
hypothesis.settings.load_profile("multishadow")

# The browser of tests of pages, with the system that they look at; which tests stay together where several run at once.
pytest_plugins = ["browsing", "distribution"]

TEMPLATE = "migrated"
_numbers = itertools.count(1)
# A run that is killed leaves no PostgreSQL behind either: each is a daemon, which no death of a parent reaches. This
# reads from a pipe that closes with the run, then stops those whose pid files are still there.
_STOP_ENGINES = """
read -r _
find "$0" -name postmaster.pid | while read -r file; do kill -INT "$(head -n 1 "$file")"; done
"""
_guard = pytest.StashKey[subprocess.Popen[bytes]]()
_temporary_root = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
# Files in memory. On a disk that is a virtual machine's, making databases took a third of the whole run.
_MEMORY = Path("/dev/shm")
_ENOUGH_MEMORY = 4 << 30


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever wants to know more run the random faults longer, or again as they were."""
    group = parser.getgroup("multishadow")
    group.addoption("--fault-rounds", type=int, default=1, help="Rounds of every fault, in test_random_faults.py.")
    group.addoption("--fault-seed", type=int, default=7, help="What its order and moments are drawn from.")


def pytest_configure(config: pytest.Config) -> None:
    """Give this run a root for temporary folders of its own, in memory where there is enough of it.

    Every run as root closes the shared one (/tmp/pytest-of-root) to others, and with it the PostgreSQL of a run that is
    under way: as root, PostgreSQL runs as a user of its own.
    """
    root = config.stash[_temporary_root] = tempfile.TemporaryDirectory(prefix="multishadow-", dir=_memory())
    os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ["TMPDIR"] = tempfile.tempdir = root.name
    config.stash[_guard] = subprocess.Popen(
        ["/bin/sh", "-c", _STOP_ENGINES, root.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _memory() -> Path | None:
    """A folder whose files are in memory, unless there is none, or not enough."""
    with suppress(OSError):
        if min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available) >= _ENOUGH_MEMORY:
            return _MEMORY
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have counted (`record_property("figures", ...)`)."""
    passed = terminalreporter.getreports("passed")
    lines = [value for report in passed for name, value in report.user_properties if name == "figures"]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.line(str(line))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    config.stash[_guard].communicate()
    config.stash[_temporary_root].cleanup()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL, shared by all tests; a test that stops or kills it starts one of its own."""
    engine = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data")
    with psycopg.connect(engine.start(), autocommit=True) as connection:
        # What a power cut would lose is no subject of these tests, and a database for each test is much quicker so.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """Name of a database at the newest schema, to make others from."""
    from multishadow_server.adapters.postgres.migration import migrate  # noqa: PLC0415  tests without a store do without

    migrate(postgres.create_database(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A fresh, migrated database for this test."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template=migrated_template)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running nats-server with JetStream, shared by all tests."""
    engine = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    yield engine.start()
    engine.stop()


@pytest.fixture
def log_name(nats_url: str) -> Iterator[str]:
    """Name of a capture log that no other test uses; its stream goes with the test.

    JetStream sets aside a stream's largest size: some hundreds of them are more than a disk has.
    """
    name = f"captures-{next(_numbers)}"
    yield name
    asyncio.run(_delete_stream(nats_url, name))


async def _delete_stream(nats_url: str, name: str) -> None:
    client = await nats.connect(nats_url)
    with suppress(NotFoundError):
        await client.jetstream().delete_stream(name)
    await client.close()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings and saved choices of whoever runs the tests stay out of them."""
    for name in [name for name in os.environ if name.startswith(("MULTISHADOW_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
