"""Reading and setting versions' flags from code, against a real control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from multishadow_client import (
    AsyncFlags,
    Conflict,
    FailedPrecondition,
    Flags,
    InvalidInput,
    NotFound,
    Unreachable,
)
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from running_control import asked, control_address


@pytest.fixture
async def address(database_url: str) -> AsyncIterator[str]:
    """A control with a model of two versions."""
    async with control_address(database_url) as address, asked(address) as control:
        await control.apply("base", "A")
        yield address


async def test_a_flag_says_what_it_claims_and_who_made_it_so(address: str) -> None:
    async with AsyncFlags(address) as flags:
        written = await flags.set("spam", "A", "shadow", percent=25, reason="warming up", actor="grace")
        read = await flags.get("spam", "A")
        assert read == written
        assert (read.key, read.claim, read.changed_by, read.reason) == ("spam.A", "shadow 25 %", "grace", "warming up")
        assert read.definition == claim_definition("spam", Claim.SHADOW, 25)
        assert read.changed_in == read.revision
        assert datetime.now(UTC) - read.changed_at < timedelta(minutes=1)
        assert read.warnings == ()
        assert list(await flags.list()) == list(await flags.list("spam")) == ["spam.A", "spam.base"]


async def test_a_write_is_refused_when_somebody_wrote_first(address: str) -> None:
    async with AsyncFlags(address) as mine, AsyncFlags(address) as theirs:
        read = await mine.get("spam", "A")
        await theirs.set("spam", "A", "shadow", percent=5)
        with pytest.raises(Conflict, match=f"not {read.revision}: somebody changed something first"):
            await mine.set("spam", "A", "shadow", percent=50, expected_revision=read.revision)
        again = await mine.get("spam", "A")
        assert again.claim == "shadow 5 %"
        written = await mine.set("spam", "A", "shadow", percent=50, expected_revision=again.revision)
        assert (written.claim, written.revision) == ("shadow 50 %", again.revision + 1)


async def test_of_many_writers_with_one_revision_one_succeeds(address: str) -> None:
    async with AsyncFlags(address) as flags:
        revision = (await flags.get("spam", "A")).revision
        percents = range(1, 11)
        written = await asyncio.gather(
            *(flags.set("spam", "A", "shadow", percent=p, expected_revision=revision) for p in percents),
            return_exceptions=True,
        )
        refused = [each for each in written if isinstance(each, Conflict)]
        assert len(refused) == 9
        (won,) = [each for each in written if not isinstance(each, BaseException)]
        assert (await flags.get("spam", "A")).claim == won.claim


async def test_threads_have_the_same(address: str) -> None:
    def use() -> None:
        with Flags(address) as flags:
            flag = flags.set("spam", "A", "shadow", expected_revision=flags.get("spam", "A").revision)
            assert flag.claim == "shadow"
            with pytest.raises(Conflict):
                flags.set("spam", "A", "off", expected_revision=flag.revision - 1)
            assert flags.list("spam").keys() == {"spam.A", "spam.base"}
            with pytest.raises(NotFound, match=r'the model "spam" has no version "Z"; its flags: spam\.A, spam\.base'):
                flags.get("spam", "Z")

    await asyncio.to_thread(use)


async def test_what_cannot_be_set_is_refused_with_the_servers_words(address: str) -> None:
    async with AsyncFlags(address) as flags:
        with pytest.raises(FailedPrecondition, match="is the live version of spam"):
            await flags.set("spam", "base", "off")
        with pytest.raises(InvalidInput, match="percent"):
            await flags.set("spam", "A", "shadow", percent=120)
        with pytest.raises(NotFound, match="no model"):
            await flags.get("ham", "A")
        with pytest.raises(ValueError, match="'on' is no claim; a version claims off, shadow, live"):
            await flags.set("spam", "A", "on")  # type: ignore[arg-type]
        assert (await flags.get("spam", "base")).claim == "live"


async def test_where_nothing_answers_that_is_told() -> None:
    async with AsyncFlags("127.0.0.1:1", timeout=5.0) as flags:
        with pytest.raises(Unreachable, match=r"nothing answers at 127\.0\.0\.1:1"):
            await flags.list()
