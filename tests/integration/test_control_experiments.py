"""Experiments from their start to their end, their epochs, and the report on them, through the control API."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core.experiment import Epoch, epoch_of
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.tally import Tally
from multishadow_server.service.ports import Flush
from running_control import Control, asked, control_address, refused
from store_fixtures import opened, rows
from waiting import until

DAY = 86_400


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        yield client


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresControl]:
    async with opened(database_url) as engine:
        yield PostgresControl(engine)


async def open_epochs(store: PostgresControl) -> dict[str, tuple[str, ...]]:
    """Candidates of each open epoch, by its live version."""
    epochs = (await store.read()).epochs
    return {epoch.live: epoch.candidates for epoch in epochs if epoch.until_revision is None}


async def test_a_start_sets_the_shadows_and_opens_the_epoch_in_one_revision(
    control: Control, store: PostgresControl
) -> None:
    await control.apply("base", "A", "B", "C")
    started = await control.start("B", "A", percent=25, duration_seconds=3 * DAY, bucket_seconds=60)
    assert started.revision == 2
    assert await control.flags() == {"base": "live", "A": "shadow 25 %", "B": "shadow 25 %", "C": "off"}
    assert list(started.experiment.candidates) == ["A", "B"]
    assert (started.experiment.state, started.experiment.started_by) == ("running", "ada")
    assert started.experiment.ends_at.seconds - started.experiment.started_at.seconds == 3 * DAY
    (epoch,) = (await store.read()).epochs
    assert (epoch.live, epoch.candidates, epoch.from_revision, epoch.bucket_seconds) == ("base", ("A", "B"), 2, 60)
    assert epoch.reason == f"experiment {started.experiment.id} started"


async def test_without_terms_an_experiment_gets_all_requests_for_two_weeks(control: Control) -> None:
    await control.apply("base", "A")
    experiment = (await control.start("A")).experiment
    assert experiment.percent == 100
    assert experiment.ends_at.seconds - experiment.started_at.seconds == 14 * DAY


async def test_candidates_that_cannot_be_compared_are_refused(control: Control) -> None:
    await control.apply("base", "A", *(f"v{number}" for number in range(11)))
    async with refused(StatusCode.INVALID_ARGUMENT, "candidates: name 1 to 10 versions, not 0"):
        await control.start()
    async with refused(StatusCode.INVALID_ARGUMENT, "not 11"):
        await control.start(*(f"v{number}" for number in range(11)))
    async with refused(StatusCode.INVALID_ARGUMENT, "name each once, not A, A"):
        await control.start("A", "A")
    async with refused(StatusCode.NOT_FOUND, "spam has no version 'Z'"):
        await control.start("A", "Z")
    async with refused(StatusCode.FAILED_PRECONDITION, "base is the live version of spam"):
        await control.start("A", "base")
    await control.promote("A", percent=5)
    async with refused(StatusCode.FAILED_PRECONDITION, "A is being rolled out (live 5 % (else shadow))"):
        await control.start("A")
    assert (await control.stub.ListExperiments(pb.ListExperimentsRequest())).experiments == []


async def test_terms_out_of_range_are_refused(control: Control) -> None:
    await control.apply("base", "A")
    for duration in (0, -5, 30 * DAY + 1):
        async with refused(StatusCode.INVALID_ARGUMENT, "duration_seconds", "30 days"):
            await control.start("A", duration_seconds=duration)
    for percent in (0.0, 101.0, math.nan):
        async with refused(StatusCode.INVALID_ARGUMENT, "percent"):
            await control.start("A", percent=percent)
    async with refused(StatusCode.INVALID_ARGUMENT, "bucket_seconds"):
        await control.start("A", bucket_seconds=0)


async def test_a_noise_floor_is_a_term_of_the_experiment_and_of_its_epochs(
    control: Control, store: PostgresControl
) -> None:
    await control.apply("base", "A")
    for percent in (-1.0, 25.5, math.nan):
        async with refused(StatusCode.INVALID_ARGUMENT, "noise_floor_percent", "0 to 25"):
            await control.start("A", percent=25, noise_floor_percent=percent)
    started = await control.start("A", percent=25, noise_floor_percent=1)
    assert started.experiment.noise_floor_percent == 1
    (listed,) = (await control.stub.ListExperiments(pb.ListExperimentsRequest())).experiments
    assert listed.noise_floor_percent == 1
    await control.apply("base", "A", comparator=pb.Comparator(threshold=0.5))
    assert [epoch.noise_percent for epoch in (await store.read()).epochs] == [1, 1]


async def test_a_model_runs_one_experiment_at_a_time(control: Control) -> None:
    await control.apply("base", "A", "B")
    await control.apply("base", "A", model="ham")
    first = (await control.start("A", percent=25)).experiment
    async with refused(
        StatusCode.FAILED_PRECONDITION, f"experiment {first.id} of spam runs already", "A at 25 %", "`shadowctl stop`"
    ):
        await control.start("B")
    assert (await control.start("A", model="ham")).experiment.state == "running"


async def test_a_stop_turns_off_what_it_shadowed_and_nothing_else(control: Control, store: PostgresControl) -> None:
    await control.apply("base", "A", "B", "C")
    await control.set_flag("C", pb.CLAIM_SHADOW, percent=10)
    await control.start("A", "B", percent=25)
    await control.promote("A")
    stopped = await control.stop()
    assert (stopped.experiment.state, stopped.experiment.stop_reason) == ("stopped", "stopped by ada")
    assert await control.flags() == {"base": "live", "A": "live", "B": "off", "C": "shadow 10 %"}
    assert await open_epochs(store) == {}
    async with refused(StatusCode.FAILED_PRECONDITION, "no experiment of spam runs", "shadowctl start"):
        await control.stop()
    assert (await control.start("B")).experiment.id != stopped.experiment.id


async def test_an_experiment_ends_with_its_time_box_though_several_controls_look(
    control: Control, database_url: str
) -> None:
    await control.apply("base", "A")
    await control.start("A", duration_seconds=1)
    async with control_address(database_url), control_address(database_url):

        async def ended() -> bool:
            found = await control.stub.ListExperiments(pb.ListExperimentsRequest(model="spam"))
            return bool(found.experiments[0].stop_reason == "time box of 1 s ended")

        await until(ended)
    assert await control.flags() == {"base": "live", "A": "off"}
    assert rows(database_url, "SELECT actor FROM audit_log WHERE action = 'stop_experiment'") == [("control",)]


async def test_a_promotion_opens_epochs_and_late_captures_stay_with_the_old_one(
    control: Control, store: PostgresControl
) -> None:
    await control.apply("base", "A", "B")
    await control.start("A", "B", percent=25)
    assert await open_epochs(store) == {"base": ("A", "B")}
    promoted = await control.promote("A")
    assert await open_epochs(store) == {"base": ("A", "B"), "A": ("base", "B")}
    epochs = (await store.read()).epochs
    late = epoch_of(epochs, model="spam", live="base", revision=promoted.revision - 1)
    new = epoch_of(epochs, model="spam", live="A", revision=promoted.revision)
    assert late is not None
    assert new is not None
    assert (late.number, new.number) == (1, 2)
    assert epoch_of(epochs, model="spam", live="A", revision=promoted.revision - 1) is None
    await control.rollback()
    assert await open_epochs(store) == {"base": ("A", "B")}


async def test_what_changes_the_comparison_begins_a_new_epoch(control: Control, store: PostgresControl) -> None:
    await control.apply("base", "A", "B")
    await control.start("A")
    await control.apply("base", "A", "B", comparator=pb.Comparator(threshold=0.5))
    await control.stub.ApplyModel(
        pb.ApplyModelRequest(model="spam", versions=[pb.VersionSpec(name="A", address="127.0.0.1:7")])
    )
    numbered = [(epoch.number, epoch.reason, epoch.comparator.threshold) for epoch in (await store.read()).epochs]
    assert numbered == [
        (1, "experiment 1 started", 0.85),
        (2, "threshold: 0.85 → 0.5", 0.5),
        (3, "address of A: 127.0.0.1:9 → 127.0.0.1:7", 0.5),
    ]
    # B takes no part, and a new version does not either.
    await control.stub.ApplyModel(
        pb.ApplyModelRequest(
            model="spam",
            versions=[pb.VersionSpec(name="B", address="127.0.0.1:7"), pb.VersionSpec(name="C", address="h:1")],
        )
    )
    await control.set_flag("A", pb.CLAIM_SHADOW, percent=50)
    assert len((await store.read()).epochs) == 3


# --- reports ------------------------------------------------------------------------------------------------------


async def count(database_url: str, epoch: Epoch, outcomes: Sequence[dict[str, Outcome]]) -> None:
    """Commit what a worker would have counted: one capture for each entry, with the outcome of each shadow."""
    tally = Tally()
    for observed in outcomes:
        observations = [
            Observation(version=name, outcome=outcome, similarity=float(outcome is Outcome.OK), latency=0.01)
            for name, outcome in observed.items()
        ]
        tally.add_capture(epoch, received_at=epoch.opened_at, live_latency=0.01, observations=observations)
    async with opened(database_url) as engine:
        flush = Flush(log_id=f"log-{epoch.id}", partition=0, previous_offset=0, offset=1, rollups=tally.rollups())
        await PostgresObservations(engine).commit(flush)


async def test_a_report_is_about_the_live_versions_present_epoch(
    control: Control, store: PostgresControl, database_url: str
) -> None:
    await control.apply("base", "A", "B")
    await control.start("A", "B")
    (epoch,) = (await store.read()).epochs
    ok, diverged = Outcome.OK, Outcome.DIVERGED
    await count(database_url, epoch, [{"A": ok, "B": diverged}] * 300 + [{"A": ok, "B": ok}] * 100)
    report = await control.compare()
    assert report.live_version == "base"
    assert (report.epoch, report.epoch_reason) == (1, "experiment 1 started")
    assert [(each.version, each.n, each.diverged) for each in report.candidates] == [("A", 400, 0), ("B", 400, 300)]
    assert (report.state, report.winner) == ("decided", "A")
    assert report.pairs[0].verdict == "better"
    assert report.experiment.id == 1
    assert report.read_at.seconds >= report.epoch_opened_at.seconds > 0

    await control.promote("A")
    report = await control.compare()
    assert (report.live_version, report.epoch) == ("A", 2)
    assert report.epoch_reason == "A promoted"
    assert [each.version for each in report.candidates] == ["base", "B"]
    assert report.state == "no_data"
    await control.rollback()
    report = await control.compare()
    assert (report.live_version, report.epoch, report.candidates[0].n) == ("base", 1, 400)


async def test_a_report_mentions_earlier_epochs_and_outlives_its_experiment(control: Control) -> None:
    await control.apply("base", "A")
    await control.start("A")
    await control.apply("base", "A", comparator=pb.Comparator(threshold=0.5))
    report = await control.compare(model="spam")
    assert (report.epoch, report.epoch_reason) == (2, "threshold: 0.85 → 0.5 (1 earlier epoch is kept apart)")
    await control.stop()
    report = await control.compare(model="spam")
    assert (report.epoch, report.experiment.state) == (2, "stopped")


async def test_a_report_on_some_candidates_is_judged_among_all(control: Control) -> None:
    await control.apply("base", "A", "B", "C")
    await control.start("A", "B", "C")
    report = await control.compare(candidates=["C", "A"])
    assert sorted(each.version for each in report.candidates) == ["A", "C"]
    assert (len(report.pairs), report.family_size) == (1, 3)


async def test_a_report_that_cannot_be_made_says_what_can(control: Control) -> None:
    async with refused(StatusCode.FAILED_PRECONDITION, "no model yet", "shadowctl apply"):
        await control.compare()
    await control.apply("base", "A", "B")
    async with refused(StatusCode.FAILED_PRECONDITION, "spam has no experiment yet", "shadowctl start"):
        await control.compare()
    await control.start("A")
    async with refused(StatusCode.NOT_FOUND, "does not compare 'B'; its candidates are A"):
        await control.compare(candidates=["B"])
    async with refused(StatusCode.FAILED_PRECONDITION, "base is the live version", "leave it out"):
        await control.compare(candidates=["base"])
    async with refused(StatusCode.INVALID_ARGUMENT, "name each once, not A, A"):
        await control.compare(candidates=["A", "A"])
    async with refused(StatusCode.NOT_FOUND, "no experiment 99; there is 1"):
        await control.compare(experiment_id=99)
    for alpha in (-0.1, 1.0, math.nan):
        async with refused(StatusCode.INVALID_ARGUMENT, "alpha"):
            await control.compare(alpha=alpha)
    await control.apply("base", model="ham")
    async with refused(StatusCode.INVALID_ARGUMENT, "model: there are several, name one of ham, spam"):
        await control.compare()
    assert (await control.compare(experiment_id=1)).experiment.model == "spam"
