"""Ranks by labels: declared at the start, and on nothing but labels."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_quality import labelled

from multishadow_server.core import quality, report
from multishadow_server.core.report import Report, State
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.statistics.ranking import Verdict
from sightings import rollup_of

ABC = ("A", "B", "C")
# By agreement C is best and A is worst; whoever ranks by labels must not see it.
AGREEMENT = {"bbo": 500, "boo": 1_500, "ooo": 8_000}
# Live, A, B, C: A is right most often, then B.
CLEAR = {"oooo": 8_000, "booo": 500, "boob": 400, "bobb": 600, "obob": 20, "oobb": 300, "obbb": 40, "bbbb": 140}


def ranked(labels: Mapping[str, int], candidates: tuple[str, ...] = ABC, *, too_young: int = 0) -> Report:
    cohorts = labelled(("prod", *candidates), labels)
    seen = rollup_of(ABC, AGREEMENT)
    return report.build(
        seen,
        model="spam",
        live="prod",
        candidates=candidates,
        quality=quality.assess(
            cohorts,
            labelled=sum(labels.values()) + too_young,
            live="prod",
            candidates=candidates,
            alpha=0.05,
            delay=3600,
            margin=0.01,
        ),
        rank_by_labels=cohorts,
    )


def test_whoever_is_right_most_often_ranks_first() -> None:
    found = ranked(CLEAR)
    assert [(each.version, each.rank_best, each.rank_worst) for each in found.candidates] == [
        ("A", 1, 1),
        ("B", 2, 2),
        ("C", 3, 3),
    ]
    assert (found.state, found.winner) == (State.DECIDED, "A")
    assert {pair.verdict for pair in found.pairs} == {Verdict.BETTER}
    assert found.advice.startswith("A is right most often, proven against the others, and proven less than 1 pp worse")
    assert "promote it with `shadowctl promote A`; this ranks by labels, not by agreement." in found.advice


def test_rates_and_bands_stay_those_of_agreement() -> None:
    by_labels, by_agreement = (
        ranked(CLEAR),
        report.build(rollup_of(ABC, AGREEMENT), model="spam", live="prod", candidates=ABC),
    )
    assert by_agreement.winner == "C"
    for each in by_labels.candidates:
        (same,) = (other for other in by_agreement.candidates if other.version == each.version)
        assert (each.n, each.divergence, each.band) == (same.n, same.divergence, same.band)


def test_without_labels_there_is_no_rank_whatever_agrees() -> None:
    found = ranked({}, too_young=12)
    assert found.state is State.NO_DATA
    assert not any(each.ranked for each in found.candidates)
    assert found.winner == ""
    assert found.advice.startswith("No labelled request is old enough to rank by (12 are too young): send labels")


def test_few_labels_rule_nobody_out() -> None:
    found = ranked({"oooo": 100, "boob": 6, "ooob": 4, "oobo": 3})
    assert found.state is State.UNDECIDED
    assert all(each.in_best_set for each in found.candidates)
    assert "keep labelling" in found.advice
    assert "promote nobody yet" in found.advice


@pytest.mark.parametrize(
    ("labels", "state", "said"),
    [
        ({"oo": 900, "bo": 60, "ob": 10}, State.DECIDED, "and proven less than 1 pp worse than prod"),
        ({"oo": 300, "ob": 4}, State.UNDECIDED, "but not proven yet to be less than 1 pp worse"),
        ({"oo": 900, "ob": 200}, State.UNDECIDED, "but proven more than 1 pp worse than prod"),
    ],
)
def test_one_candidate_is_decided_when_it_is_not_worse_than_live(
    labels: Mapping[str, int], state: State, said: str
) -> None:
    found = ranked(labels, ("A",))
    assert found.state is state
    assert f"A is the only candidate, {said}" in found.advice


def test_equally_right_candidates_are_proven_equivalent_and_no_winner_is_made_up() -> None:
    found = ranked({"ooo": 400_000, "bbb": 10_000}, ("A", "B"))
    assert (found.state, found.winner) == (State.DECIDED, "")
    assert "A and B are right most often and proven equivalent (within 0.5 percentage points)" in found.advice


def test_empty_counts_are_no_labels() -> None:
    assert quality.labelled_requests(Rollup(), "prod") == 0
