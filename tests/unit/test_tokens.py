"""Making, rotating and revoking tokens."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

import pytest

from memory_tokens import NOON, MemoryTokens, a_token
from multishadow_server.core import access
from multishadow_server.core.access import State, Verdict
from multishadow_server.errors import Conflict, FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import tokens


async def refused(kind: type[Exception], work: Awaitable[object]) -> str:
    with pytest.raises(kind) as caught:
        await work
    return str(caught.value)


async def test_a_token_is_told_once_and_kept_as_a_digest_with_its_line_in_the_log() -> None:
    store = MemoryTokens()
    issued = await tokens.create(store, name="ci-bot", role="operator", life=90.0, actor="ann")
    shown = access.shown(issued.text)
    assert shown is not None
    (held,) = store.held.values()
    assert (held.name, held.role, held.created_by, held.expires_at) == ("ci-bot", "operator", "ann", NOON + 90)
    assert access.judge(held, shown.secret, now=NOON) is Verdict.VALID
    assert store.lines == [
        ("ann", "create_token", "ci-bot", {"id": held.id, "role": "operator", "expires_at": NOON + 90})
    ]
    assert shown.secret not in repr((held, store.lines))
    other = await tokens.create(store, name="other", role="viewer", life=None, actor="ann")
    assert other.text != issued.text


async def test_what_no_token_can_be() -> None:
    store = MemoryTokens()
    for name in ("", "a b", "x (as ann)"):
        assert "name" in await refused(
            InvalidInput, tokens.create(store, name=name, role="viewer", life=None, actor="ann")
        )
    said = await refused(InvalidInput, tokens.create(store, name="a", role="root", life=None, actor="ann"))
    assert said == "role: 'root' is none; there are viewer, operator, admin"
    for life in (0.0, -1.0, float("nan"), float("inf"), 1e12):
        assert "expires" in await refused(
            InvalidInput, tokens.create(store, name="a", role="viewer", life=life, actor="ann")
        )
    assert store.held == {}


async def test_a_name_is_one_tokens_until_it_is_revoked() -> None:
    store = MemoryTokens()
    first = await tokens.create(store, name="ci-bot", role="viewer", life=None, actor="ann")
    assert "rotate it" in await refused(
        Conflict, tokens.create(store, name="ci-bot", role="viewer", life=None, actor="ann")
    )
    await tokens.revoke(store, "ci-bot", reason="gone", actor="ann")
    second = await tokens.create(store, name="ci-bot", role="viewer", life=None, actor="ann")
    assert second.token.id != first.token.id
    # The name now means the second; the first is still found by its id.
    assert (await tokens.revoke(store, "ci-bot", reason="", actor="ann")).id == second.token.id
    assert (await tokens.revoke(store, first.token.id, reason="", actor="bob")).revoked_by == "ann"
    assert [line[1] for line in store.lines] == ["create_token", "revoke_token", "create_token", "revoke_token"]


async def test_a_rotation_gives_another_secret_and_the_former_has_its_grace() -> None:
    token, text = a_token("ci-bot", expires_at=NOON + 1000)
    store = MemoryTokens(token)
    store.now = NOON + 400
    issued = await tokens.rotate(store, "ci-bot", grace=100, life=None, actor="ann")
    held = store.held[token.id]
    assert (held.former_until, held.expires_at) == (NOON + 500, NOON + 1400)
    for shown in (access.shown(text), access.shown(issued.text)):
        assert shown is not None
        assert access.judge(held, shown.secret, now=NOON + 499) is Verdict.VALID
    assert store.lines[-1][1:3] == ("rotate_token", "ci-bot")


async def test_what_cannot_be_rotated() -> None:
    token, _ = a_token("old", expires_at=NOON)
    store = MemoryTokens(token)
    assert "expired; create another" in await refused(
        FailedPrecondition, tokens.rotate(store, "old", grace=0, life=None, actor="ann")
    )
    assert "token list" in await refused(NotFound, tokens.rotate(store, "nobody", grace=0, life=None, actor="ann"))
    for grace in (-1.0, 31 * 86_400.0, float("nan")):
        assert "grace" in await refused(InvalidInput, tokens.rotate(store, "old", grace=grace, life=None, actor="ann"))


async def test_a_revoked_token_is_listed_only_when_it_is_asked_for() -> None:
    token, _ = a_token("ci-bot")
    store = MemoryTokens(token)
    await tokens.revoke(store, "ci-bot", reason="leaked", actor="ann")
    assert list(await tokens.list_tokens(store, all_of_them=False)) == []
    (listed,) = await tokens.list_tokens(store, all_of_them=True)
    assert (listed.state(NOON), listed.revoked_by) == (State.REVOKED, "ann")
    assert store.lines == [("ann", "revoke_token", "ci-bot", {"id": token.id, "reason": "leaked"})]


async def test_there_are_no_more_tokens_than_a_process_holds() -> None:
    token, _ = a_token("a")
    store = MemoryTokens(*(replace(token, id=str(n), name=str(n)) for n in range(access.MOST_TOKENS - 1)))
    store.held["old"] = replace(token, id="old", name="old", expires_at=NOON)
    await tokens.create(store, name="last", role="viewer", life=None, actor="ann")
    assert "revoke some" in await refused(
        FailedPrecondition, tokens.create(store, name="c", role="viewer", life=None, actor="ann")
    )
