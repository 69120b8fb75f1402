"""Counting observations."""

from __future__ import annotations

import math
from collections import Counter
from functools import reduce
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import latency
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.core.tally import Tally
from sightings import LIVE_LATENCY, NOON, an_epoch, rollup_of, seen

ABC = ("A", "B", "C")
patterns = st.lists(st.text("obetxdru", min_size=3, max_size=3), max_size=30)


def tallied(captures: list[str], candidates: tuple[str, ...] = ABC) -> Rollup:
    tally = Tally()
    for pattern in captures:
        tally.add_capture(
            an_epoch(candidates), received_at=NOON, live_latency=LIVE_LATENCY, observations=seen(candidates, pattern)
        )
    return reduce(Rollup.__add__, tally.rollups().values(), Rollup())


@given(patterns)
def test_every_sampled_copy_has_exactly_one_outcome(captures: list[str]) -> None:
    tables = tallied(captures).tables()
    for place, version in enumerate(ABC):
        outcomes = tables.get(("outcome", version), {})
        assert sum(outcomes.values()) == sum(pattern[place] != "u" for pattern in captures)


@given(patterns)
def test_each_pair_counts_each_capture_once_by_both_statuses(captures: list[str]) -> None:
    tables = tallied(captures).tables()
    status = str.maketrans("etdr", "bbxx")
    for i, j in combinations(range(3), 2):
        expected = Counter((pattern[i] + pattern[j]).translate(status) for pattern in captures)
        assert tables.get(("pair", f"{ABC[i]}|{ABC[j]}"), {}) == expected


@given(patterns)
def test_the_joint_counts_sum_to_the_pairs_and_to_the_complete_cases(captures: list[str]) -> None:
    tables = tallied(captures).tables()
    joint = tables.get(("joint", "A|B|C"), {})
    assert sum(joint.values()) == len(captures)
    complete = {statuses: count for statuses, count in joint.items() if set(statuses) <= {"o", "b"}}
    histogram, marginals = Counter[str](), Counter[str]()
    for statuses, count in complete.items():
        histogram[str(statuses.count("b"))] += count
        marginals.update({version: count for version, status in zip(ABC, statuses, strict=True) if status == "b"})
    assert tables.get(("complete_histogram", ""), {}) == histogram
    assert {version: tables.get(("complete_bad", version), {}).get("", 0) for version in ABC} == {
        version: marginals[version] for version in ABC
    }


@given(st.lists(patterns, max_size=5), st.randoms(use_true_random=False))
def test_merging_micro_batches_in_any_order_gives_the_same_rollup(batches: list[list[str]], random: object) -> None:
    rollups = [tallied(batch) for batch in batches]
    shuffled = rollups.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands out a random.Random
    whole = tallied([pattern for batch in batches for pattern in batch])
    assert reduce(Rollup.__add__, shuffled, Rollup()) == reduce(Rollup.__add__, rollups, Rollup()) == whole


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=50))
def test_similarity_moments_are_exact_integers(similarities: list[tuple[float, float]]) -> None:
    tally = Tally()
    for first, second in similarities:
        tally.add_capture(
            an_epoch(("A", "B")),
            received_at=NOON,
            live_latency=LIVE_LATENCY,
            observations=[
                Observation(version="A", outcome=Outcome.OK, similarity=first),
                Observation(version="B", outcome=Outcome.DIVERGED, similarity=second),
            ],
        )
    (rollup,) = tally.rollups().values()
    tables = rollup.tables()
    a, b = ([round(pair[side] * 1_000_000) for pair in similarities] for side in (0, 1))

    def nonzero(sums: dict[str, int]) -> dict[str, int]:
        return {level: value for level, value in sums.items() if value}

    assert tables.get(("similarity_sum", "A"), {}) == nonzero({"sum": sum(a), "squares": sum(s * s for s in a)})
    assert tables.get(("similarity_pair_sum", "A|B"), {}) == nonzero(
        {
            "first": sum(a),
            "second": sum(b),
            "first_squares": sum(s * s for s in a),
            "second_squares": sum(s * s for s in b),
            "products": sum(s * t for s, t in zip(a, b, strict=True)),
        }
    )
    assert tables["similarity", "A"] == Counter(str(s // 10_000) for s in a)


def test_pair_moments_leave_out_requests_that_only_one_was_compared_on() -> None:
    tables = rollup_of(("A", "B"), {"ob": 3, "ox": 5, "uo": 7}).tables()
    assert tables["similarity_pair_sum", "A|B"] == {
        "first": 3_000_000,
        "second": 750_000,
        "first_squares": 3 * 10**12,
        "second_squares": 3 * 250_000**2,
        "products": 3 * 250_000 * 10**6,
    }
    assert tables["similarity_sum", "A"]["sum"] == 8_000_000
    assert tables["similarity_sum", "B"]["sum"] == 7_750_000


def test_a_failure_is_bad_with_no_similarity_and_names_its_reason() -> None:
    tables = rollup_of(("A",), {"e": 2, "t": 3}).tables()
    assert tables["outcome", "A"] == {"error": 2, "timeout": 3}
    assert tables["similarity", "A"] == {"0": 5}
    assert ("similarity_sum", "A") not in tables
    assert tables["error_reason", "A"] == {"UNAVAILABLE": 2}


def test_a_timeout_has_infinite_latency_and_an_error_has_none() -> None:
    tables = rollup_of(("A",), {"e": 2, "t": 3, "o": 1}).tables()
    latencies = tables["latency", "A"]
    assert latencies["inf"] == 3
    assert sum(latencies.values()) == 4
    assert sum(tables["live_latency", "A"].values()) == 4
    assert tables["latency_ratio", "A"]["inf"] == 3


@pytest.mark.parametrize(("seconds", "slow"), [(0.019, {}), (0.020, {}), (0.021, {"ok": 1, "diverged": 1})])
def test_an_answer_is_slow_that_took_over_twice_as_long_as_lives(seconds: float, slow: dict[str, int]) -> None:
    tally = Tally()
    for outcome in (Outcome.OK, Outcome.DIVERGED, Outcome.UNCOMPARABLE):
        observation = Observation(version="A", outcome=outcome, similarity=0.5, latency=seconds)
        tally.add_capture(an_epoch(("A",)), received_at=NOON, live_latency=LIVE_LATENCY, observations=[observation])
    (found,) = tally.rollups().values()
    assert found.tables().get(("slow", "A"), {}) == slow


def test_only_identical_answers_reach_the_last_similarity_bin() -> None:
    tally = Tally()
    for similarity in (1.0, 1.0000001, 0.9999, 0.995):
        tally.add_capture(
            an_epoch(("A",)),
            received_at=NOON,
            live_latency=LIVE_LATENCY,
            observations=[Observation(version="A", outcome=Outcome.OK, similarity=similarity)],
        )
    (rollup,) = tally.rollups().values()
    assert rollup.tables()["similarity", "A"] == {"100": 2, "99": 2}


def test_captures_count_in_the_bucket_and_epoch_they_belong_to() -> None:
    tally, early, late = Tally(), an_epoch(("A",), number=1), an_epoch(("A",), number=2)
    for epoch, received_at in ((early, 3599.9), (early, 3600.0), (late, 3600.0)):
        tally.add_capture(epoch, received_at=received_at, live_latency=LIVE_LATENCY, observations=seen(("A",), "o"))
    assert tally.rollups().keys() == {(1, 0), (1, 3600), (2, 3600)}


def test_captures_dropped_before_the_log_are_excluded_with_their_reason() -> None:
    tally = Tally()
    tally.add_drops(an_epoch(), received_at=NOON, versions=("A", "B", "retired"), reason="buffer_full", count=40)
    (rollup,) = tally.rollups().values()
    tables = rollup.tables()
    assert tables["outcome", "A"] == tables["outcome", "B"] == {"dropped": 40}
    assert tables["dropped_reason", "B"] == {"buffer_full": 40}
    assert tables["joint", "A|B|C"] == {"xxu": 40}
    assert not any("retired" in subject for _, subject in tables)


def test_a_failed_live_answer_counts_for_nobody() -> None:
    tally = Tally()
    tally.add_live_failure(an_epoch(), received_at=NOON)
    (rollup,) = tally.rollups().values()
    assert rollup.cells == {Cell("live", "", "failed"): 1}


def test_versions_that_are_no_candidates_are_left_out() -> None:
    tally = Tally()
    tally.add_capture(
        an_epoch(("A",)), received_at=NOON, live_latency=LIVE_LATENCY, observations=seen(("A", "stranger"), "ob")
    )
    (rollup,) = tally.rollups().values()
    assert not any("stranger" in cell.subject for cell in rollup.cells)
    assert rollup.cells[Cell("outcome", "A", "ok")] == 1


def test_confidence_deltas_are_kept_apart_from_agreement() -> None:
    tally = Tally()
    for delta in (0.25, -0.5, math.nan):
        tally.add_capture(
            an_epoch(("A",)),
            received_at=NOON,
            live_latency=LIVE_LATENCY,
            observations=[
                Observation(version="A", outcome=Outcome.OK, similarity=1.0, confidence_delta=delta),
            ],
        )
    (rollup,) = tally.rollups().values()
    assert rollup.tables()["confidence_delta", "A"] == {
        "n": 2,
        "sum": -250_000,
        "squares": 250_000**2 + 500_000**2,
    }


def test_more_than_five_candidates_are_counted_by_pairs_only() -> None:
    tables = rollup_of(tuple("ABCDEF"), {"oooooo": 1}).tables()
    assert len([subject for family, subject in tables if family == "pair"]) == 15
    assert not any(family == "joint" for family, _ in tables)


@pytest.mark.parametrize("k", [3, 10])
def test_a_rollup_never_holds_anything_but_plain_integers(k: int) -> None:
    candidates = tuple("ABCDEFGHIJ"[:k])
    rng = np.random.default_rng(1)
    captures = ["".join(rng.choice(list("obetxdu"), size=k)) for _ in range(100)]
    assert {type(count) for count in tallied(captures, candidates).cells.values()} == {int}


def test_stored_comparisons_are_counted_for_each_candidate_that_was_bad_in_them() -> None:
    tally = Tally()
    for pattern in ("bob", "eoo", "tox"):
        tally.add_stored(an_epoch(ABC), received_at=NOON, observations=seen(ABC, pattern))
    (rollup,) = tally.rollups().values()
    stored = {cell.subject: count for cell, count in rollup.cells.items() if cell.family == "stored"}
    assert stored == {"A": 3, "C": 1}


def test_times_to_first_messages_are_counted_where_answers_were_streamed() -> None:
    observations = [
        Observation(version="A", outcome=Outcome.OK, similarity=1.0, latency=2.0, first_latency=0.2),
        # One that was cut off before its first message, and one after it.
        Observation(version="B", outcome=Outcome.TIMEOUT, similarity=0.0),
        Observation(version="C", outcome=Outcome.TIMEOUT, similarity=0.0, first_latency=0.2),
        Observation(version="stranger", outcome=Outcome.OK, similarity=1.0, latency=2.0, first_latency=0.2),
    ]
    tally = Tally()
    for live_first_latency in (0.1, 0.1, None):
        tally.add_capture(
            an_epoch(ABC), received_at=NOON, live_latency=1.0, observations=observations,
            live_first_latency=live_first_latency,
        )  # fmt: skip
    ((_, rollup),) = tally.rollups().items()
    tables = rollup.tables()
    own, live = ({str(latency.bin_of(seconds)): 2} for seconds in (0.2, 0.1))
    assert [tables["first_latency", version] for version in ABC] == [own, {"inf": 2}, own]
    assert [tables["live_first_latency", version] for version in ABC] == [live] * 3
    assert ("first_latency", "stranger") not in tables


def test_an_error_after_a_first_message_is_not_counted_as_quick() -> None:
    failed = Observation(version="A", outcome=Outcome.ERROR, reason="INTERNAL", similarity=0.0, first_latency=0.001)
    tally = Tally()
    tally.add_capture(an_epoch(ABC), received_at=NOON, live_latency=1.0, observations=[failed], live_first_latency=0.1)
    ((_, rollup),) = tally.rollups().items()
    assert not [family for family, _ in rollup.tables() if "first" in family]
