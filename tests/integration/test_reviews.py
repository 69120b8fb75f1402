"""Stored comparisons and people's verdicts on them, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.audit import PostgresAudit
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.core.rollup import Cell
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import comparison_report, reviewing
from multishadow_server.service.ports import AuditQuery, ComparisonLine, StoredComparison
from store_fixtures import COMPARATOR, NOON, capture, flush, opened, register, spam

BETTER, LIVE, FINE, WRONG = ReviewVerdict


@dataclass(kw_only=True)
class Desk:
    """Comparisons of A and B with base, and whoever looks at them."""

    engine: AsyncEngine
    epoch: Epoch
    stored: list[StoredComparison] = field(default_factory=list)

    @property
    def control(self) -> PostgresControl:
        return PostgresControl(self.engine)

    @property
    def reviews(self) -> PostgresReviews:
        return PostgresReviews(self.engine)

    def keep(self, request_id: str, *seen: Observation, why: str = "diverged") -> None:
        self.stored.append(
            StoredComparison(
                epoch_id=self.epoch.id, capture=capture(request_id=request_id), observations=seen, kept_because=why
            )
        )

    async def commit(self) -> None:
        await PostgresObservations(self.engine).commit(flush(self.epoch, previous=0, offset=1, comparisons=self.stored))

    async def lines(self, version: str = "", *, agreeing: bool = False, most: int = 0) -> list[ComparisonLine]:
        found = await reviewing.list_comparisons(
            self.control, self.reviews, model="", version=version, experiment_id=0, agreeing=agreeing, most=most
        )
        return list(found)

    async def say(self, comparison_id: int, verdict: ReviewVerdict, version: str = "A") -> None:
        await reviewing.record_review(
            self.reviews, comparison_id=comparison_id, version=version, verdict=verdict, actor="ada"
        )

    async def cells(self) -> dict[Cell, int]:
        counted = (await self.control.rollup(self.epoch.id)).cells
        return {cell: n for cell, n in counted.items() if n and cell.family in {"review", "difference"}}


def diverged(version: str, similarity: float) -> Observation:
    return Observation(version=version, outcome=Outcome.DIVERGED, similarity=similarity, response=b"other")


def agreed(version: str, similarity: float = 1.0) -> Observation:
    return Observation(version=version, outcome=Outcome.OK, similarity=similarity, response=b"same")


def failed(version: str) -> Observation:
    return Observation(version=version, outcome=Outcome.ERROR, reason="INTERNAL", similarity=0.0)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with opened(database_url) as engine:
        control = PostgresControl(engine)
        await register(control, spam("base", "A", "B"))
        async with control.change("ada") as change:
            experiment = await change.start_experiment(
                model="spam", candidates=["A", "B"], percent=25, bucket_seconds=3600, duration=86_400
            )
            epoch = await change.open_epoch(
                experiment, live="base", candidates=["A", "B"], comparator=COMPARATOR, reason="started"
            )
        yield Desk(engine=engine, epoch=epoch)


async def test_divergent_answers_are_listed_by_candidate_the_least_similar_first(desk: Desk) -> None:
    desk.keep("r1", diverged("A", 0.5), agreed("B"))
    desk.keep("r2", diverged("A", 0.2), diverged("B", 0.7))
    desk.keep("r3", failed("A"), agreed("B"))
    desk.keep("r4", agreed("A", 0.95), agreed("B"), why="sample")
    await desk.commit()
    assert [(line.request_id, line.version, line.similarity) for line in await desk.lines()] == [
        ("r2", "A", 0.2),
        ("r1", "A", 0.5),
        ("r2", "B", 0.7),
    ]
    assert [line.request_id for line in await desk.lines("B")] == ["r2"]
    assert len(await desk.lines(most=1)) == 1
    sample = await desk.lines("A", agreeing=True)
    assert [(line.request_id, line.similarity) for line in sample] == [("r4", 0.95)], "beside a divergent one is biased"


async def test_a_comparison_is_shown_with_what_was_kept_and_said(desk: Desk) -> None:
    desk.keep("r1", diverged("A", 0.5), failed("B"))
    await desk.commit()
    (line,) = await desk.lines()
    await desk.say(line.id, LIVE)
    found = await reviewing.get_comparison(desk.reviews, line.id)
    assert (found.request, found.response, found.received_at) == (b"\x00\\x request", b"\xff response", NOON)
    assert [(seen.version, seen.outcome, seen.response) for seen in found.observations] == [
        ("A", Outcome.DIVERGED, b"other"),
        ("B", Outcome.ERROR, b""),
    ]
    assert [(review.version, review.verdict, review.by) for review in found.reviews] == [("A", LIVE, "ada")]
    assert (await desk.lines())[0].verdict is LIVE


async def test_verdicts_are_counted_and_tell_real_differences_from_others(desk: Desk) -> None:
    for number, similarity in enumerate((0.1, 0.2, 0.3, 0.4)):
        desk.keep(f"r{number}", diverged("A", similarity))
    desk.keep("same", agreed("A", 0.97), why="sample")
    await desk.commit()
    ids = [line.id for line in await desk.lines()]
    for comparison_id, verdict in zip(ids, (BETTER, LIVE, FINE, WRONG), strict=True):
        await desk.say(comparison_id, verdict)
    await desk.say((await desk.lines(agreeing=True))[0].id, FINE)
    assert await desk.cells() == {
        Cell("review", "A", "candidate better"): 1,
        Cell("review", "A", "live better"): 1,
        Cell("review", "A", "both fine"): 2,
        Cell("review", "A", "both wrong"): 1,
        Cell("difference", "A", "diverged/100/real"): 1,
        Cell("difference", "A", "diverged/200/real"): 1,
        Cell("difference", "A", "diverged/300/same"): 1,
        Cell("difference", "A", "ok/970/same"): 1,
    }
    report = (await comparison_report.compare(desk.control, clock=lambda: NOON)).report
    (said,) = report.review_verdicts
    assert (said.version, said.candidate_better, said.live_better, said.both_fine, said.both_wrong) == ("A", 1, 1, 2, 1)


async def test_the_last_verdict_on_an_answer_counts_alone(desk: Desk) -> None:
    desk.keep("r1", diverged("A", 0.5), diverged("B", 0.5))
    await desk.commit()
    (comparison_id,) = {line.id for line in await desk.lines()}
    for verdict in (BETTER, WRONG, FINE, FINE, LIVE):
        await desk.say(comparison_id, verdict)
    await desk.say(comparison_id, FINE, "B")
    assert await desk.cells() == {
        Cell("review", "A", "live better"): 1,
        Cell("difference", "A", "diverged/500/real"): 1,
        Cell("review", "B", "both fine"): 1,
        Cell("difference", "B", "diverged/500/same"): 1,
    }


async def test_each_verdict_is_in_the_audit_log(desk: Desk) -> None:
    desk.keep("r1", diverged("A", 0.5))
    await desk.commit()
    (line,) = await desk.lines()
    for verdict in (LIVE, FINE):
        await desk.say(line.id, verdict)
    newest, before = await PostgresAudit(desk.engine).lines(AuditQuery(action="record_review"))
    assert (newest.actor, newest.subject, newest.detail) == ("ada", "spam.A", {"comparison": line.id, "verdict": FINE})
    assert before.detail["verdict"] == LIVE


async def test_verdicts_of_several_people_at_once_leave_one(desk: Desk) -> None:
    desk.keep("r1", diverged("A", 0.5))
    await desk.commit()
    ((comparison_id),) = [line.id for line in await desk.lines()]
    await asyncio.gather(*(desk.say(comparison_id, verdict) for verdict in [*ReviewVerdict] * 3))
    assert sum(n for cell, n in (await desk.cells()).items() if cell.family == "review") == 1


async def test_the_gates_learn_how_many_of_the_least_similar_were_looked_at(desk: Desk) -> None:
    for number in range(14):
        desk.keep(f"r{number}", diverged("A", number / 100), diverged("B", 0.5))
    await desk.commit()
    assert await desk.reviews.reviewed_of_top(desk.epoch.id, "A") == (0, 10)
    lines = await desk.lines("A", most=14)
    for line in (*lines[:4], lines[12]):
        await desk.say(line.id, FINE)
    assert await desk.reviews.reviewed_of_top(desk.epoch.id, "A") == (4, 10)
    assert await desk.reviews.reviewed_of_top(desk.epoch.id, "B") == (0, 10)


async def test_what_cannot_be_reviewed_is_told(desk: Desk) -> None:
    desk.keep("r1", failed("A"), diverged("B", 0.5))
    await desk.commit()
    (line,) = await desk.lines()
    with pytest.raises(NotFound, match="there is no stored comparison 999"):
        await desk.say(999, FINE)
    with pytest.raises(NotFound, match="holds nothing of 'C'; it holds A, B"):
        await desk.say(line.id, FINE, "C")
    with pytest.raises(InvalidInput, match="holds answers of several; name one: A, B"):
        await desk.say(line.id, FINE, "")
    with pytest.raises(FailedPrecondition, match="A gave no answer there"):
        await desk.say(line.id, FINE, "A")
    with pytest.raises(NotFound, match="does not compare 'C'; its candidates are A, B"):
        await desk.lines("C")
    with pytest.raises(InvalidInput, match="most: 1001 is out of range"):
        await desk.lines(most=1001)


async def test_the_least_similar_of_one_candidate_are_found_behind_thousands_of_another(desk: Desk) -> None:
    for n in range(1_200):
        desk.keep(f"b{n}", agreed("A"), diverged("B", 0.1))
    for n in range(12):
        desk.keep(f"a{n}", diverged("A", 0.3 + n / 100), agreed("B"))
    desk.keep("both", diverged("A", 0.9), diverged("B", 0.05))
    await desk.commit()
    assert [line.request_id for line in await desk.lines("A")] == [f"a{n}" for n in range(10)]
    assert [line.request_id for line in await desk.lines("B", most=3)] == ["both", "b0", "b1"]
    assert [line.request_id for line in await desk.lines(most=2)] == ["both", "b0"]
    assert len(await desk.lines("A", most=50)) == 13
