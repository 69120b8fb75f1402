"""Four things that go wrong with candidates: each is seen, named and explained by page, report and alert.

A comparator that was wired to the wrong kind of answer and a shadow that died are real: version servers, a worker, the
log. What takes its time to show, a candidate that drifts and one that is bad on one kind of request, is counted as a
worker would have counted it.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from test_alarms import QUICK, keeps_coming, texting
from test_shadowctl import environment, run

from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core import weeks
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.tally import Tally
from multishadow_server.core.weeks import Week
from multishadow_server.service.ports import Flush
from multishadow_server.settings import Settings
from running_control import control_addresses
from shadowed_traffic import staged, working
from sightings import LIVE_LATENCY, seen
from store_fixtures import COMPARATOR, opened, register, spam
from version_servers import answering, failing
from waiting import PATIENCE, until

HOUR = 3_600
MINUTES = 40
PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"


class Seen:
    """What somebody sees of it: on the page, in the report, by Prometheus."""

    def __init__(self, browser: httpx.AsyncClient) -> None:
        self._browser = browser

    async def page(self, path: str) -> str:
        """The words of a page."""
        answer = await self._browser.get(path)
        assert answer.status_code == 200, answer.text
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())

    async def report(self, week: Week | None = None) -> str:
        """A week's report; this one's, unless it is named."""
        named = () if week is None else (str(week),)
        made = await asyncio.to_thread(run, ("report", "--week", *named, "--format", "md"))
        assert made.code == 0, made.err
        return made.out

    async def samples(self) -> list[tuple[str, Mapping[str, str], float]]:
        """What control exposes."""
        exposed = (await self._browser.get("/metrics")).text
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(exposed)
            for sample in family.samples
        ]

    async def value(self, name: str, **labels: str) -> float:
        """Of one series; 0 when it is not exposed."""
        return sum(
            value for found, having, value in await self.samples() if found == name and labels.items() <= having.items()
        )


@asynccontextmanager
async def looking(database_url: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Seen]:
    async with control_addresses(database_url, **settings) as (address, http):
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        async with httpx.AsyncClient(base_url=f"http://{http}", follow_redirects=True, timeout=PATIENCE) as browser:
            yield Seen(browser)


def alert(name: str) -> str:
    """What an alert asks for."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return str(next(rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == name))


async def test_a_dead_shadow_and_a_miswired_comparator_are_explained(
    database_url: str, nats_url: str, log_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=4,
        worker_linger=0.05,
        report_interval=0.2,
    )
    async with (
        staged(settings, {"A": failing(), "B": texting(), "C": answering()}) as stage,
        working(settings),
        looking(database_url, monkeypatch, **QUICK) as look,
    ):
        send = keeps_coming(stage)

        async def raised() -> bool:
            await send()
            found = await asyncio.to_thread(run, ("alarms", "list", "-o", "json"))
            on = {(each["kind"], each["subject"]) for each in found.document["alarms"]}
            return {("shadow_silent", "A"), ("comparator_failing", "B")} <= on

        await until(raised)
        for path in ("/ui/", "/ui/experiments/1"):
            page = await look.page(path)
            assert "A at 127.0.0.1" in page, page
            assert "answered none of" in page
            assert "INTERNAL" in page
            assert "type_mismatch" in page
        report = await look.report()
        assert "**Shadow dead (A).** A is dead: it answered none of" in report, report
        assert re.search(
            r"\*\*Comparator failing \(B\)\.\*\* The comparator cannot read .* of the answers of B", report
        )
        for kind, version in (("shadow_silent", "A"), ("comparator_failing", "B")):
            # Looking at pages takes a busy machine so long that an alarm ends meanwhile, for want of traffic.
            async def exposed(kind: str = kind, version: str = version) -> bool:
                await send()
                return await look.value("multishadow_alarms", kind=kind, version=version) == 1

            await until(exposed)
        assert 'outcome!="answered"' in alert("MultishadowShadowSilent")
        assert 'outcome="uncomparable"' in alert("MultishadowComparatorFailing")


async def counted(database_url: str) -> Week:
    """Count minutes in which A grows worse half way, and B fails callers from Norway; the week that they are of."""
    # Half of it before an hour is full and half after: drift is told by the hour. And in one week, whenever this runs.
    half = MINUTES * 60 // 2
    full = (time.time() - half) // HOUR * HOUR
    if full == weeks.at(full).starts_at:
        full -= HOUR
    week, end = weeks.at(full), full + half
    async with opened(database_url) as engine:
        store = PostgresControl(engine)
        await register(store, spam("base", "A", "B"))
        async with store.change("ada") as change:
            experiment = await change.start_experiment(
                model="spam", candidates=["A", "B"], percent=100, bucket_seconds=60, duration=86_400
            )
            epoch = await change.open_epoch(
                experiment, live="base", candidates=["A", "B"], comparator=COMPARATOR, reason="the experiment started"
            )
        async with engine.begin() as connection:
            begun = {"at": datetime.fromtimestamp(end - MINUTES * 60, UTC)}
            await connection.execute(text("UPDATE experiment SET started_at = :at"), begun)
            await connection.execute(text("UPDATE epoch SET opened_at = :at"), begun)
        flush = Flush(
            log_id="log", partition=0, previous_offset=0, offset=1, rollups=of_minutes(epoch, end=end).rollups()
        )
        await PostgresObservations(engine).commit(flush)
    return week


def of_minutes(epoch: Epoch, *, end: float) -> Tally:
    tally = Tally()
    for minute in range(MINUTES):
        worse = minute >= MINUTES // 2
        for country, captures in (("NO", 30), ("DE", 70)):
            for number in range(captures):
                a = "b" if number % 10 < (4 if worse else 1) else "o"
                b = "b" if country == "NO" and number % 10 < 3 else "o"
                tally.add_capture(
                    epoch,
                    received_at=end - (MINUTES - minute) * 60,
                    live_latency=LIVE_LATENCY,
                    observations=seen(("A", "B"), a + b),
                    segments=["hour (UTC)=12", f"attributes.country={country}"],
                )
    return tally


async def test_a_drifting_candidate_and_one_that_is_bad_on_one_kind_of_request_are_explained(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    week = await counted(database_url)
    async with looking(database_url, monkeypatch, watch_interval=3_600.0) as look:
        segments = await look.page("/ui/experiments/1/segments?candidate=B")
        assert "country" in segments
        assert re.search(r"NO\b.*30", segments), segments
        course = await look.page("/ui/experiments/1/course")
        assert re.search(r"A: .*(drift|rose|rising)", course), course
        report = await look.report(week)
        assert re.search(r"\bA\b.*drift", report), report
        assert re.search(r"\bB\b.*country.*NO|country.*NO.*\bB\b", report), report

        assert await look.value("multishadow_experiment_drift", version="A", direction="rising") == 1
        assert await look.value("multishadow_experiment_drift", version="B") == 0
        assert await look.value("multishadow_experiment_segments_diverging", version="B") >= 1
        assert await look.value("multishadow_experiment_segments_diverging", version="A") == 0
        assert "multishadow_experiment_drift" in alert("MultishadowDrift")
        assert "multishadow_experiment_segments_diverging" in alert("MultishadowSegmentDiverging")
