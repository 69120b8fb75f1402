"""A small world for tests of the store: a model with three versions, and an experiment that runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.core.capture import Capture
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.service.ports import Flush, StoredComparison

NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC
BUCKET = int(NOON)
COMPARATOR = Comparator(threshold=0.9, ignored_fields=("meta.*", "id"), relative_tolerance=0.01)
OFF: dict[str, Any] = claim_definition("spam", Claim.OFF)
LIVE = claim_definition("spam", Claim.LIVE)


def spam(*names: str, **settings: Any) -> Model:
    """The model `spam` with these versions, in this order."""
    versions = tuple(Version(model="spam", name=name, address=f"127.0.0.1:9{n:03}") for n, name in enumerate(names))
    return replace(Model(name="spam", comparator=COMPARATOR, versions=versions), **settings)


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A pool that is closed at the end."""
    engine = open_engine(database_url)
    try:
        yield engine
    finally:
        await engine.dispose()


async def register(store: PostgresControl, model: Model) -> None:
    """Put the model and its versions, with a flag that is off for each."""
    async with store.change("ada") as change:
        await change.put_model(model)
        await change.put_versions(model)
        for version in model.versions:
            await change.put_flag(version.flag_key, OFF, reason="registered")


async def open_first_epoch(store: PostgresControl) -> Epoch:
    """Register `spam` with base and A, and start an experiment on A."""
    await register(store, spam("base", "A"))
    async with store.change("ada") as change:
        experiment = await change.start_experiment(
            model="spam", candidates=["A"], percent=25, bucket_seconds=3600, duration=86_400
        )
        return await change.open_epoch(
            experiment, live="base", candidates=["A"], comparator=COMPARATOR, reason="the experiment started"
        )


def counts(count: int, *, version: str = "A", outcome: Outcome = Outcome.OK) -> Rollup:
    """So many observations."""
    return Rollup({Cell(Family.OUTCOME, version, outcome): count})


def flush(epoch: Epoch, *, previous: int, offset: int, partition: int = 0, count: int = 1, **more: Any) -> Flush:
    """A micro-batch of `count` agreeing observations."""
    values = {"rollups": {(epoch.id, BUCKET): counts(count)}, **more}
    return Flush(log_id="log-1", partition=partition, previous_offset=previous, offset=offset, **values)


def capture(**more: Any) -> Capture:
    """One request, answered."""
    values: dict[str, Any] = {
        "request_id": "request-1",
        "session_id": "session-1",
        "model": "spam",
        "method": "/multishadow.v1.PredictionService/Predict",
        "attributes": {"country": "NO", "premium": True, "age": 41.0},
        "request": b"\x00\\x request",
        "metadata": (),
        "live": "base",
        "shadows": ("A",),
        "revision": 2,
        "response": b"\xff response",
        "status_code": 0,
        "status_message": "",
        "live_latency": 0.0125,
        "received_at": NOON,
    }
    return Capture(**{**values, **more})


def comparison(epoch: Epoch, **more: Any) -> StoredComparison:
    """One request that A answered differently."""
    observation = Observation(
        version="A", outcome=Outcome.DIVERGED, similarity=0.25, latency=0.02, response=b"\x00 shadow"
    )
    return StoredComparison(
        epoch_id=epoch.id, capture=capture(**more), observations=[observation], kept_because="diverged"
    )


def rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query finds, on a connection of its own."""
    with psycopg.connect(database_url) as connection, contextlib.closing(connection.cursor()) as cursor:
        return cursor.execute(query.encode()).fetchall()


def noon_today(database_url: str) -> datetime:
    """By the database's clock, which decides."""
    ((today,),) = rows(database_url, "SELECT (now() AT TIME ZONE 'UTC')::date")
    return datetime(today.year, today.month, today.day, 12, tzinfo=UTC)


def partition(day: date) -> str:
    """The partition of the comparisons of a day."""
    return f"comparison_{day:%Y%m%d}"


def everything(database_url: str) -> bytes:
    """Every row of every table, as text and as bytes."""
    found = b""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT quote_ident(relname) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = "
            "'public'::regnamespace AND NOT relispartition"
        ).fetchall()
        for (table,) in tables:
            for record in connection.execute(f"SELECT * FROM {table}".encode()):
                for value in record:
                    values = value if isinstance(value, list) else [value]
                    found += b"\n".join(each if isinstance(each, bytes) else str(each).encode() for each in values)
    return found
