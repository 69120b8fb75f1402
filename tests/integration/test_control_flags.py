"""Flags of any kind through the flag service, on a real store."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio
import psycopg
import pytest
from grpc import StatusCode
from openfeature.contrib.tools.flagd.core import FlagdCore

from multishadow.v1 import control_pb2
from multishadow.v1 import flags_pb2 as pb
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from running_control import Control, asked, control_address, refused
from store_fixtures import rows
from waiting import until

SWITCH: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
MALFORMED = {**SWITCH, "defaultVariant": "of"}


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        yield client


async def put(control: Control, flags: dict[str, Any], **fields: Any) -> pb.FlagChanges:
    """Put these definitions; a string is the variant to serve, a pair is that with its percent."""
    writes = [_write(key, what) for key, what in flags.items()]
    answer = await control.flag_stub.PutFlags(pb.PutFlagsRequest(flags=writes, actor="ada", **fields))
    changes: pb.FlagChanges = answer.changes
    return changes


def _write(key: str, what: Any) -> pb.FlagWrite:
    if isinstance(what, str | tuple):
        variant, percent = what if isinstance(what, tuple) else (what, None)
        return pb.FlagWrite(key=key, serve=pb.ServeVariant(variant=variant, percent=percent))
    return pb.FlagWrite(key=key, definition=json.dumps(what))


async def imported(control: Control, document: Any, **fields: Any) -> pb.FlagChanges:
    text = document if isinstance(document, str) else json.dumps(document)
    answer = await control.flag_stub.ImportFlags(pb.ImportFlagsRequest(document=text, actor="ada", **fields))
    changes: pb.FlagChanges = answer.changes
    return changes


async def reverted(control: Control, to: int, *keys: str, **fields: Any) -> pb.FlagChanges:
    request = pb.RevertFlagsRequest(keys=keys, to_revision=to, actor="bob", **fields)
    changes: pb.FlagChanges = (await control.flag_stub.RevertFlags(request)).changes
    return changes


async def deleted(control: Control, *keys: str, **fields: Any) -> pb.FlagChanges:
    answer = await control.flag_stub.DeleteFlags(pb.DeleteFlagsRequest(keys=keys, actor="bob", **fields))
    changes: pb.FlagChanges = answer.changes
    return changes


async def exported(control: Control, **fields: Any) -> Any:
    return json.loads((await control.flag_stub.ExportFlags(pb.ExportFlagsRequest(**fields))).document)


async def definitions(control: Control, **fields: Any) -> dict[str, Any]:
    found = await control.flag_stub.ListFlagDefinitions(pb.ListFlagDefinitionsRequest(**fields))
    return {flag.key: json.loads(flag.definition) for flag in found.flags}


async def get(control: Control, key: str, **fields: Any) -> pb.FlagDefinition:
    answer = await control.flag_stub.GetFlagDefinition(pb.GetFlagDefinitionRequest(key=key, **fields))
    flag: pb.FlagDefinition = answer.flag
    return flag


def touched(changes: pb.FlagChanges) -> list[tuple[str, str, str]]:
    return [(change.key, change.summary_before, change.summary_after) for change in changes.changes]


# --- any flag -----------------------------------------------------------------------------------------------------


async def test_flags_of_every_type_are_kept_as_they_are(control: Control) -> None:
    flags: dict[str, Any] = {
        "checkout": {**SWITCH, "metadata": {"owner": "shop", "flagSetId": "web", "tier": 1}},
        "ratio": {"state": "ENABLED", "variants": {"whole": 25, "real": 25.0, "tiny": 1e-9}, "defaultVariant": "real"},
        "theme": {"state": "DISABLED", "variants": {"dark": {"bg": ["#000", 1.0]}, "light": {}}},
        "greeting": {
            "state": "ENABLED",
            "variants": {"de": "Grüß Gott", "en": "Hello"},
            "defaultVariant": "en",
            "targeting": {"if": [{"ends_with": [{"var": "mail"}, ".at"]}, "de", None]},
        },
    }
    changes = await put(control, flags, reason="first")
    assert changes.revision == 1
    assert [change.key for change in changes.changes] == sorted(flags)
    assert json.dumps(await definitions(control), sort_keys=True) == json.dumps(flags, sort_keys=True)
    assert set(await definitions(control, flag_set="web")) == {"checkout"}
    assert set(await definitions(control, flag_set="", prefix="g")) == {"greeting"}
    flag = await get(control, "checkout")
    assert (flag.changed_by, flag.reason, flag.flag_set, flag.summary, flag.model) == ("ada", "first", "web", "off", "")
    assert (await get(control, "theme")).summary == "disabled (code default)"


async def test_putting_what_is_there_already_makes_no_revision(control: Control, database_url: str) -> None:
    await put(control, {"checkout": SWITCH})
    again = await put(control, {"checkout": {**SWITCH, "source": "elsewhere"}})
    assert (again.revision, list(again.changes)) == (1, [])
    assert rows(database_url, "SELECT count(*) FROM audit_log") == [(1,)]
    # True and 1 are equal in Python, and another type to whoever reads the flag.
    assert (await put(control, {"checkout": {**SWITCH, "variants": {"on": 1, "off": 0}}})).revision == 2


async def test_many_flags_are_put_all_or_none_and_every_problem_is_told(control: Control) -> None:
    flags = {"good": SWITCH, "bad": MALFORMED, "worse": {**SWITCH, "targeting": {"if": [True, "no", "off"]}}}
    async with refused(
        StatusCode.INVALID_ARGUMENT,
        'bad: defaultVariant: must be one of on, off, got "of"',
        'worse: targeting.if[1]: "no" is no variant of this flag; it has on, off',
    ):
        await put(control, flags)
    assert await definitions(control) == {}


async def test_a_rehearsal_tells_everything_and_changes_nothing(control: Control, database_url: str) -> None:
    await control.apply("base", "A")
    await put(control, {"checkout": SWITCH})
    uneven = {**SWITCH, "targeting": {"fractional": [["on", 25], ["off", 70]]}}
    flags = {"checkout": uneven, "bad": MALFORMED, "spam.Z": SWITCH, "spam.base": "off", "gone": "on"}
    told = await put(control, flags, dry_run=True)
    assert (told.dry_run, told.revision) == (True, 2)
    assert touched(told) == [("checkout", "off", "on 26.3158 %"), ("spam.base", "live", "off")]
    assert "checkout: targeting.fractional: weights add up to 95, not 100" in told.warnings[0]
    problems = "\n".join(told.problems)
    for said in ("bad: defaultVariant", "keys that begin with", "base is the live version of spam", "no flag 'gone'"):
        assert said in problems
    assert (await definitions(control))["checkout"] == SWITCH
    assert rows(database_url, "SELECT count(*) FROM flag_revision WHERE revision > 2") == [(0,)]
    assert rows(database_url, "SELECT count(*) FROM audit_log") == [(2,)]


async def test_a_variant_is_served_to_a_share_that_later_only_widens(control: Control) -> None:
    await put(control, {"checkout": {**SWITCH, "metadata": {"owner": "shop"}}})
    for percent in (5, 12.5):
        await put(control, {"checkout": ("on", percent)})
    present = (await definitions(control))["checkout"]
    assert present == {
        **SWITCH,
        "targeting": {"fractional": [["on", 125], ["off", 875]]},
        "metadata": {"owner": "shop"},
    }
    await put(control, {"checkout": "on"})
    assert (await get(control, "checkout")).summary == "on"
    async with refused(StatusCode.INVALID_ARGUMENT, '"on" is the default', "another variant (off)"):
        await put(control, {"checkout": ("on", 5)})
    async with refused(StatusCode.INVALID_ARGUMENT, '"dark" is no variant of this flag; it has on, off'):
        await put(control, {"checkout": "dark"})


async def test_serving_a_variant_never_drops_rules(control: Control) -> None:
    rule = {"if": [{"var": "beta"}, "on", "off"]}
    await put(control, {"checkout": {**SWITCH, "targeting": rule}, "bare": {**SWITCH, "defaultVariant": None}})
    async with refused(StatusCode.FAILED_PRECONDITION, "targeting rules of its own", "shadowctl flags edit checkout"):
        await put(control, {"checkout": "on"})
    async with refused(StatusCode.FAILED_PRECONDITION, "no default variant to serve to the other 95 %"):
        await put(control, {"bare": ("on", 5)})
    async with refused(StatusCode.NOT_FOUND, "no flag 'gone'", "shadowctl flags edit gone"):
        await put(control, {"gone": "on"})


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (pb.FlagWrite(key="checkout"), "say what it is to be"),
        (pb.FlagWrite(key="checkout", definition="{"), "checkout: no JSON at line 1, column 2"),
        (pb.FlagWrite(key="checkout", definition='{"state": 1, "state": 2}'), '"state" stands twice'),
        (pb.FlagWrite(key="checkout", definition='{"variants": {"a": NaN}}'), "NaN is no JSON"),
        (pb.FlagWrite(key="checkout", definition="[" * 100_000), "nested too deeply"),
        (pb.FlagWrite(key="check out", definition=json.dumps(SWITCH)), 'flag key "check out" may hold'),
        (pb.FlagWrite(key="..", definition=json.dumps(SWITCH)), 'flag key ".." may hold'),
    ],
)
async def test_what_cannot_be_read_is_refused_with_its_place(control: Control, write: pb.FlagWrite, said: str) -> None:
    async with refused(StatusCode.INVALID_ARGUMENT, said):
        await control.flag_stub.PutFlags(pb.PutFlagsRequest(flags=[write]))


async def test_a_refusal_fits_into_a_status_however_much_there_is_to_say(control: Control) -> None:
    names = {f"вариант-{i}": "x" for i in range(300)}
    flags = {f"f{i}": {"state": "ENABLED", "variants": names, "defaultVariant": "ы" * 2_000} for i in range(30)}
    async with refused(StatusCode.INVALID_ARGUMENT, "f0: defaultVariant: must be one of"):
        await put(control, flags)
    async with refused(StatusCode.INVALID_ARGUMENT, "flags: name at least one"):
        await put(control, {})
    async with refused(StatusCode.INVALID_ARGUMENT, 'flags[1].key: "a" is named twice'):
        await control.flag_stub.PutFlags(pb.PutFlagsRequest(flags=[_write("a", SWITCH)] * 2))


# --- history ------------------------------------------------------------------------------------------------------


async def test_a_flag_is_deleted_and_its_history_brings_it_back(control: Control) -> None:
    await put(control, {"checkout": SWITCH}, reason="new")
    await put(control, {"checkout": "on"}, reason="go")
    gone = await deleted(control, "checkout", reason="done")
    assert touched(gone) == [("checkout", "on", "deleted")]
    assert await definitions(control) == {}
    async with refused(StatusCode.NOT_FOUND, "deleted at revision 3 by bob", "flags revert checkout --to 2"):
        await get(control, "checkout")
    async with refused(StatusCode.NOT_FOUND, "no flag 'checkout'"):
        await deleted(control, "checkout")
    assert (await get(control, "checkout", revision=1)).summary == "off"
    async with refused(StatusCode.NOT_FOUND, "there was no flag 'checkout' at revision 0"):
        await get(control, "checkout", revision=0)

    back = await reverted(control, 2, "checkout", reason="not done")
    assert touched(back) == [("checkout", "", "on")]
    lines = (await control.flag_stub.ListFlagRevisions(pb.ListFlagRevisionsRequest(key="checkout"))).revisions
    assert [(line.revision, line.changed_by, line.reason, line.summary) for line in lines] == [
        (4, "bob", "not done", "on"),
        (3, "bob", "done", "deleted"),
        (2, "ada", "go", "on"),
        (1, "ada", "new", "off"),
    ]
    assert [bool(line.definition) for line in lines] == [True, False, True, True]
    async with refused(StatusCode.NOT_FOUND, "no flag 'never'"):
        await control.flag_stub.ListFlagRevisions(pb.ListFlagRevisionsRequest(key="never"))


async def test_a_flag_put_and_deleted_in_turn_keeps_every_line(control: Control, database_url: str) -> None:
    for _ in range(3):
        await put(control, {"checkout": SWITCH})
        await deleted(control, "checkout")
    history = rows(database_url, "SELECT revision, definition IS NULL FROM flag_revision ORDER BY revision")
    assert history == [(1, False), (2, True), (3, False), (4, True), (5, False), (6, True)]


async def test_a_set_is_reverted_whole_and_leaves_versions_alone(control: Control) -> None:
    await control.apply("base", "A")
    await put(control, {"kept": SWITCH, "changed": SWITCH, "web.x": {**SWITCH, "metadata": {"flagSetId": "web"}}})
    await put(control, {"changed": "on", "new": SWITCH, "web.x": "on", "spam.A": ("shadow", 5)})
    await deleted(control, "kept")
    undone = await reverted(control, 2, flag_set="")
    assert touched(undone) == [("changed", "on", "off"), ("kept", "", "off"), ("new", "off", "deleted")]
    assert (await get(control, "web.x")).summary == "on"
    assert await control.flags() == {"base": "live", "A": "shadow 5 %"}
    assert touched(await reverted(control, 2, flag_set="web")) == [("web.x", "on", "off")]
    assert touched(await reverted(control, 2, "spam.A")) == [("spam.A", "shadow 5 %", "off")]


async def test_reverts_that_come_all_at_once_do_not_wait_for_each_others_connections(
    control: Control, database_url: str
) -> None:
    await put(control, {"checkout": SWITCH})
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(database_url) as somebody:
        somebody.execute("SELECT id FROM configuration_revision FOR UPDATE")
        reverts = [asyncio.create_task(reverted(control, 0, "checkout", dry_run=True)) for _ in range(4)]
        # As many as control has connections.
        await until(lambda: rows(database_url, waiting) == [(4,)])
    # Whoever waits for a connection fails after five seconds.
    assert [touched(each) for each in await asyncio.gather(*reverts)] == [[("checkout", "off", "deleted")]] * 4


async def test_a_revert_says_what_it_cannot_do(control: Control) -> None:
    await control.apply("base")
    async with refused(StatusCode.INVALID_ARGUMENT, "to_revision: 7 is none; there are 0 to 1"):
        await reverted(control, 7, "spam.base")
    async with refused(StatusCode.INVALID_ARGUMENT, "name either the flags to revert or the set"):
        await reverted(control, 1)
    async with refused(StatusCode.FAILED_PRECONDITION, "flag of version base of spam and cannot be deleted"):
        await reverted(control, 0, "spam.base")
    async with refused(StatusCode.NOT_FOUND, "no flag 'gone', and was none at revision 1"):
        await reverted(control, 1, "gone")


# --- compare and swap ---------------------------------------------------------------------------------------------


async def test_a_stale_edit_is_refused_with_who_changed_what(control: Control) -> None:
    await put(control, {"checkout": SWITCH, "other": SWITCH})
    await put(control, {"checkout": ("on", 25)}, reason="a try")
    async with refused(StatusCode.ABORTED, "checkout at revision 2 by ada", 'UTC: now on 25 % ("a try")', "Read again"):
        await put(control, {"checkout": "on"}, expected_revision=1)
    # What others changed elsewhere is no conflict.
    assert (await put(control, {"other": "on"}, expected_revision=1)).revision == 3
    await deleted(control, "other", expected_revision=3)
    async with refused(StatusCode.ABORTED, "other at revision 4 by bob", "deleted"):
        await put(control, {"other": SWITCH}, expected_revision=3)
    async with refused(StatusCode.INVALID_ARGUMENT, "expected_revision: 9 is none"):
        await put(control, {"other": SWITCH}, expected_revision=9)


async def test_of_two_who_edit_at_once_one_is_told_to_look_again(control: Control, database_url: str) -> None:
    await put(control, {"checkout": SWITCH})
    async with control_address(database_url) as other, asked(other) as second:
        results = await asyncio.gather(
            put(control, {"checkout": ("on", 5)}, expected_revision=1),
            put(second, {"checkout": ("on", 50)}, expected_revision=1),
            return_exceptions=True,
        )
    failed = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [error.code() for error in failed] == [StatusCode.ABORTED]
    assert rows(database_url, "SELECT max(revision) FROM flag_revision") == [(2,)]


async def test_a_replacing_import_is_stale_when_its_set_has_grown(control: Control) -> None:
    await put(control, {"a": SWITCH})
    await put(control, {"b": SWITCH})
    async with refused(StatusCode.ABORTED, "b at revision 2 by ada"):
        await imported(control, {"flags": {"a": SWITCH}}, replace=True, expected_revision=1)
    assert (await imported(control, {"flags": {"a": SWITCH}}, expected_revision=1)).revision == 2


# --- documents ----------------------------------------------------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "$schema": "https://flagd.dev/schema/v0/flags.json",
    "flags": {
        "checkout": {**SWITCH, "targeting": {"if": [{"$ref": "beta"}, "on", None]}},
        "size": {"state": "ENABLED", "variants": {"s": 1, "l": 2.0}, "defaultVariant": "s", "metadata": {"tier": 2}},
    },
    "$evaluators": {"beta": {"in": ["@example.com", {"var": "email"}]}},
    "metadata": {"flagSetId": "web", "owner": "shop", "tier": 1, "version": "from-a-file"},
}


async def test_a_flagd_document_is_imported_and_comes_out_as_it_went_in(control: Control) -> None:
    changes = await imported(control, DOCUMENT)
    assert [change.key for change in changes.changes] == ["checkout", "size"]
    flags = await definitions(control, flag_set="web")
    assert flags["checkout"]["targeting"] == {"if": [DOCUMENT["$evaluators"]["beta"], "on", None]}
    assert flags["checkout"]["metadata"] == {"flagSetId": "web", "owner": "shop", "tier": 1}
    assert flags["size"]["metadata"] == {"flagSetId": "web", "owner": "shop", "tier": 2}

    document = await exported(control, flag_set="web")
    assert document["metadata"] == {"flagSetId": "web", "version": "1"}
    assert list(document["flags"]["size"]) == ["state", "variants", "defaultVariant", "metadata"]
    FlagdCore().set_flags(json.dumps(document))
    again = await imported(control, document, replace=True)
    assert list(again.changes) == []
    await deleted(control, "checkout", "size")
    await imported(control, document)
    assert json.dumps(await exported(control, flag_set="web", revision=1)) == json.dumps(document)
    assert (await exported(control, flag_set="web"))["flags"] == document["flags"]


async def test_flags_may_stand_in_a_list_as_the_daemon_takes_them(control: Control) -> None:
    document = json.dumps({"flags": [{"key": "a", **SWITCH}, {"key": "b", **SWITCH}]})
    await imported(control, " " * 5_000_000 + document)
    assert await definitions(control) == {"a": SWITCH, "b": SWITCH}


async def test_an_import_that_replaces_deletes_the_rest_of_its_set_only(control: Control) -> None:
    await control.apply("base", "A")
    await put(control, {"old": SWITCH, "kept": SWITCH, "web.x": {**SWITCH, "metadata": {"flagSetId": "web"}}})
    document = {"flags": {"kept": {**SWITCH, "defaultVariant": "on"}}}
    rehearsed = await imported(control, document, replace=True, dry_run=True)
    replaced = await imported(control, document, replace=True)
    assert touched(replaced) == touched(rehearsed) == [("kept", "off", "on"), ("old", "off", "deleted")]
    assert set(await definitions(control)) == {"kept", "spam.A", "spam.base", "web.x"}


@pytest.mark.parametrize(
    ("document", "code", "said"),
    [
        ("{", StatusCode.INVALID_ARGUMENT, "document: no JSON at line 1"),
        ([], StatusCode.INVALID_ARGUMENT, 'must be an object with "flags"'),
        ({"flags": 1}, StatusCode.INVALID_ARGUMENT, "flags: must be an object of definitions by key"),
        ({"flags": [SWITCH]}, StatusCode.INVALID_ARGUMENT, "flags[0].key: is missing"),
        ({"flags": [{"key": "a", **SWITCH}] * 2}, StatusCode.INVALID_ARGUMENT, 'flags[1].key: "a" is there twice'),
        ({"flags": {}, "$evaluators": []}, StatusCode.INVALID_ARGUMENT, "$evaluators: must be an object"),
        ({"flags": {"a": MALFORMED, "b": SWITCH}}, StatusCode.INVALID_ARGUMENT, "a: defaultVariant: must be one of"),
        ({"flags": {"a": [1]}}, StatusCode.INVALID_ARGUMENT, "a: a definition is an object"),
        ({"flags": {"a": SWITCH}, "metadata": {"owner": {}}}, StatusCode.INVALID_ARGUMENT, "a: metadata.owner"),
        ({"flags": {"taken": SWITCH}}, StatusCode.FAILED_PRECONDITION, "taken: is a flag of the set 'web' already"),
        (
            {"flags": {"spam.A": claim_definition("spam", Claim.OFF)}, "metadata": {"flagSetId": "web"}},
            StatusCode.INVALID_ARGUMENT,
            "the flags of versions are in the default set",
        ),
        ({"flags": {"spam.base": claim_definition("spam", Claim.OFF)}}, StatusCode.FAILED_PRECONDITION, "live version"),
    ],
)
async def test_a_document_with_a_mistake_changes_nothing(
    control: Control, document: Any, code: StatusCode, said: str
) -> None:
    await control.apply("base", "A")
    await put(control, {"taken": {**SWITCH, "metadata": {"flagSetId": "web"}}})
    before = await definitions(control)
    async with refused(code, said):
        await imported(control, document, replace=True)
    assert await definitions(control) == before


async def test_whatever_is_changed_at_random_a_revert_finds_the_way_back(control: Control) -> None:
    chance = random.Random(4)
    documents: list[Any] = [await exported(control)]
    for _ in range(15):
        keys = chance.sample(["a", "b", "c", "d"], 2)
        present = await definitions(control)
        if chance.random() < 0.3 and set(keys) <= set(present):
            await deleted(control, *keys)
        else:
            flags = {key: {**SWITCH, "metadata": {"n": chance.random()}} for key in keys}
            await put(control, flags)
        documents.append(await exported(control))
    for document in chance.sample(documents, len(documents)):
        revision = int(document["metadata"]["version"])
        assert await exported(control, revision=revision) == document
        await reverted(control, revision, flag_set="")
        assert (await exported(control))["flags"] == document["flags"]


# --- versions -----------------------------------------------------------------------------------------------------


async def test_a_versions_flag_is_edited_by_its_rules(control: Control) -> None:
    await control.apply("base", "A", "B")
    rule = {"if": [{"==": [{"var": "country"}, "AT"]}, "shadow", "off"]}
    shadow = {**claim_definition("spam", Claim.OFF), "targeting": rule, "metadata": {"owner": "ml"}}
    changes = await put(control, {"spam.A": shadow}, reason="Austria only")
    assert list(changes.effects) == [
        "no experiment of spam runs, so what A answers to copies is not compared; `shadowctl start A` begins one"
    ]
    flag = await get(control, "spam.A")
    assert (flag.model, flag.version, flag.summary) == ("spam", "A", "targeting rule")

    live = {**claim_definition("spam", Claim.OFF), "targeting": {"if": [{"var": "beta"}, "live", "off"]}}
    async with refused(StatusCode.FAILED_PRECONDITION, "base of spam claims `live` already", "shadowctl promote A"):
        await put(control, {"spam.A": live})
    async with refused(StatusCode.FAILED_PRECONDITION, "base is the live version of spam", "shadowctl promote VERSION"):
        await put(control, {"spam.base": claim_definition("spam", Claim.SHADOW, 10)})
    async with refused(StatusCode.FAILED_PRECONDITION, "no other version of spam claims `live` for the other 50 %"):
        await put(control, {"spam.base": ("live", 50)})
    async with refused(StatusCode.FAILED_PRECONDITION, "cannot be deleted", "flags set spam.A off"):
        await deleted(control, "spam.A")
    async with refused(StatusCode.FAILED_PRECONDITION, "it has no version 'Z' (it has base, A, B)"):
        await put(control, {"spam.Z": claim_definition("spam", Claim.OFF)})
    async with refused(StatusCode.INVALID_ARGUMENT, 'spam.A: "on" is no claim; a version claims off, shadow or live'):
        await put(control, {"spam.A": "on"})
    async with refused(StatusCode.INVALID_ARGUMENT, "spam.A: variants: must be exactly"):
        await put(control, {"spam.A": SWITCH})
    # Whose it is may be written down on a live version, too; and setting a claim leaves that.
    owned = {**claim_definition("spam", Claim.LIVE), "metadata": {"owner": "ml"}}
    await put(control, {"spam.base": owned, "spam.A": "off"})
    assert (await definitions(control))["spam.A"]["metadata"] == {"owner": "ml"}
    assert await control.flags() == {"base": "live", "A": "off", "B": "off"}


async def test_an_edit_ends_a_rollout_as_setting_the_flag_does(control: Control) -> None:
    await control.apply("base", "A")
    await control.promote("A", percent=5)
    async with refused(StatusCode.FAILED_PRECONDITION, "a second live claim is only made by promotion", "--percent 50"):
        await put(control, {"spam.A": ("live", 50)})
    await put(control, {"spam.A": "shadow"})
    async with refused(StatusCode.FAILED_PRECONDITION, "no promotion of spam is left"):
        await control.rollback()


async def test_an_edit_says_what_it_does_to_a_running_experiment(control: Control, database_url: str) -> None:
    await control.apply("base", "A", "B", "C")
    await control.start("A", "B", percent=25)
    unjudged = "the sample_ratio gate cannot be judged any more in this epoch"
    off = await control.set_flag("A", control_pb2.CLAIM_OFF, dry_run=True)
    assert off.effects == (await put(control, {"spam.A": "off"})).effects
    (effect,) = off.effects
    assert effect.startswith("experiment 1: A gets no copies of requests any more: its numbers stand still")
    assert effect.endswith(unjudged)
    assert list((await put(control, {"spam.A": ("shadow", 10)})).effects) == [
        f"experiment 1: A gets copies again (shadow 10 %); {unjudged}"
    ]
    changes = await put(control, {"spam.A": ("shadow", 50), "spam.C": ("shadow", 5)})
    assert list(changes.effects) == [
        f"experiment 1: the share of A changes (shadow 10 % → shadow 50 %), and its statistics go on; {unjudged}",
        "experiment 1: C is no candidate of it, so copies for C are not compared",
    ]
    assert rows(database_url, "SELECT number, closed_at IS NULL FROM epoch") == [(1, True)]


async def test_epochs_turn_once_when_an_edit_changes_who_may_serve(control: Control, database_url: str) -> None:
    await control.apply("base", "A", "B", "C")
    await control.start("A", percent=25)
    await control.promote("B")
    await control.promote("C")
    assert await control.flags() == {"base": "off", "A": "shadow 25 %", "B": "live", "C": "live"}
    before = {row[0] for row in rows(database_url, "SELECT id FROM epoch WHERE closed_at IS NULL")}
    changes = await put(control, {"spam.B": "off", "spam.A": "off"})
    after = rows(database_url, "SELECT id, live, reason FROM epoch WHERE closed_at IS NULL")
    assert [(live, reason) for _, live, reason in after] == [("C", "flag of A set to off, B set to off")]
    assert before.isdisjoint({row[0] for row in after})
    (effect,) = changes.effects
    assert effect.startswith("experiment 1: who may serve changes, so its statistics begin anew")


async def test_a_version_is_not_registered_over_somebody_elses_flag(control: Control) -> None:
    await put(control, {"spam.A": SWITCH, "spam.B": claim_definition("spam", Claim.LIVE)})
    async with refused(
        StatusCode.FAILED_PRECONDITION, "another flag of that key, which says on, off", "flags delete spam.A"
    ):
        await control.apply("base", "A")
    await control.apply("base", "B")
    assert await control.flags() == {"base": "live", "B": "off"}, "what an import left never makes a new version live"
    # It cannot be made any more, but it is there, and can be changed until it is deleted.
    await put(control, {"spam.A": "on"})
    await deleted(control, "spam.A")
    await control.apply("A")


async def test_no_way_of_writing_commits_what_kills_stock_clients(control: Control, database_url: str) -> None:
    await control.apply("base", "A")
    await put(control, {"checkout": SWITCH})
    (definition,) = rows(database_url, "SELECT definition FROM flag_revision WHERE key = 'checkout'")[0]
    assert definition == SWITCH
    malformed: Sequence[dict[str, Any]] = [
        MALFORMED,
        {**SWITCH, "state": "ON"},
        {**SWITCH, "variants": {}},
        {**SWITCH, "targeting": [1]},
        {**SWITCH, "metadata": {"a": None}},
    ]
    for bad in malformed:
        for key in ("checkout", "new", "spam.A"):
            async with refused(StatusCode.INVALID_ARGUMENT, f"{key}: "):
                await put(control, {key: bad})
            async with refused(StatusCode.INVALID_ARGUMENT, f"{key}: "):
                await imported(control, {"flags": {key: bad}})
    # Even when an older program left one in the history, reverting to it does not bring it back.
    rows(
        database_url, f"UPDATE flag_revision SET definition = '{json.dumps(MALFORMED)}' WHERE revision = 2 RETURNING 1"
    )
    await put(control, {"checkout": {**SWITCH, "defaultVariant": "on"}})
    async with refused(StatusCode.INVALID_ARGUMENT, "checkout: defaultVariant"):
        await reverted(control, 2, "checkout")
    FlagdCore().set_flags({"flags": await definitions(control)})
