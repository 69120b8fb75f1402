"""Labels from their arrival to the counts, on a real PostgreSQL: each counts once, to the unit, whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations, PostgresRetention
from multishadow_server.adapters.postgres.labels import PostgresLabels
from multishadow_server.core.experiment import Epoch, RankBy
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import LabelTerms
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.routing import Claim
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import comparison_report, experiments, labelling
from multishadow_server.service.comparison_report import ExperimentReport
from multishadow_server.service.experiments import Terms
from multishadow_server.service.labelling import Label, Reception
from multishadow_server.service.ports import KeptAnswers
from store_fixtures import COMPARATOR, NOON, capture, flush, opened, register, rows, spam

DAY = 86_400.0
LABEL_CELLS = (
    "SELECT to_char(bucket_start AT TIME ZONE 'UTC', 'HH24'), family, subject, level, n::int FROM rollup "
    "WHERE family IN ('label', 'label_pair') AND n <> 0 ORDER BY 1, 2, 3, 4"
)


def answer(label: str) -> bytes:
    message = prediction_pb2.PredictResponse(classification=prediction_pb2.Classification(label=label))
    return message.SerializeToString()


@dataclass(kw_only=True)
class Office:
    """A model whose answers are kept, and whoever records labels; the clock stands where a test puts it."""

    engine: AsyncEngine
    database_url: str
    epoch: Epoch
    now: float = NOON + 60
    offset: int = 0

    @property
    def control(self) -> PostgresControl:
        return PostgresControl(self.engine)

    @property
    def labels(self) -> PostgresLabels:
        return PostgresLabels(self.engine, AnswerCodec())

    async def answers(self, *requests: tuple[str, str, str | None], received_at: float = NOON) -> None:
        """Requests with their live answer and that of A; None stands for a timeout."""
        await PostgresObservations(self.engine).commit(
            flush(
                self.epoch,
                previous=self.offset,
                offset=self.offset + 1,
                rollups={},
                answers=[self._kept(*request, received_at=received_at) for request in requests],
            )
        )
        self.offset += 1

    def _kept(self, request_id: str, live: str, shadow: str | None, *, received_at: float) -> KeptAnswers:
        if shadow is None:
            observation = Observation(version="A", outcome=Outcome.TIMEOUT, similarity=0.0)
        else:
            outcome = Outcome.OK if shadow == live else Outcome.DIVERGED
            similarity = 1.0 if shadow == live else 0.0
            observation = Observation(version="A", outcome=outcome, similarity=similarity, response=answer(shadow))
        return KeptAnswers(
            epoch_id=self.epoch.id,
            capture=capture(request_id=request_id, response=answer(live), received_at=received_at),
            observations=[observation],
        )

    async def label(self, *labels: tuple[str, object]) -> Sequence[Reception]:
        _, receptions = await labelling.record(
            self.control,
            self.labels,
            model="spam",
            recorded=[Label(request_id=request_id, value=value) for request_id, value in labels],  # type: ignore[arg-type]  # tests name plain values
            actor="ada",
            clock=lambda: self.now,
        )
        return receptions

    async def sweep(self) -> int:
        return await labelling.sweep(self.control, self.labels, clock=lambda: self.now)

    def cells(self, family: str = "label") -> dict[tuple[str, str], int]:
        """Counts by (subject, level), over all buckets."""
        counted: dict[tuple[str, str], int] = {}
        for _, kind, subject, level, n in rows(self.database_url, LABEL_CELLS):
            if kind == family:
                counted[subject, level] = counted.get((subject, level), 0) + n
        return counted

    async def tally(self) -> dict[str, int]:
        _, tally = await labelling.tally(self.control, self.labels, model="spam")
        return {what: n for what, n in tally.items() if n}

    def forget_since(self, seconds: float) -> None:
        """Make every label so much older."""
        rows(
            self.database_url,
            f"UPDATE label SET recorded_at = recorded_at - interval '{seconds} seconds' RETURNING 1",
        )


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with opened(database_url) as engine:
        control = PostgresControl(engine)
        await register(control, spam("base", "A", labels=LabelTerms(delay=3600, keep=7 * DAY)))
        async with control.change("ada") as change:
            experiment = await change.start_experiment(
                model="spam", candidates=["A"], percent=25, bucket_seconds=3600, duration=DAY
            )
            epoch = await change.open_epoch(
                experiment, live="base", candidates=["A"], comparator=COMPARATOR, reason="started"
            )
        yield Office(engine=engine, database_url=database_url, epoch=epoch)


async def test_a_label_counts_for_live_for_the_candidate_and_for_the_pair(office: Office) -> None:
    await office.answers(("r1", "spam", "spam"), ("r2", "spam", "ham"), ("r3", "ham", None), ("r4", "ham", "ham"))
    received = await office.label(("r1", "spam"), ("r2", "ham"), ("r3", "ham"))
    assert received == [Reception.COUNTED] * 3
    assert office.cells() == {("base", "o"): 2, ("base", "b"): 1, ("A", "o"): 2, ("A", "b"): 1}
    assert office.cells("label_pair") == {("base|A", "oo"): 1, ("base|A", "bo"): 1, ("base|A", "ob"): 1}
    assert await office.tally() == {"counted": 3}


async def test_a_late_label_counts_in_the_bucket_of_its_request(office: Office) -> None:
    await office.answers(("r1", "spam", "spam"))
    office.now = NOON + 6 * DAY
    assert await office.label(("r1", "spam")) == [Reception.COUNTED]
    assert {row[0] for row in rows(office.database_url, LABEL_CELLS)} == {"12"}


async def test_a_label_whose_answers_are_gone_is_unknown_in_the_end(office: Office) -> None:
    office.now = (await now_of(office)) + 1
    await office.answers(("r1", "spam", "spam"), received_at=office.now - 7 * DAY - 60)
    assert await office.label(("r1", "spam")) == [Reception.WAITING]
    assert (await office.sweep(), await office.tally()) == (0, {"waiting": 1})
    office.forget_since(7 * DAY)
    assert (await office.sweep(), await office.tally()) == (0, {"unknown": 1})
    assert office.cells() == {}


async def test_the_same_label_again_has_no_effect(office: Office) -> None:
    await office.answers(("r1", "spam", "ham"))
    assert await office.label(("r1", "spam"), ("r1", "spam")) == [Reception.COUNTED, Reception.DUPLICATE]
    assert await office.label(("r1", "spam")) == [Reception.DUPLICATE]
    assert office.cells() == {("base", "o"): 1, ("A", "b"): 1}
    assert await office.tally() == {"counted": 1, "duplicate": 2}


async def test_of_contradicting_labels_the_last_one_counts_alone(office: Office) -> None:
    await office.answers(("r1", "spam", "ham"), ("r2", "spam", "spam"))
    await office.label(("r1", "spam"), ("r2", "spam"))
    assert await office.label(("r1", "ham")) == [Reception.CONTRADICTED]
    assert office.cells() == {("base", "b"): 1, ("base", "o"): 1, ("A", "o"): 2}
    assert office.cells("label_pair") == {("base|A", "bo"): 1, ("base|A", "oo"): 1}
    assert await office.label(("r1", "spam"), ("r1", "eggs")) == [Reception.CONTRADICTED] * 2
    assert office.cells("label_pair") == {("base|A", "bb"): 1, ("base|A", "oo"): 1}
    assert await office.tally() == {"counted": 2, "contradicted": 3}
    lines = rows(office.database_url, "SELECT actor, subject, detail FROM audit_log WHERE action = 'overrule_labels'")
    assert sum(detail["labels"] for _, _, detail in lines) == 3
    assert {subject for _, subject, _ in lines} == {"spam"}


async def test_a_contradiction_after_the_answers_are_gone_takes_the_former_label_back(office: Office) -> None:
    await office.answers(("r1", "spam", "ham"))
    await office.label(("r1", "spam"))
    office.now = NOON + 7 * DAY + 1
    assert await office.label(("r1", "ham")) == [Reception.CONTRADICTED]
    assert office.cells() == {}


async def test_a_label_that_comes_first_waits_for_its_request(office: Office) -> None:
    assert await office.label(("r1", "spam"), ("r2", "spam")) == [Reception.WAITING] * 2
    assert (await office.sweep(), await office.tally()) == (0, {"waiting": 2})
    await office.answers(("r1", "spam", "ham"))
    assert (await office.sweep(), await office.sweep()) == (1, 0)
    assert office.cells() == {("base", "o"): 1, ("A", "b"): 1}
    assert await office.tally() == {"counted": 1, "waiting": 1}
    assert await office.label(("r1", "spam")) == [Reception.DUPLICATE]


async def test_a_label_that_was_corrected_while_it_waited_counts_as_corrected(office: Office) -> None:
    assert await office.label(("r1", "ham")) == [Reception.WAITING]
    assert await office.label(("r1", "spam")) == [Reception.CONTRADICTED]
    await office.answers(("r1", "spam", "ham"))
    assert await office.sweep() == 1
    assert office.cells() == {("base", "o"): 1, ("A", "b"): 1}


async def test_an_id_that_nobody_ever_sees_is_unknown_when_its_time_is_over(office: Office) -> None:
    await office.label(("nobody", "spam"))
    office.now = (await now_of(office)) + 1
    assert (await office.sweep(), await office.tally()) == (0, {"waiting": 1})
    office.forget_since(7 * DAY)
    await office.sweep()
    assert await office.tally() == {"unknown": 1}
    assert rows(office.database_url, "SELECT count(*) FROM label") == [(0,)]


async def now_of(office: Office) -> float:
    """The database's time, by which labels are recorded."""
    async with office.control.change("ada") as change:
        return change.now


async def test_of_two_requests_with_one_id_the_first_counts(office: Office) -> None:
    await office.answers(("r1", "spam", "spam"))
    await office.answers(("r1", "ham", "ham"), received_at=NOON + 3600)
    await office.label(("r1", "spam"))
    assert office.cells() == {("base", "o"): 1, ("A", "o"): 1}


async def test_imports_of_the_same_labels_at_once_count_each_once(office: Office) -> None:
    requests = [(f"r{number}", "spam", random.Random(number).choice(["spam", "ham"])) for number in range(60)]
    await office.answers(*requests[:30])
    imports = []
    for seed in range(4):
        shuffled = [(request_id, "spam") for request_id, _, _ in requests]
        random.Random(seed).shuffle(shuffled)
        imports.append(office.label(*shuffled))
    await asyncio.gather(*imports, office.answers(*requests[30:]), office.sweep())
    await office.sweep()
    assert sum(n for (subject, _), n in office.cells().items() if subject == "base") == 60
    assert office.cells()["A", "o"] == sum(shadow == "spam" for _, _, shadow in requests)
    assert await office.tally() == {"counted": 60, "duplicate": 180}


async def test_a_model_that_keeps_no_answers_takes_no_labels(office: Office) -> None:
    async with office.control.change("ada") as change:
        await change.put_model(replace(change.configuration.models["spam"], labels=None))
    with pytest.raises(FailedPrecondition, match=r"spam keeps no answers .* put `labels: \{delay: 24h, keep: 7d\}`"):
        await office.label(("r1", "spam"))


async def test_a_label_that_is_none_records_nothing_of_its_run(office: Office) -> None:
    await office.answers(("r1", "spam", "spam"))
    with pytest.raises(InvalidInput, match="the label of request 'r2' is missing"):
        await office.label(("r1", "spam"), ("r2", None))
    assert office.cells() == {}


async def test_a_model_that_does_not_exist_is_named(office: Office) -> None:
    with pytest.raises(NotFound, match="there is no model 'mail'"):
        await labelling.tally(office.control, office.labels, model="mail")


async def test_only_cohorts_older_than_the_delay_are_reported(office: Office) -> None:
    await office.answers(("r1", "spam", "ham"), received_at=NOON)
    await office.answers(("r2", "spam", "spam"), received_at=NOON + 3600)
    await office.label(("r1", "spam"), ("r2", "spam"))

    async def reported(now: float) -> tuple[int, int, int]:
        found = await comparison_report.compare(office.control, model="spam", clock=lambda: now)
        quality = found.report.quality
        assert quality is not None
        return quality.labelled, quality.too_young, quality.candidates[0].n

    # The bucket of r1 ends at 13:00, and its labels are due an hour later.
    assert await reported(NOON + 2 * 3600 - 1) == (0, 2, 0)
    assert await reported(NOON + 2 * 3600) == (1, 1, 1)
    assert await reported(NOON + 3 * 3600) == (2, 0, 2)


async def test_answers_are_dropped_by_the_day_when_no_label_can_count_any_more(office: Office) -> None:
    today = int(await now_of(office) // DAY) * DAY
    await office.answers(("old", "spam", "spam"), received_at=today - 9 * DAY)
    await office.answers(("young", "spam", "spam"), received_at=today - 6 * DAY)
    await PostgresRetention(office.engine, keep_days=1).enforce()
    assert rows(office.database_url, "SELECT request_id FROM answer") == [("young",)]


# --- what to rank by ----------------------------------------------------------------------------------------------


async def test_an_experiment_ranks_by_what_it_was_started_with(office: Office) -> None:
    async with office.control.change("ada") as change:
        await change.put_flag("spam.base", claim_definition("spam", Claim.LIVE), reason="live")
    await experiments.stop_experiment(office.control, model="spam", actor="ada", reason="another basis")
    terms = Terms(model="spam", candidates=("A",), bucket_seconds=3600, rank_by=RankBy.LABELS)
    await experiments.start_experiment(office.control, terms, actor="ada")
    (office.epoch,) = [each for each in (await office.control.read()).epochs if each.until_revision is None]
    await office.answers(("r1", "spam", "ham"))

    async def found() -> ExperimentReport:
        return await comparison_report.compare(office.control, model="spam", clock=lambda: NOON + 3 * 3600)

    assert (await found()).experiment.rank_by is RankBy.LABELS
    assert not (await found()).report.candidates[0].ranked
    await office.label(("r1", "ham"))
    assert (await found()).report.candidates[0].ranked
    async with office.control.change("ada") as change:
        await change.put_model(replace(change.configuration.models["spam"], labels=None))
    assert (await found()).report.candidates[0].ranked, "ending the keeping of answers switches nothing"


async def test_ranking_by_labels_needs_answers_to_be_kept(office: Office) -> None:
    await experiments.stop_experiment(office.control, model="spam", actor="ada", reason="another basis")
    async with office.control.change("ada") as change:
        await change.put_model(replace(change.configuration.models["spam"], labels=None))
    terms = Terms(model="spam", candidates=("A",), rank_by=RankBy.LABELS)
    with pytest.raises(FailedPrecondition, match="spam keeps no answers"):
        await experiments.start_experiment(office.control, terms, actor="ada")
