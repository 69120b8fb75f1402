"""Who is let in, who is told what, and how little a crowd of strangers costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_tokens import NOON, MemoryTokens, a_token
from multishadow_server.core import access
from multishadow_server.core.access import Role
from multishadow_server.errors import NotAuthenticated, NotPermitted, Unavailable
from multishadow_server.service.doorkeeper import Doorkeeper
from multishadow_server.service.ending import end
from multishadow_server.service.refusals import MOST_IN_A_WINDOW, MOST_PEERS, Refusals, place_of
from multishadow_server.service.token_watch import LOOK_AGAIN_SECONDS, TokenWatch
from waiting import PATIENCE, until

VIEWER, VIEWERS = a_token("dashboards", letter="a")
OPERATOR, OPERATORS = a_token("ci-bot", Role.OPERATOR, letter="b")
ADMIN, ADMINS = a_token("ann", Role.ADMIN, letter="c")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """A doorkeeper at a store."""

    def __init__(self, *, stale_after: float = 60.0) -> None:
        self.store = MemoryTokens(VIEWER, OPERATOR, ADMIN)
        self.clock = Clock()
        self.watch = TokenWatch(
            self.store, check_interval=0.01, stale_after=stale_after, clock=self.wall, monotonic=self.clock
        )
        self.doorkeeper = Doorkeeper(self.watch, clock=self.wall, monotonic=self.clock)

    def wall(self) -> float:
        return NOON + self.clock.now

    async def admit(self, text: str, least: Role = Role.VIEWER) -> str:
        return (await self.doorkeeper.admit([f"Bearer {text}"], least, to="Promote")).name


@asynccontextmanager
async def watching(place: Place) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(place.watch.run(stop))
    try:
        yield
    finally:
        stop.set()
        await end(task)


async def refused(kind: type[Exception], work: Awaitable[object]) -> str:
    with pytest.raises(kind) as caught:
        await work
    return str(caught.value)


async def test_a_token_opens_what_its_role_may_do() -> None:
    place = Place()
    assert await place.admit(VIEWERS) == "dashboards"
    assert await place.admit(OPERATORS, Role.OPERATOR) == "ci-bot"
    said = await refused(NotPermitted, place.admit(OPERATORS, Role.ADMIN))
    assert said == "ci-bot is a token for the role operator, and Promote needs admin: ask an admin for one"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "this needs a token"),
        ([""], "this needs a token"),
        (["Basic YWxhZGRpbg=="], "this needs a token"),
        (["Bearer "], "no token of multishadow"),
        (["Bearer secret"], "no token of multishadow"),
        ([f"Bearer {VIEWERS}x"], "no token of multishadow"),
        ([f"Bearer {VIEWERS}", f"Bearer {ADMINS}"], "several `authorization` headers"),
        ([f"Bearer ms_zzzzzzzz_{'0' * 64}"], "worth nothing here"),
        ([f"Bearer ms_{'c' * 8}_{'0' * 64}"], "worth nothing here"),
    ],
)
async def test_whoever_shows_nothing_that_counts_is_told_so_and_no_secret_is_repeated(
    headers: list[str | bytes], said: str
) -> None:
    place = Place()
    message = await refused(NotAuthenticated, place.doorkeeper.admit(headers, Role.VIEWER, to="GetStatus"))
    assert said in message
    assert not any(str(header)[7:] in message for header in headers if len(header) > 7)


async def test_a_scheme_is_read_in_any_case_and_as_bytes() -> None:
    place = Place()
    assert (await place.doorkeeper.admit([f"bEARER {ADMINS}".encode()], Role.ADMIN, to="it")).name == "ann"


@given(st.lists(st.text(max_size=200) | st.binary(max_size=200), max_size=3))
@settings(max_examples=60)
def test_no_header_that_anybody_can_think_of_gets_in(headers: list[str | bytes]) -> None:
    place = Place()
    with pytest.raises(NotAuthenticated):
        asyncio.run(place.doorkeeper.admit(headers, Role.VIEWER, to="it"))


async def test_only_who_has_the_secret_is_told_that_a_token_expired_or_was_revoked() -> None:
    place = Place()
    place.store.held["a" * 8] = replace(VIEWER, expires_at=NOON + 5)
    place.store.held["b" * 8] = replace(OPERATOR, revoked_at=NOON, revoked_by="ann")
    assert "dashboards (aaaaaaaa) expired at 2026-11-23 12:00:05 UTC" in await refused(
        NotAuthenticated, place.admit(VIEWERS)
    )
    assert "was revoked at 2026-11-23 12:00:00 UTC by ann" in await refused(NotAuthenticated, place.admit(OPERATORS))
    guessed = access.text_of("b" * 8, "0" * 64)
    assert "worth nothing here" in await refused(NotAuthenticated, place.admit(guessed))


async def test_a_token_that_was_made_a_moment_ago_is_looked_for_but_not_for_every_guess() -> None:
    place = Place()
    await place.admit(VIEWERS)
    new, text = a_token("new", letter="d")
    place.store.held[new.id] = new
    place.clock.now += LOOK_AGAIN_SECONDS
    assert await place.admit(text) == "new"
    reads = place.store.reads
    for number in range(50):
        await refused(NotAuthenticated, place.admit(access.text_of("e" * 8, f"{number:064x}")))
    assert place.store.reads == reads


async def test_a_revoked_token_opens_nothing_within_a_round() -> None:
    place = Place()
    async with watching(place):
        await until(lambda: place.store.reads)
        assert await place.admit(OPERATORS) == "ci-bot"
        place.store.held["b" * 8] = replace(OPERATOR, revoked_at=NOON, revoked_by="ann")
        before = place.store.reads
        await until(lambda: place.store.reads > before + 1)
        assert "was revoked" in await refused(NotAuthenticated, place.admit(OPERATORS))


async def test_tokens_that_are_known_stay_so_while_the_database_is_away_but_not_for_ever() -> None:
    place = Place(stale_after=60.0)
    await place.admit(VIEWERS)
    place.store.away = True
    place.clock.now += 59
    assert await place.admit(VIEWERS) == "dashboards"
    place.clock.now += 2
    assert "away for too long" in await refused(Unavailable, place.admit(VIEWERS))
    place.store.away = False
    async with watching(place):
        await until(lambda: place.watch.age < 1)
    assert await place.admit(VIEWERS) == "dashboards"


async def test_before_the_tokens_were_read_nobody_is_called_a_stranger() -> None:
    place = Place()
    place.store.away = True
    assert "could not be read" in await refused(Unavailable, place.admit(VIEWERS))


async def test_what_is_open_ends_with_its_token() -> None:
    place = Place()
    async with watching(place):
        caller = await place.doorkeeper.admit([f"Bearer {VIEWERS}"], Role.VIEWER, to="SyncFlags")
        ended = asyncio.create_task(place.doorkeeper.until_ended(caller))
        before = place.store.reads
        await until(lambda: place.store.reads > before + 2)
        assert not ended.done()
        place.store.held["a" * 8] = replace(VIEWER, revoked_at=NOON, revoked_by="ann")
        error = await asyncio.wait_for(ended, PATIENCE)
    assert "was revoked" in str(error)
    assert "a" * 64 not in repr(caller)


async def test_when_a_token_was_used_is_written_down_now_and_then() -> None:
    place = Place()
    async with watching(place):
        await place.admit(VIEWERS)
        await until(lambda: place.store.uses)
        for _ in range(20):
            await place.admit(VIEWERS)
        before = place.store.reads
        await until(lambda: place.store.reads > before + 2)
        assert len(place.store.uses) == 1
        place.clock.now += 61
        await place.admit(VIEWERS)
        await until(lambda: len(place.store.uses) == 2)
    assert place.store.uses[1] == {"a" * 8: place.wall()}


# --- strangers ----------------------------------------------------------------------------------------------------


async def test_a_peer_that_is_refused_too_often_is_told_to_wait_and_logged_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Place()
    error = NotAuthenticated("no")
    with caplog.at_level(logging.WARNING):
        answers = [
            place.doorkeeper.note_refusal(f"ipv4:10.0.0.7:{4000 + number}", error, to="Promote")
            for number in range(100)
        ]
    assert answers == [False] * MOST_IN_A_WINDOW + [True] * (100 - MOST_IN_A_WINDOW)
    assert len(caplog.records) == 2
    assert place.doorkeeper.counters() == {"auth.unauthenticated": 100, "auth.throttled": 70}
    assert not place.doorkeeper.note_refusal("ipv4:10.0.0.8:4000", NotPermitted("no"), to="Promote")
    place.clock.now += 60
    assert not place.doorkeeper.note_refusal("ipv4:10.0.0.7:4000", error, to="Promote")
    # A valid token from the same place is let in whatever others there do.
    assert await place.admit(VIEWERS) == "dashboards"


def test_whoever_comes_from_everywhere_costs_no_more_memory() -> None:
    refusals = Refusals()
    for number in range(3 * MOST_PEERS):
        refusals.note(str(number), now=0.0)
    assert len(refusals) == MOST_PEERS
    assert refusals.note(str(3 * MOST_PEERS - 1), now=1.0) == 2


@pytest.mark.parametrize(
    ("peer", "place"),
    [
        ("ipv4:10.0.0.7:40112", "10.0.0.7"),
        ("10.0.0.7", "10.0.0.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:1", "fe80::/64"),
        ("unix:", "unix:"),
        ("", ""),
        ("x" * 500, "x" * 100),
    ],
)
def test_where_a_peer_comes_from(peer: str, place: str) -> None:
    assert place_of(peer) == place


def test_strangers_do_not_make_the_doorkeeper_read_more(caplog: pytest.LogCaptureFixture) -> None:
    """What a crowd costs: a hash and a look into a dictionary each."""
    place = Place()

    async def crowd() -> None:
        for number in range(500):
            await refused(NotAuthenticated, place.admit(access.text_of("f" * 8, f"{number:064x}")))

    asyncio.run(crowd())
    assert place.store.reads <= 2
    assert not [record for record in caplog.records if "f" * 16 in record.getMessage()]
