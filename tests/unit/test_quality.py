"""The quality axis: accuracy, and whether a candidate is not worse than live."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

import pytest
from scipy import integrate, special

from multishadow.v1 import control_pb2
from multishadow_server.core import quality
from multishadow_server.core.findings import CandidateQuality, Quality
from multishadow_server.core.rollup import Cell, Rollup


def labelled(versions: tuple[str, ...], patterns: Mapping[str, int]) -> Rollup:
    """Counts of labelled requests by everybody's mark, the first version being live: `{"ob": 4}`."""
    total = Rollup()
    for pattern, count in patterns.items():
        cells = {Cell("label", version, letter): count for version, letter in zip(versions, pattern, strict=True)}
        for i, first in enumerate(versions):
            for j in range(i + 1, len(versions)):
                cells[Cell("label_pair", f"{first}|{versions[j]}", pattern[i] + pattern[j])] = count
        total += Rollup(cells)
    return total


def assess(patterns: Mapping[str, int], *candidates: str, labelled_in_all: int = 0) -> Quality:
    return quality.assess(
        labelled(("prod", *candidates), patterns),
        labelled=labelled_in_all or sum(patterns.values()),
        live="prod",
        candidates=candidates,
        alpha=0.05,
        delay=86_400,
        margin=0.01,
    )


@pytest.mark.parametrize(
    ("value", "message"), [(Quality, control_pb2.QualityReport), (CandidateQuality, control_pb2.CandidateQuality)]
)
def test_the_quality_axis_has_the_fields_of_the_api(value: type, message: type) -> None:
    assert {field.name for field in fields(value)} == set(message.DESCRIPTOR.fields_by_name)  # type: ignore[attr-defined]  # generated messages have it


def test_accuracies_are_counted_on_the_same_requests() -> None:
    found = assess({"oo": 900, "ob": 20, "bo": 60, "bb": 15, "ox": 3, "xo": 2}, "A", labelled_in_all=1_100)
    (a,) = found.candidates
    assert (found.labelled, found.too_young, found.live_n, found.live_right) == (1_000, 100, 998, 923)
    assert (a.n, a.right, a.live_right, a.only_right, a.only_live_right, a.unjudged) == (995, 960, 920, 60, 20, 3)
    assert a.accuracy is not None
    assert a.accuracy.lower < a.accuracy.estimate == 960 / 995 < a.accuracy.upper
    assert a.difference is not None
    assert a.difference.estimate == pytest.approx(40 / 995)
    assert 0 < a.difference.lower < a.difference.upper
    assert a.not_worse


def test_without_labels_nothing_is_claimed() -> None:
    found = assess({}, "A")
    (a,) = found.candidates
    assert (found.labelled, found.live_accuracy, a.accuracy, a.difference, a.not_worse) == (0, None, None, None, False)


def test_a_candidate_that_is_a_little_worse_is_not_proven_to_be_no_worse() -> None:
    (a,) = assess({"oo": 9_000, "ob": 200, "bo": 100, "bb": 700}, "A").candidates
    assert a.difference is not None
    assert a.difference.estimate == pytest.approx(-0.01)
    assert not a.not_worse


def test_the_evidence_is_the_integral_of_the_definition() -> None:
    (a,) = assess({"oo": 700, "ob": 20, "bo": 30, "bb": 50}, "A").candidates
    m, plus, minus, zero = -0.01, 30, 20, 750

    def wealth(u: float) -> float:
        prior = (1 - u * u) ** 9 / (0.5 * special.beta(0.5, 10))
        scores = (1, plus), (0, zero), (-1, minus)
        return float(math.prod((1 + u * (x - m) / (m + 1)) ** n for x, n in scores) * prior)

    expected, _ = integrate.quad(wealth, 0, 1, epsabs=0, epsrel=1e-11, limit=500)
    assert a.log_evidence_not_worse == pytest.approx(math.log(expected), abs=1e-9)


def test_more_candidates_ask_for_more_evidence() -> None:
    assert assess({}, "A").evidence_threshold == pytest.approx(20)
    assert assess({}, "A", "B", "C").evidence_threshold == pytest.approx(60)
    alone = assess({"oo": 800, "ob": 3, "bo": 5, "bb": 40}, "A").candidates[0]
    among = assess({"ooo": 800, "obo": 3, "boo": 5, "bbb": 40}, "A", "B").candidates[0]
    assert alone.difference is not None
    assert among.difference is not None
    assert among.difference.lower < alone.difference.lower < alone.difference.upper < among.difference.upper
