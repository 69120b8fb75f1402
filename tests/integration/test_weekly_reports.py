"""Weekly reports and cost on a real PostgreSQL: by schedule, by shadowctl, and on the page."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from test_shadowctl import Result, environment, run

from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.webhooks import PostgresWebhooks
from multishadow_server.adapters.postgres.weekly_reports import PostgresWeeklyReports
from multishadow_server.adapters.report_rendering import WeeklyReportRenderer
from multishadow_server.core import weeks
from multishadow_server.core.cost import Traffic
from multishadow_server.core.cost_terms import CostTerms
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.webhooks import Webhook
from multishadow_server.core.weeks import Due, Week
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service import costs, weekly_reports
from multishadow_server.service.ports import StoredComparison
from multishadow_server.service.weekly_rounds import WeeklyRounds
from running_control import control_addresses
from store_fixtures import capture, flush, open_first_epoch, opened, register, rows, spam
from waiting import PATIENCE, until

HOUR = 3_600
MORNING = Due(0, 6 * 60)


@dataclass(kw_only=True)
class Desk:
    """An experiment that counted something this week."""

    control: PostgresControl
    reports: PostgresWeeklyReports
    epoch: Epoch
    week: Week
    engine: AsyncEngine
    database_url: str

    def rounds(self, *, now: float, reports: PostgresWeeklyReports | None = None) -> WeeklyRounds:
        return WeeklyRounds(
            self.control,
            reports or self.reports,
            WeeklyReportRenderer(),
            due=MORNING,
            oldest_days=90,
            clock=lambda: now,
        )

    @property
    def after(self) -> float:
        """When the week is over, and its report due."""
        return self.week.ends_at + 7 * HOUR


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with opened(database_url) as engine:
        control = PostgresControl(engine)
        epoch = await open_first_epoch(control)
        await register(control, spam("base", "A", cost=CostTerms(gpu_hour=2.5, rps_per_gpu=40.0)))
        start = epoch.bucket_start(epoch.opened_at)
        stored = [
            StoredComparison(
                epoch_id=epoch.id,
                capture=capture(request_id=f"r-{place}", received_at=epoch.opened_at),
                observations=[
                    Observation(version="A", outcome=Outcome.DIVERGED, similarity=place / 10, detail=f"Ada ≠ {place}")
                ],
                kept_because="diverged",
            )
            for place in range(7)
        ]
        await PostgresObservations(engine).commit(
            flush(
                epoch,
                previous=0,
                offset=1,
                rollups={(epoch.id, start): _hour() + _hour()},
                comparisons=stored,
            )
        )
        _count_live(database_url, since=epoch.opened_at, seconds=1_000, requests=100_000)
        yield Desk(
            control=control,
            reports=PostgresWeeklyReports(engine),
            epoch=epoch,
            week=weeks.at(start),
            engine=engine,
            database_url=database_url,
        )


def _hour() -> Rollup:
    return Rollup(
        {
            Cell(Family.OUTCOME, "A", "ok"): 980,
            Cell(Family.OUTCOME, "A", "diverged"): 20,
            Cell(Family.SLOW, "A", "ok"): 10,
            Cell(Family.LIVE, "", "answered"): 1_000,
        }
    )


def _count_live(database_url: str, *, since: float, seconds: int, requests: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO live_count (model, revision, version, run, requests, failed, covered, latencies, first_at, "
            "seen_at) VALUES ('spam', 2, 'base', 'router-1', %s, 0, 0, '{}', to_timestamp(%s), to_timestamp(%s))",
            (requests, since, since + seconds),
        )


# --- by schedule --------------------------------------------------------------------------------------------------


async def test_a_week_that_is_over_is_reported_once_by_however_many_controls(desk: Desk) -> None:
    assert await desk.rounds(now=desk.week.ends_at + 5 * HOUR).round() == 0, "it is not due before 06:00"
    made = await asyncio.gather(*(desk.rounds(now=desk.after).round() for _ in range(3)))
    assert sum(made) == 1
    assert await desk.rounds(now=desk.after).round() == 0
    (line,) = await desk.reports.lines(most=10)
    assert (line.model, line.week) == ("spam", desk.week)
    assert rows(desk.database_url, "SELECT count(*) FROM weekly_reports") == [(1,)]


async def test_a_control_that_died_in_between_leaves_the_report_to_the_next_one(desk: Desk) -> None:
    class Dying(PostgresWeeklyReports):
        async def keep(self, report: object) -> bool:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await desk.rounds(now=desk.after, reports=Dying(desk.engine)).round()
    assert await desk.rounds(now=desk.after).round() == 1


async def test_a_report_that_is_kept_stays_as_it_was_and_holds_nothing_of_requests(desk: Desk) -> None:
    await desk.rounds(now=desk.after).round()
    kept = await desk.reports.kept("spam", desk.week)
    assert kept is not None
    before = kept.texts
    assert "Ada" not in before.html + before.markdown + before.document
    assert "r-0" not in before.document
    document = json.loads(before.document)
    (epoch,) = document["epochs"]
    (candidate,) = epoch["candidates"]
    assert [case["distance"] for case in candidate["cases"]] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])
    assert (candidate["rate"]["bad"], candidate["rate"]["n"]) == (40, 2_000)
    assert (candidate["categories"]["slow"], candidate["categories"]["observed"]) == (20, 2_000)
    again = await weekly_reports.make(
        desk.control,
        desk.reports,
        WeeklyReportRenderer(),
        model="spam",
        week=str(desk.week),
        oldest_days=90,
        now=desk.after + HOUR,
    )
    assert "Ada ≠ 0" in again.texts.html, "one that is made anew shows them as they are stored"
    assert not await desk.reports.keep(again)
    now_kept = await desk.reports.kept("spam", desk.week)
    assert now_kept is not None
    assert now_kept.texts == before


async def test_a_past_week_knows_nothing_of_what_came_after_it(desk: Desk) -> None:
    later = Rollup({Cell(Family.OUTCOME, "A", "diverged"): 5_000, Cell(Family.LIVE, "", "answered"): 5_000})
    bucket = desk.week.ends_at + HOUR
    await PostgresObservations(desk.engine).commit(
        flush(desk.epoch, previous=1, offset=2, rollups={(desk.epoch.id, bucket): later})
    )
    report = await weekly_reports.build(
        desk.control, desk.reports, model="", week=str(desk.week), oldest_days=90, now=desk.after
    )
    (epoch,) = report.epochs
    (candidate,) = epoch.candidates
    assert (candidate.standing.n, candidate.standing.diverged) == (2_000, 40)
    following = await weekly_reports.build(
        desk.control, desk.reports, model="", week="", oldest_days=90, now=bucket + HOUR
    )
    ((now,),) = [epoch.candidates for epoch in following.epochs]
    assert (now.rate.bad, now.before.bad if now.before else None) == (5_000, 40)
    assert following.partial


# --- by shadowctl and on the page ---------------------------------------------------------------------------------


async def shadowctl(*arguments: str) -> Result:
    return await asyncio.to_thread(run, arguments)


async def fetched(url: str) -> tuple[int, str, str]:
    """Status, type and text of a page."""

    def get() -> tuple[int, str, str]:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                return response.status, response.headers["content-type"], response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["content-type"], error.read().decode()

    return await asyncio.to_thread(get)


def _date_back(database_url: str, *, seconds: int) -> None:
    """Let the experiment, and the counts of live requests at their rate, have begun so much earlier."""
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE experiment SET started_at = started_at - make_interval(secs => %s)", (seconds,))
        connection.execute(
            "UPDATE live_count SET first_at = first_at - make_interval(secs => %s), "
            "requests = requests * (1 + %s / extract(epoch FROM seen_at - first_at))",
            (seconds, seconds),
        )


async def test_what_it_costs_says_how_little_was_counted(desk: Desk) -> None:
    async def traffic(*, now: float) -> Traffic:
        estimate = await costs.estimate(desk.control, desk.reports, model="spam", now=now)
        return estimate.traffic

    at_once = await traffic(now=desk.epoch.opened_at + 0.5)
    assert (at_once.rps, at_once.measured) == (0.0, "routers have counted requests for less than a second")
    assert (await traffic(now=desk.epoch.opened_at + 500)).rps == pytest.approx(100)
    rows(desk.database_url, "DELETE FROM live_count RETURNING model")
    assert (await traffic(now=desk.epoch.opened_at + 500)).measured == "routers have counted no request yet"


async def test_reports_and_cost_are_had_from_shadowctl_and_from_the_page(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await desk.rounds(now=desk.after).round()
    # What was counted for less than a second is no rate, and a quick machine comes that far in less.
    _date_back(desk.database_url, seconds=1_000)
    began_in = weeks.at(time.time())
    async with control_addresses(desk.database_url, weekly_report_at="off") as (address, http):
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)

        made = (await shadowctl("report", "--week")).out
        assert any(f"# spam, week {week}" in made for week in {began_in, weeks.at(time.time())})
        file = tmp_path / "week.html"
        assert (await shadowctl("report", "--week", str(desk.week), "-o", str(file))).code == 0
        assert file.read_text().startswith("<!doctype html>")
        assert str(desk.week) in (await shadowctl("report", "--list")).out
        kept = await shadowctl("report", "--kept", "--week", str(desk.week), "--format", "json")
        assert kept.document["kind"] == "multishadow.weekly_report"
        assert (await shadowctl("report", "--week", "2026-W99")).code == 2
        assert "no report on 2026-W20" in (await shadowctl("report", "--kept", "--week", "2026-W20")).err

        cost = await shadowctl("cost", "--fraction", "0.25,1", "--json")
        assert cost.document["rps"] == pytest.approx(100, rel=0.01)
        assert [(each["fraction"], each["bill"]["gpus"]) for each in cost.document["options"]] == [(0.25, 1), (1.0, 4)]
        assert "GPUs" in (await shadowctl("cost", "--rps", "2000")).out
        assert (await shadowctl("cost", "--rps", "-1")).code == 2

        base = f"http://{http}/ui/reports"
        status, _, listed = await fetched(base)
        assert status == 200
        assert f"/ui/reports/spam/{desk.week}" in listed
        status, _, page = await fetched(f"{base}/spam/{desk.week}")
        assert status == 200
        assert "Kept as it was made" in page
        assert '<article class="weekly">' in page
        for form, kind in (("html", "text/html"), ("md", "text/markdown"), ("json", "application/json")):
            status, type_, _ = await fetched(f"{base}/spam/{desk.week}/{form}")
            assert (status, type_.partition(";")[0]) == (200, kind)
        assert (await fetched(f"{base}/spam/{desk.week}/exe"))[0] == 404
        assert (await fetched(f"{base}/nobody/{desk.week}"))[0] == 404
        assert (await fetched(f"{base}/spam/nonsense"))[0] == 400


# --- what cannot be done ------------------------------------------------------------------------------------------


async def test_rounds_go_on_while_the_database_is_away() -> None:
    async with opened("postgresql+psycopg://nobody@127.0.0.1:1/nowhere") as engine:
        rounds = WeeklyRounds(
            PostgresControl(engine),
            PostgresWeeklyReports(engine),
            WeeklyReportRenderer(),
            due=MORNING,
            oldest_days=90,
            clock=time.time,
        )
        stop = asyncio.Event()
        running = asyncio.create_task(rounds.run(stop))

        async def failed() -> bool:
            return rounds.counters()["weekly_reports.failed"] == 1

        await until(failed)
        assert not running.done()
        stop.set()
        await running


async def test_weeks_that_nobody_can_tell_of_are_refused(desk: Desk) -> None:
    async def build(week: str, *, days: int = 90) -> None:
        await weekly_reports.build(
            desk.control, desk.reports, model="", week=week, oldest_days=days, now=desk.week.starts_at + HOUR
        )

    with pytest.raises(InvalidInput, match="has not begun"):
        await build(str(weeks.at(desk.week.ends_at)))
    with pytest.raises(FailedPrecondition, match="MULTISHADOW_HOURLY_COUNTS_DAYS"):
        await build("2020-W01")


async def test_who_wants_to_know_is_told_once_of_a_report_that_was_stored(desk: Desk) -> None:
    webhook = Webhook(
        name="ci", url="http://127.0.0.1:9/", secret="whsec_AAAA", created_by="ada", created_at=desk.after
    )
    await PostgresWebhooks(desk.engine).create(webhook, actor="ada")
    await desk.rounds(now=desk.after).round()
    await desk.rounds(now=desk.after + HOUR).round()
    told = [json.loads(body)["data"] for (body,) in rows(desk.database_url, "SELECT body FROM webhook_message")]
    assert [(each["model"], each["week"], each["page"]) for each in told] == [
        ("spam", str(desk.week), f"/ui/reports/spam/{desk.week}")
    ]
    assert told[0]["headline"]
