"""The copy of the configuration that a router starts by while PostgreSQL is away."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from multishadow_server.adapters.configuration_copy import ConfigurationCopy
from multishadow_server.service.ending import end
from waiting import until

SNAPSHOT = {"revision": 7, "models": [], "versions": [], "flags": {"spam.A": {"state": "ENABLED"}}, "epochs": []}


async def kept(path: Path, *, database: str = "db:5432/one") -> ConfigurationCopy:
    copy = ConfigurationCopy(path, database=database)
    writing = asyncio.create_task(copy.run())
    copy.remember(SNAPSHOT)
    await until(path.exists)
    await end(writing)
    return copy


async def test_what_was_remembered_is_read_again(tmp_path: Path) -> None:
    await kept(tmp_path / "copy.json")
    again = ConfigurationCopy(tmp_path / "copy.json", database="db:5432/one").read()
    assert again is not None
    assert (again.revision, again.flags) == (7, {"spam.A": {"state": "ENABLED"}})


async def test_a_copy_of_another_database_is_none(tmp_path: Path) -> None:
    await kept(tmp_path / "copy.json")
    assert ConfigurationCopy(tmp_path / "copy.json", database="db:5432/two").read() is None


def test_where_nothing_was_kept_there_is_none(tmp_path: Path) -> None:
    assert ConfigurationCopy(tmp_path / "copy.json", database="db").read() is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"form": 1}', '{"form": 1, "database": "db", "snapshot": {"revision": 1}}', "\x00"]
)
def test_a_file_that_is_no_copy_is_named_and_passed_over(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "copy.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert ConfigurationCopy(tmp_path / "copy.json", database="db").read() is None
    assert f"the configuration in {tmp_path / 'copy.json'} cannot be used" in caplog.text


async def test_a_folder_that_cannot_be_written_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    copy = ConfigurationCopy(tmp_path / "file" / "copy.json", database="db")
    writing = asyncio.create_task(copy.run())
    with caplog.at_level(logging.WARNING):
        copy.remember(SNAPSHOT)
        await until(lambda: "cannot be kept" in caplog.text)
    assert not writing.done()
    await end(writing)
