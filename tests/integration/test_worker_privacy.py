"""A real worker stores by the terms that its models have when it stores."""

from __future__ import annotations

from dataclasses import replace

import pytest

from multishadow_server.adapters.postgres import PostgresControl
from multishadow_server.adapters.postgres.hash_key import PostgresHashKey
from multishadow_server.core.privacy import Payloads, PrivacyTerms
from multishadow_server.core.redaction import SEALED
from multishadow_server.settings import Settings
from shadowed_traffic import MODEL, append, request_of, staged, working
from store_fixtures import opened, rows
from version_servers import diverging
from waiting import until


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=2,
        worker_linger=0.05,
        report_interval=0.05,
    )


async def say(database_url: str, payloads: Payloads) -> int:
    """Give the model other terms; returns the revision."""
    async with opened(database_url) as engine, PostgresControl(engine).change("ada") as change:
        model = change.configuration.models[MODEL]
        await change.put_model(replace(model, privacy=PrivacyTerms(payloads=payloads)))
        return change.revision


async def test_other_terms_count_for_requests_that_were_decided_after_them(settings: Settings) -> None:
    database_url = str(settings.database_url)
    async with staged(settings, {"A": diverging(1.0)}) as stage, working(settings):
        for place, payloads in enumerate((Payloads.FULL, Payloads.HASHED, Payloads.NONE), start=1):
            # What it has already is no change, and makes no revision.
            revision = stage.epoch.from_revision if place == 1 else await say(database_url, payloads)
            sent = stage.captures(5, prefix=f"{payloads}", revision=revision, session_id="user-17")
            await append(stage.log, sent)
            await stage.counts.reach(5 * place)
    stored = rows(
        database_url,
        "SELECT payloads, count(*), min(length(request)), min(session_id) = 'user-17' FROM comparison "
        "GROUP BY payloads ORDER BY payloads",
    )
    full = len(request_of("full-0"))
    assert stored == [("full", 5, full, True), ("hashed", 5, len(SEALED) + 64, False), ("none", 5, 0, False)]


async def test_a_worker_with_another_key_than_the_deployments_stores_nothing_and_says_why(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    database_url = str(settings.database_url)
    async with opened(database_url) as engine:
        await PostgresHashKey(engine, given="the deployment's key").seal()
    async with staged(settings, {"A": diverging(1.0)}) as stage:
        await append(stage.log, stage.captures(5))
        async with working(settings.model_copy(update={"hash_key": "not the deployment's key"})):
            await until(lambda: "not the key that this deployment's hashes were made with" in caplog.text)
        assert rows(database_url, "SELECT count(*) FROM comparison") == [(0,)]
        # Nothing is lost by it: who has the key goes on.
        async with working(settings.model_copy(update={"hash_key": "the deployment's key"})):
            await stage.counts.reach(5)
        assert rows(database_url, "SELECT count(*) FROM comparison") == [(5,)]
