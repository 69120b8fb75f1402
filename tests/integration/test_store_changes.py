"""Changes of the configuration: one at a time, each with its revision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import PostgresConfiguration, PostgresControl
from multishadow_server.core.model import Comparator, Version
from multishadow_server.errors import Conflict, FailedPrecondition, InvalidInput, NotFound
from store_fixtures import COMPARATOR, LIVE, OFF, open_first_epoch, opened, register, rows, spam


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(database_url) as engine:
        yield engine


@pytest.fixture
def store(engine: AsyncEngine) -> PostgresControl:
    return PostgresControl(engine)


async def test_the_empty_store_is_at_revision_zero(store: PostgresControl) -> None:
    configuration = await store.read()
    assert (configuration.revision, configuration.models, configuration.flags, configuration.epochs) == (0, {}, {}, ())
    assert (await store.flags(), await store.experiments(), await store.processes()) == ([], [], [])


async def test_what_was_registered_is_read_back_whole(store: PostgresControl) -> None:
    await register(store, spam("base", "A", default_timeout=3.5))
    configuration = await store.read()
    model = configuration.models["spam"]
    assert (model.comparator, model.default_timeout) == (COMPARATOR, 3.5)
    assert [(version.name, version.ordinal) for version in model.versions] == [("base", 0), ("A", 1)]
    assert configuration.flags == {"spam.base": OFF, "spam.A": OFF}
    assert model.created_at == pytest.approx(time.time(), abs=60)


async def test_everything_in_one_change_has_one_revision(store: PostgresControl) -> None:
    await register(store, spam("base", "A"))
    assert [(flag.key, flag.revision, flag.changed_by) for flag in await store.flags()] == [
        ("spam.A", 1, "ada"),
        ("spam.base", 1, "ada"),
    ]
    assert (await store.read()).revision == 1


async def test_a_change_that_writes_nothing_makes_no_revision(store: PostgresControl) -> None:
    await register(store, spam("base", "A"))
    await register(store, spam("base", "A"))
    assert (await store.read()).revision == 1


async def fail_midway(store: PostgresControl) -> None:
    """A change that writes, and then fails."""
    async with store.change("ada") as change:
        await change.put_model(spam("A"))
        await change.put_versions(spam("A"))
        await change.put_flag("spam.A", LIVE, reason="hasty")
        await change.audit("set-flag", "spam.A", {})
        raise ZeroDivisionError


async def test_a_change_that_fails_leaves_nothing(store: PostgresControl, database_url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        await fail_midway(store)
    configuration = await store.read()
    assert (configuration.revision, configuration.models, configuration.flags) == (0, {}, {})
    assert rows(database_url, "SELECT count(*) FROM audit_log") == [(0,)]


async def test_a_change_sees_the_configuration_as_it_was_when_it_began(store: PostgresControl) -> None:
    await register(store, spam("base"))
    async with store.change("ada") as change:
        await change.put_flag("spam.base", LIVE, reason="go")
        assert change.configuration.flags == {"spam.base": OFF}
        assert (change.configuration.revision, change.revision) == (1, 2)
        assert change.now == pytest.approx(time.time(), abs=60)


async def test_changes_wait_for_one_another_and_none_is_lost(store: PostgresControl) -> None:
    await register(store, spam("base"))

    async def count_up() -> float:
        async with store.change("ada") as change:
            present = change.configuration.flags["spam.base"].get("metadata", {}).get("count", 0)
            await change.put_flag("spam.base", {**OFF, "metadata": {"count": present + 1}}, reason="one more")
            return change.now

    await asyncio.gather(*(count_up() for _ in range(12)))
    configuration = await store.read()
    assert configuration.flags["spam.base"]["metadata"] == {"count": 12}
    assert configuration.revision == 13


async def test_times_of_changes_follow_their_revisions(store: PostgresControl, database_url: str) -> None:
    async def change_flag(n: int) -> None:
        async with store.change("ada") as change:
            await change.put_flag("spam.base", {**OFF, "metadata": {"n": n}}, reason="")

    await asyncio.gather(*(change_flag(n) for n in range(8)))
    times = [at for (at,) in rows(database_url, "SELECT changed_at FROM flag_revision ORDER BY revision")]
    assert len(times) == 8
    assert times == sorted(times)


# --- models and versions ------------------------------------------------------------------------------------------


async def test_versions_keep_their_place_whatever_the_order_they_are_given_in_later(store: PostgresControl) -> None:
    await register(store, spam("base", "A"))
    await register(store, spam("C", "A", "B", "base"))
    versions = (await store.read()).models["spam"].versions
    assert [(version.name, version.ordinal) for version in versions] == [("base", 0), ("A", 1), ("C", 2), ("B", 3)]


async def test_a_version_that_is_put_again_is_updated_in_place(store: PostgresControl) -> None:
    await register(store, spam("base", "A"))
    before = (await store.read()).models["spam"].version("base")
    moved = Version(model="spam", name="base", address="[::1]:7", timeout=0.5)
    await register(store, spam(versions=(moved,)))
    after = (await store.read()).models["spam"].version("base")
    assert before is not None
    assert after is not None
    assert (after.address, after.timeout, after.ordinal) == ("[::1]:7", 0.5, 0)
    assert after.created_at == before.created_at


async def test_a_version_that_is_left_out_stays(store: PostgresControl) -> None:
    await register(store, spam("base", "A"))
    await register(store, spam("B"))
    assert [version.name for version in (await store.read()).models["spam"].versions] == ["base", "A", "B"]


async def test_a_models_settings_change_without_its_versions(store: PostgresControl) -> None:
    await register(store, spam("base", "A"))
    async with store.change("ada") as change:
        await change.put_model(spam(comparator=Comparator(threshold=0.5)))
    model = (await store.read()).models["spam"]
    assert model.comparator == Comparator(threshold=0.5)
    assert len(model.versions) == 2


async def test_versions_of_an_unknown_model_are_refused(store: PostgresControl) -> None:
    with pytest.raises(NotFound, match="no model 'spam'"):
        async with store.change("ada") as change:
            await change.put_versions(spam("base"))


# --- flags --------------------------------------------------------------------------------------------------------


async def test_every_former_definition_of_a_flag_stays_in_the_history(
    store: PostgresControl, database_url: str
) -> None:
    await register(store, spam("base"))
    for definition in (LIVE, OFF):
        async with store.change("bob") as change:
            await change.put_flag("spam.base", definition, reason="to and fro")
    history = "SELECT revision, definition->>'defaultVariant', changed_by, reason FROM flag_revision ORDER BY revision"
    assert rows(database_url, history) == [
        (1, "off", "ada", "registered"),
        (2, "live", "bob", "to and fro"),
        (3, "off", "bob", "to and fro"),
    ]
    (flag,) = await store.flags()
    assert (flag.definition, flag.revision, flag.changed_by, flag.reason) == (OFF, 3, "bob", "to and fro")


async def test_a_flag_put_twice_in_one_change_has_the_last_definition(store: PostgresControl) -> None:
    await register(store, spam("base"))
    async with store.change("ada") as change:
        await change.put_flag("spam.base", LIVE, reason="first")
        await change.put_flag("spam.base", OFF, reason="second")
    (flag,) = await store.flags()
    assert (flag.definition, flag.reason, flag.revision) == (OFF, "second", 2)


async def test_numbers_in_a_definition_keep_their_kind(store: PostgresControl) -> None:
    variants = {"whole": 25, "real": 25.0, "tiny": 1e-9}
    async with store.change("ada") as change:
        await change.put_flag("steps", {"state": "ENABLED", "variants": variants, "defaultVariant": "real"}, reason="")
    read = (await store.read()).flags["steps"]["variants"]
    assert {name: (type(value), value) for name, value in read.items()} == {
        name: (type(value), value) for name, value in variants.items()
    }


async def test_a_definition_that_cannot_be_stored_is_refused(store: PostgresControl) -> None:
    with pytest.raises(InvalidInput):
        async with store.change("ada") as change:
            await change.put_flag("spam.base", {**OFF, "metadata": {"note": "nul \x00"}}, reason="")


MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("spam.base", {}),
    ("spam.base", {**OFF, "state": "DISABLED"}),
    ("spam.base", {**OFF, "defaultVariant": "on"}),
    ("spam.base", {**OFF, "targeting": {"fractional": [["live", 2.5], ["off", 97.5]]}}),
    ("spam.base", {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}),
    ("checkout", {**OFF, "state": "ON"}),
    ("checkout", {**OFF, "variants": {}}),
    ("checkout", {**OFF, "targeting": {"roll": [6]}}),
    ("checkout", {**OFF, "metadata": {"owner": None}}),
    ("check out", OFF),
    ("spam.Z", OFF),
]


@pytest.mark.parametrize(("key", "definition"), MALFORMED)
async def test_what_a_reader_of_flags_would_choke_on_cannot_be_written_by_any_code(
    store: PostgresControl, database_url: str, key: str, definition: dict[str, Any]
) -> None:
    await register(store, spam("base"))
    async with store.change("ada") as change:
        with pytest.raises((InvalidInput, FailedPrecondition), match=key):
            await change.put_flag(key, definition, reason="hasty")
        await change.put_flag("other", OFF, reason="the change goes on")
    assert (await store.read()).flags == {"spam.base": OFF, "other": OFF}
    assert rows(database_url, "SELECT key FROM flag_revision ORDER BY key") == [("other",), ("spam.base",)]


async def test_all_flags_together_stay_within_one_message_to_clients(store: PostgresControl) -> None:
    large = {**OFF, "metadata": {"note": "x" * 200_000}}
    async with store.change("ada") as change:
        for n in range(15):
            await change.put_flag(f"flag-{n}", large, reason="")
        with pytest.raises(InvalidInput, match="one message"):
            await change.put_flag("one-more", large, reason="")
        await change.put_flag("flag-0", OFF, reason="smaller ones are always taken")
        await change.put_flag("one-more", large, reason="")


async def test_a_deleted_flag_leaves_its_history_and_who_deleted_it(store: PostgresControl) -> None:
    await register(store, spam("base"))
    async with store.change("ada") as change:
        await change.put_flag("checkout", OFF, reason="new")
    async with store.change("bob") as change:
        await change.delete_flag("checkout", reason="done")
        await change.delete_flag("checkout", reason="again")
        with pytest.raises(FailedPrecondition, match="flag of version base of spam"):
            await change.delete_flag("spam.base", reason="")
    assert (await store.read()).flags == {"spam.base": OFF}
    history = await store.flag_history("checkout")
    assert await store.flag_history("checkout", before=history[0].revision, most=1) == history[1:2]
    lines = [(line.revision, line.definition, line.changed_by) for line in history]
    assert lines == [(3, None, "bob"), (2, OFF, "ada")]
    assert await store.flags_at(2) == {"spam.base": OFF, "checkout": OFF}
    assert await store.flags_at(0) == {}
    async with store.change("ada") as change:
        since = await change.flag_revisions(["checkout", "spam.base"], after=1)
    assert [(line.key, line.revision) for line in since] == [("checkout", 2), ("checkout", 3)]


async def test_a_flag_put_and_deleted_in_one_change_is_not_there(store: PostgresControl) -> None:
    async with store.change("ada") as change:
        await change.put_flag("checkout", OFF, reason="")
        await change.delete_flag("checkout", reason="")
    assert (await store.read()).flags == {}
    async with store.change("ada") as change:
        await change.put_flag("checkout", OFF, reason="")
        await change.delete_flag("checkout", reason="")
        await change.put_flag("checkout", LIVE, reason="")
    assert (await store.read()).flags == {"checkout": LIVE}


async def test_a_rehearsal_commits_nothing(store: PostgresControl, database_url: str) -> None:
    async with store.change("ada") as change:
        await change.put_flag("checkout", OFF, reason="")
        await change.audit("put_flags", "checkout", {})
        change.discard()
    assert ((await store.read()).revision, (await store.read()).flags) == (0, {})
    assert rows(database_url, "SELECT count(*) FROM audit_log") == [(0,)]


# --- experiments and epochs ---------------------------------------------------------------------------------------


async def test_an_experiment_runs_until_it_is_stopped(store: PostgresControl) -> None:
    epoch = await open_first_epoch(store)
    async with store.change("ada") as change:
        running = await change.running_experiment("spam")
        assert running is not None
        assert (running.id, running.candidates, running.percent) == (epoch.experiment_id, ("A",), 25.0)
        assert running.ends_at - running.started_at == pytest.approx(86_400)
        stopped = await change.stop_experiment(running, reason="enough")
        assert await change.running_experiment("spam") is None
    assert await store.experiments("spam") == [stopped]
    assert (stopped.stop_reason, stopped.running, stopped.started_by) == ("enough", False, "ada")


async def test_a_model_runs_one_experiment_at_a_time(store: PostgresControl) -> None:
    await open_first_epoch(store)
    with pytest.raises(Conflict, match="uq_experiment_running"):
        async with store.change("bob") as change:
            await change.start_experiment(model="spam", candidates=["A"], percent=5, bucket_seconds=3600, duration=60)


async def test_an_experiment_is_stopped_once(store: PostgresControl) -> None:
    await open_first_epoch(store)
    (experiment,) = await store.experiments()
    async with store.change("ada") as change:
        await change.stop_experiment(experiment, reason="enough")
    with pytest.raises(Conflict, match="stopped already"):
        async with store.change("bob") as change:
            await change.stop_experiment(experiment, reason="again")


async def test_experiments_are_listed_newest_first(store: PostgresControl) -> None:
    await open_first_epoch(store)
    (first,) = await store.experiments()
    async with store.change("ada") as change:
        await change.stop_experiment(first, reason="")
        second = await change.start_experiment(
            model="spam", candidates=["A"], percent=5, bucket_seconds=60, duration=60
        )
    assert [experiment.id for experiment in await store.experiments()] == [second.id, first.id]
    assert await store.experiments("ham") == []
    assert await store.experiments("spam", running=True) == [second]
    assert await store.latest_experiment("spam") == second
    assert await store.latest_experiment("ham") is None
    assert [await store.experiment(number) for number in (second.id, 99, 10**30)] == [second, None, None]


@pytest.mark.parametrize("percent", [0, 100.5, float("nan")])
async def test_a_share_out_of_range_is_refused(store: PostgresControl, percent: float) -> None:
    await register(store, spam("base", "A"))
    with pytest.raises(InvalidInput, match="ck_experiment_percent"):
        async with store.change("ada") as change:
            await change.start_experiment(
                model="spam", candidates=["A"], percent=percent, bucket_seconds=3600, duration=60
            )


async def test_an_experiment_on_an_unknown_model_is_refused(store: PostgresControl) -> None:
    with pytest.raises(NotFound, match="spam"):
        async with store.change("ada") as change:
            await change.start_experiment(model="spam", candidates=["A"], percent=5, bucket_seconds=3600, duration=60)


async def test_epochs_are_numbered_and_meet_without_a_gap(store: PostgresControl) -> None:
    first = await open_first_epoch(store)
    async with store.change("ada") as change:
        experiment = await change.running_experiment("spam")
        assert experiment is not None
        await change.close_epoch(first)
        await change.open_epoch(experiment, live="A", candidates=["base"], comparator=COMPARATOR, reason="A went live")
    epochs = await store.epochs(first.experiment_id)
    assert [(epoch.number, epoch.live, epoch.from_revision, epoch.until_revision) for epoch in epochs] == [
        (1, "base", 2, 3),
        (2, "A", 3, None),
    ]
    assert (await store.read()).epochs == tuple(epochs)


async def test_an_epoch_keeps_its_comparator_when_the_models_changes(store: PostgresControl) -> None:
    epoch = await open_first_epoch(store)
    async with store.change("ada") as change:
        await change.put_model(spam(comparator=Comparator(threshold=0.5)))
    assert (await store.epochs(epoch.experiment_id))[0].comparator == COMPARATOR


async def test_an_epoch_is_closed_once(store: PostgresControl) -> None:
    epoch = await open_first_epoch(store)
    async with store.change("ada") as change:
        await change.close_epoch(epoch)
    with pytest.raises(Conflict, match="closed already"):
        async with store.change("bob") as change:
            await change.close_epoch(epoch)


async def test_epochs_of_a_stopped_experiment_are_read_for_a_day(store: PostgresControl, database_url: str) -> None:
    epoch = await open_first_epoch(store)
    async with store.change("ada") as change:
        experiment = await change.running_experiment("spam")
        assert experiment is not None
        await change.close_epoch(epoch)
        await change.stop_experiment(experiment, reason="enough")
    assert [each.id for each in (await store.read()).epochs] == [epoch.id]
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE epoch SET closed_at = closed_at - interval '25 hours'")
    assert (await store.read()).epochs == ()


# --- promotions and audit -----------------------------------------------------------------------------------------


async def test_the_last_promotion_is_the_newest_that_stands(store: PostgresControl) -> None:
    await register(store, spam("base", "A", "B"))
    before = {"spam.A": OFF, "spam.base": LIVE}
    for version, previous in (("A", "base"), ("B", "A")):
        async with store.change("ada") as change:
            await change.record_promotion(model="spam", version=version, previous=previous, flags_before=before)
    async with store.change("bob") as change:
        last = await change.last_promotion("spam")
        assert last is not None
        assert (last.version, last.previous, last.flags_before, last.revision) == ("B", "A", before, 3)
        await change.mark_rolled_back(last)
        former = await change.last_promotion("spam")
        assert former is not None
        assert former.version == "A"
    with pytest.raises(Conflict, match="rolled back already"):
        async with store.change("bob") as change:
            await change.mark_rolled_back(last)


async def test_promoting_a_version_that_does_not_exist_is_refused(store: PostgresControl) -> None:
    await register(store, spam("base"))
    with pytest.raises(NotFound):
        async with store.change("ada") as change:
            await change.record_promotion(model="spam", version="Z", previous="base", flags_before={})


async def test_a_line_of_the_audit_log_alone_makes_no_revision(store: PostgresControl, database_url: str) -> None:
    async with store.change("ada") as change:
        await change.audit("promote", "spam", {"refused": "gate"})
    assert (await store.read()).revision == 0
    assert rows(database_url, "SELECT actor, action, subject, detail FROM audit_log") == [
        ("ada", "promote", "spam", {"refused": "gate"})
    ]


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET actor = 'eve'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_the_audit_log_refuses_to_be_changed(store: PostgresControl, database_url: str, statement: str) -> None:
    async with store.change("ada") as change:
        await change.audit("set-flag", "spam.A", {})
    with (
        pytest.raises(psycopg.errors.RaiseException, match="only appended to"),
        psycopg.connect(database_url) as connection,
    ):
        connection.execute(statement.encode())
    assert rows(database_url, "SELECT actor FROM audit_log") == [("ada",)]


# --- announcements ------------------------------------------------------------------------------------------------


async def test_changes_are_announced_in_order_after_the_present_revision(
    store: PostgresControl, engine: AsyncEngine
) -> None:
    await register(store, spam("base"))
    async with aclosing(PostgresConfiguration(engine).changes()) as changes:
        assert await anext(changes) == 1
        for definition in (LIVE, OFF):
            async with store.change("ada") as change:
                await change.put_flag("spam.base", definition, reason="")
        assert [await anext(changes), await anext(changes)] == [2, 3]


async def test_a_change_that_fails_is_not_announced(store: PostgresControl, engine: AsyncEngine) -> None:
    async with aclosing(PostgresConfiguration(engine).changes()) as changes:
        assert await anext(changes) == 0
        with pytest.raises(ZeroDivisionError):
            await fail_midway(store)
        async with store.change("ada") as change:
            await change.put_flag("spam.B", LIVE, reason="")
        assert await anext(changes) == 1
        assert list((await store.read()).flags) == ["spam.B"]


async def test_the_revision_alone_is_the_configurations(store: PostgresControl, engine: AsyncEngine) -> None:
    source = PostgresConfiguration(engine)
    assert await source.revision() == 0
    await register(store, spam("base"))
    assert await source.revision() == (await source.read()).revision == 1


async def test_a_configuration_is_read_whole_while_it_changes(store: PostgresControl, engine: AsyncEngine) -> None:
    await register(store, spam("base", "A"))
    source = PostgresConfiguration(engine)

    async def swap() -> None:
        for turn in range(30):
            async with store.change("ada") as change:
                for key, definition in zip(
                    ("spam.base", "spam.A"), (LIVE, OFF) if turn % 2 else (OFF, LIVE), strict=True
                ):
                    await change.put_flag(key, definition, reason="")

    async def live_ones() -> set[int]:
        seen = set()
        while (configuration := await source.read()).revision < 31:
            if configuration.revision > 1:
                seen.add(sum(flag == LIVE for flag in configuration.flags.values()))
        return seen

    _, seen = await asyncio.gather(swap(), live_ones())
    assert seen == {1}


async def test_a_listener_that_is_closed_gives_its_connection_back(engine: AsyncEngine, database_url: str) -> None:
    async with aclosing(PostgresConfiguration(engine).changes()) as changes:
        await anext(changes)
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    assert rows(database_url, listening) == [(0,)]
