"""`multishadow token`: the first token, and the way back in, on the database itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import migrate
from multishadow_server.adapters.processes import multishadow as program
from multishadow_server.core import access
from multishadow_server.entrypoints.cli import cli
from store_fixtures import rows
from waiting import PATIENCE

Multishadow = Callable[..., tuple[int, str, str]]


@pytest.fixture
def multishadow(capsys: pytest.CaptureFixture[str]) -> Multishadow:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli(args=arguments, prog_name="multishadow")
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_token_is_made_listed_and_revoked_without_control(database_url: str, multishadow: Multishadow) -> None:
    at = ("--database-url", database_url)
    code, text, told = multishadow("token", "create", "--name", "ann", "--expires", "90d", *at)
    shown = access.shown(text.strip())
    assert (code, told) == (0, f"the token ann ({shown and shown.id}), admin:\n")
    assert shown is not None
    assert shown.secret not in str(rows(database_url, "SELECT t::text FROM api_token AS t"))
    again, out, refused = multishadow("token", "create", "--name", "ann", *at)
    assert (again, out, "there is a token ann" in refused) == (1, "", True)
    listed = multishadow("token", "list", *at)[1]
    assert listed.startswith(f"{shown.id}\tann\tadmin\tvalid\t")
    assert multishadow("token", "revoke", "ann", "--reason", "lost", *at) == (0, f"ann ({shown.id}) is revoked\n", "")
    assert "\trevoked\t" in multishadow("token", "list", *at)[1]
    assert multishadow("token", "revoke", "nobody", *at)[0] == 1
    actors = rows(database_url, "SELECT action, actor FROM audit_log ORDER BY id")
    assert [action for action, _ in actors] == ["create_token", "revoke_token"]
    assert all(actor.endswith("(on the database)") for _, actor in actors)


def test_the_database_of_serve_is_found_in_its_folder_and_left_running(
    tmp_path: Path, multishadow: Multishadow
) -> None:
    code, _, told = multishadow("token", "list", "--data-dir", str(tmp_path))
    assert (code, "holds none" in told) == (1, True)
    engine = EmbeddedPostgres(tmp_path / "postgres")
    url = engine.start()
    try:
        migrate(url)
        command = program("token", "create", "--name", "ann", "--data-dir", str(tmp_path))
        made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        assert access.shown(made.stdout.strip()) is not None
        assert engine.is_running()
        assert rows(url, "SELECT name, role FROM api_token") == [("ann", "admin")]
    finally:
        engine.stop()
