"""Epochs: which must be open, when they turn, and which one a capture belongs to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import experiment as rules
from multishadow_server.core.experiment import Epoch, EpochPlan, Experiment
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.errors import InvalidInput

NAMES = ("base", "A", "B", "C")
STRICT = Comparator(threshold=0.95)
EXPERIMENT = Experiment(
    id=7,
    model="spam",
    candidates=("A", "B"),
    percent=25,
    bucket_seconds=3600,
    started_at=0,
    ends_at=1,
    started_by="somebody",
)
SPAM = Model(
    name="spam",
    versions=tuple(
        Version(model="spam", name=name, address="127.0.0.1:1", ordinal=place) for place, name in enumerate(NAMES)
    ),
)


def plan(live: str, *candidates: str, comparator: Comparator = SPAM.comparator) -> EpochPlan:
    return EpochPlan(live=live, candidates=candidates, comparator=comparator)


def opened(plan: EpochPlan, *, number: int = 1, revision: int = 1) -> Epoch:
    return Epoch(
        id=number,
        experiment_id=EXPERIMENT.id,
        model="spam",
        number=number,
        live=plan.live,
        candidates=plan.candidates,
        comparator=plan.comparator,
        from_revision=revision,
        until_revision=None,
        opened_at=0,
        reason="",
        bucket_seconds=3600,
    )


def test_one_live_version_has_one_epoch_with_the_experiments_candidates() -> None:
    assert rules.plan_epochs(EXPERIMENT, SPAM, {"base"}) == (plan("base", "A", "B"),)


def test_each_version_that_may_serve_has_an_epoch_and_is_a_candidate_of_the_others() -> None:
    assert rules.plan_epochs(EXPERIMENT, SPAM, {"base", "A"}) == (plan("base", "A", "B"), plan("A", "base", "B"))
    assert rules.plan_epochs(EXPERIMENT, SPAM, {"base", "C"}) == (
        plan("base", "A", "B", "C"),
        plan("C", "base", "A", "B"),
    )


def test_nobody_to_compare_means_no_epoch() -> None:
    assert rules.plan_epochs(replace(EXPERIMENT, candidates=("A",)), SPAM, {"A"}) == ()


def test_what_still_holds_goes_on() -> None:
    epoch = opened(plan("base", "A", "B"))
    turn = rules.turn_epochs([epoch], [plan("base", "A", "B")])
    assert (turn.closing, turn.opening) == ((), ())


@pytest.mark.parametrize(
    "changed", [plan("base", "A"), plan("A", "base", "B"), plan("base", "A", "B", comparator=STRICT)]
)
def test_another_live_version_candidate_or_comparator_turns_the_epoch(changed: EpochPlan) -> None:
    epoch = opened(plan("base", "A", "B"))
    turn = rules.turn_epochs([epoch], [changed])
    assert (turn.closing, turn.opening) == ((epoch,), (changed,))


@pytest.mark.parametrize("name", ["base", "A"])
def test_another_implementation_behind_a_name_turns_the_epoch(name: str) -> None:
    epoch = opened(plan("base", "A", "B"))
    turn = rules.turn_epochs([epoch], [plan("base", "A", "B")], replaced={name})
    assert (turn.closing, turn.opening) == ((epoch,), (plan("base", "A", "B"),))


def test_another_implementation_of_a_version_that_takes_no_part_changes_nothing() -> None:
    turn = rules.turn_epochs([opened(plan("base", "A", "B"))], [plan("base", "A", "B")], replaced={"C"})
    assert (turn.closing, turn.opening) == ((), ())


plans = st.sets(st.sampled_from(NAMES), min_size=1).map(lambda serving: rules.plan_epochs(EXPERIMENT, SPAM, serving))
changes = st.lists(st.tuples(plans, st.sets(st.sampled_from(NAMES), max_size=1)), min_size=1, max_size=6)


@given(changes=changes)
def test_every_capture_belongs_to_the_epoch_that_was_planned_for_its_revision(
    changes: list[tuple[tuple[EpochPlan, ...], set[str]]],
) -> None:
    epochs: list[Epoch] = []
    for revision, (planned, replaced) in enumerate(changes, start=1):
        still_open = [epoch for epoch in epochs if epoch.until_revision is None]
        turn = rules.turn_epochs(still_open, planned, replaced=replaced)
        epochs = [replace(epoch, until_revision=revision) if epoch in turn.closing else epoch for epoch in epochs]
        epochs += [opened(new, number=len(epochs) + place, revision=revision) for place, new in enumerate(turn.opening)]
    for revision, (planned, _) in enumerate(changes, start=1):
        wanted = {each.live: each for each in planned}
        for live in NAMES:
            epoch = rules.epoch_of(tuple(epochs), model="spam", live=live, revision=revision)
            found = epoch and plan(epoch.live, *epoch.candidates, comparator=epoch.comparator)
            assert found == wanted.get(live)


@given(changes=changes)
def test_no_epoch_spans_a_change_of_implementation(changes: list[tuple[tuple[EpochPlan, ...], set[str]]]) -> None:
    still_open: list[Epoch] = []
    for revision, (planned, replaced) in enumerate(changes, start=1):
        turn = rules.turn_epochs(still_open, planned, replaced=replaced)
        still_open = [epoch for epoch in still_open if epoch not in turn.closing]
        assert not any({epoch.live, *epoch.candidates} & replaced for epoch in still_open)
        still_open += [opened(new, number=revision * 10 + place) for place, new in enumerate(turn.opening)]


def test_the_present_epoch_is_the_live_versions_open_one() -> None:
    ended = replace(opened(plan("base", "A", "B"), number=1), until_revision=5)
    other = opened(plan("base", "A", "B"), number=2, revision=5)
    promoted = opened(plan("A", "base", "B"), number=3, revision=5)
    assert rules.present_epoch([ended, other, promoted], "A") is promoted
    assert rules.present_epoch([ended, other, promoted], "base") is other


def test_the_present_epoch_of_an_ended_experiment_is_among_its_last() -> None:
    first = replace(opened(plan("base", "A", "B"), number=1), until_revision=5)
    last = replace(opened(plan("A", "base", "B"), number=2, revision=5), until_revision=9)
    assert rules.present_epoch([first, last], "base") is last
    assert rules.present_epoch([], "base") is None


@pytest.mark.parametrize("duration", [0, -1, 30 * 86_400 + 1, float("nan"), float("inf")])
def test_a_time_box_out_of_range_is_refused(duration: float) -> None:
    with pytest.raises(InvalidInput, match="duration_seconds"):
        rules.check_terms(duration=duration, bucket_seconds=60)


@pytest.mark.parametrize("bucket_seconds", [0, -1, 86_401])
def test_a_bucket_width_out_of_range_is_refused(bucket_seconds: int) -> None:
    with pytest.raises(InvalidInput, match="bucket_seconds"):
        rules.check_terms(duration=60, bucket_seconds=bucket_seconds)


def test_a_time_box_of_more_buckets_than_a_report_can_read_is_refused() -> None:
    rules.check_terms(duration=30 * 86_400, bucket_seconds=60)
    with pytest.raises(InvalidInput, match=r"1,209,600 time buckets of 14 d.* buckets of 28 seconds or more"):
        rules.check_terms(duration=14 * 86_400, bucket_seconds=1)
    rules.check_terms(duration=14 * 86_400, bucket_seconds=28)


@pytest.mark.parametrize(
    ("duration", "words"), [(14 * 86_400, "14 d"), (129_600, "36 h"), (900, "15 min"), (90, "90 s"), (1.5, "1.5 s")]
)
def test_a_time_box_reads_well(duration: float, words: str) -> None:
    assert rules.in_words(duration) == words


@pytest.mark.parametrize(
    ("duration", "words"),
    [(0.4, "0 s"), (61, "61 s"), (130, "2 min"), (7_100, "118 min"), (71_282, "20 h"), (200_000, "2 d")],
)
def test_a_time_is_told_about_in_a_unit_of_which_it_has_two(duration: float, words: str) -> None:
    assert rules.about(duration) == words


@pytest.mark.parametrize(
    ("buckets", "until", "seconds"),
    [
        ((), 900_000.0, 0.0),
        # Nobody called for a week: a week in which nothing was seen is none.
        ((604_800,), 608_400.0, 3_600.0),
        # The first bucket began before the epoch did.
        ((0, 3_600), 7_300.0, 7_200.0),
        ((7_200,), 3_600.0, 0.0),
    ],
)
def test_an_epoch_collects_from_its_first_capture_on(buckets: tuple[int, ...], until: float, seconds: float) -> None:
    epoch = replace(opened(plan("base", "A")), opened_at=100.0)
    assert rules.collected_for(epoch, buckets, until=until) == seconds
