"""What shadowing costs, against values that were worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from multishadow_server.core import cost, cost_terms
from multishadow_server.core.cost import Estimate, Pace, Price, Shadow, Traffic
from multishadow_server.core.cost_terms import CostTerms
from multishadow_server.core.report import build
from multishadow_server.core.rollup import Rollup
from multishadow_server.errors import InvalidInput
from multishadow_server.service import costs
from sightings import rollup_of

USD = Price(gpu_hour=2.5, currency="USD")


def shadows(*fractions: float, rps_per_gpu: float | None = 40.0) -> tuple[Shadow, ...]:
    return tuple(
        Shadow(version=name, fraction=fraction, rps_per_gpu=rps_per_gpu)
        for name, fraction in zip("ABC", fractions, strict=False)
    )


def estimate(*of: Shadow, rps: float = 100.0, **more: Any) -> Estimate:
    values: dict[str, Any] = {
        "price": USD,
        "box_days": 14.0,
        "days_left": 7.0,
        "pace": Pace(needed=216_000, fraction=0.25, per_second=2.5, basis="by hand"),
    }
    return cost.estimate(
        model="spam", experiment_id=1, live="prod", shadows=of, traffic=Traffic(rps=rps), **values | more
    )


@pytest.mark.parametrize(
    ("rps", "fraction", "number", "rps_per_gpu", "gpus"),
    [
        # 75 / 28 = 2.68; 100 / 28 = 3.57; 28 / 28 = 1 exactly; 28.1 / 28; nothing asked, nothing needed.
        (100, 0.25, 3, 40, 3),
        (100, 1.00, 1, 40, 4),
        (112, 0.25, 1, 40, 1),
        (112.4, 0.25, 1, 40, 2),
        (0, 0.25, 3, 40, 0),
        # 1000 · 0.1 · 3 / (50 · 0.7) = 8.57.
        (1000, 0.10, 3, 50, 9),
    ],
)
def test_gpus_are_the_requests_of_all_shadows_by_what_a_gpu_may_be_asked(
    rps: float, fraction: float, number: int, rps_per_gpu: float, gpus: int
) -> None:
    assert cost.gpus_for(rps, fraction=fraction, shadows=number, rps_per_gpu=rps_per_gpu) == gpus


def test_an_experiment_of_three_alike_shadows_costs_what_it_does_by_hand() -> None:
    bill = estimate(*shadows(0.25, 0.25, 0.25)).present
    assert (bill.gpus, bill.gpus_apart) == (3, 3)
    assert bill.copies_per_second == 75
    assert bill.multiplier == 1.75
    assert bill.per_day == 180  # 3 · 2.5 · 24
    assert bill.for_box == 2_520  # · 14
    assert bill.to_come == 1_260  # · 7


def test_versions_that_differ_are_worked_out_apart_and_those_that_share_nothing_take_a_gpu_each() -> None:
    # 100 · 0.25 / 28 = 0.89 → 1, 100 · 0.05 / 28 = 0.18 → 1; together 1.07 would be 2, too.
    assert estimate(*shadows(0.25, 0.05)).present.gpus == 2
    # 10 · 0.25 · 3 / 28 = 0.27 → 1 together, and 3 where each has its own.
    few = estimate(*shadows(0.25, 0.25, 0.25), rps=10.0).present
    assert (few.gpus, few.gpus_apart) == (1, 3)
    faster = Shadow(version="B", fraction=0.25, rps_per_gpu=400.0, utilisation=0.5)
    # 25 / 28 → 1 and 25 / 200 → 1.
    assert estimate(*shadows(0.25), faster).present.gpus == 2


def test_a_smaller_share_saves_money_and_the_decision_comes_later() -> None:
    found = estimate(*shadows(0.25, 0.25, 0.25), fractions=[0.05, 0.5])
    # 216,000 comparisons at 2.5 a second are a day; at a fifth of the share five days.
    assert found.decides_in_days == 1
    five, now, fifty = found.options
    assert [each.fraction for each in found.options] == [0.05, 0.25, 0.5]
    # 15 / 28 → 1 GPU: 60 a day, 420 to come, 840 less than 1,260.
    assert (five.bill.gpus, five.saves, five.days, five.later, five.in_time) == (1, 840, 5, 4, True)
    assert (now.saves, now.later) == (0, 0)
    # 150 / 28 = 5.36 → 6 GPUs.
    assert (fifty.bill.gpus, fifty.saves, fifty.days, fifty.later) == (6, -1_260, 0.5, -0.5)


def test_a_decision_that_comes_after_the_time_box_is_marked() -> None:
    (now,) = estimate(*shadows(0.25), days_left=0.5, fractions=[0.25]).options
    assert now.in_time is False
    unknown = Pace(needed=None, fraction=0.25, per_second=2.5, basis="by hand")
    (now,) = estimate(*shadows(0.25), pace=unknown, fractions=[0.25]).options
    assert (now.days, now.later, now.in_time) == (None, None, None)
    decided = Pace(needed=0, fraction=0.0, per_second=0.0, basis="by hand")
    assert estimate(*shadows(0.25), pace=decided).decides_in_days == 0


def test_what_nobody_said_is_named_with_how_to_say_it_and_the_rest_is_told() -> None:
    no_price = estimate(*shadows(0.25), price=None)
    assert (no_price.present.gpus, no_price.present.for_box) == (1, None)
    assert len(no_price.missing) == 1
    assert "cost: {gpu_hour: 2.50, currency: USD}" in no_price.missing[0]
    no_rate = estimate(*shadows(0.25, 0.25, rps_per_gpu=None))
    assert (no_rate.present.gpus, no_rate.present.for_box, no_rate.present.multiplier) == (None, None, 1.5)
    assert "rps_per_gpu: {A: 40, B: 40}" in no_rate.missing[0]


def test_requests_are_prorated_over_the_time_that_is_asked_about() -> None:
    # A run from 0 to 100 with 1,000 requests, one from 50 to 150 with 500, one that is over, one that was told once.
    counts = [(0.0, 100.0, 1_000), (50.0, 150.0, 500), (-50.0, -10.0, 99), (120.0, 120.0, 7)]
    requests, seconds = cost.prorated(counts, since=50.0, until=130.0)
    assert requests == pytest.approx(500 + 400 + 7)
    assert seconds == 80
    assert cost.prorated([], since=0.0, until=10.0) == (0.0, 0.0)
    # Routers that began later than the time that is asked about.
    assert cost.prorated([(60.0, 100.0, 40)], since=0.0, until=100.0) == (40.0, 40.0)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (CostTerms(gpu_hour=0), "cost.gpu_hour: 0 is out of range"),
        (CostTerms(gpu_hour=math.nan), "cost.gpu_hour: nan is out of range"),
        (CostTerms(currency="dollars"), "by ISO 4217"),
        (CostTerms(rps_per_gpu=-1.0), "cost.rps_per_gpu: -1 is out of range"),
        (CostTerms(by_version={"A": math.inf}), "cost.rps_per_gpu.A: inf is out of range"),
    ],
)
def test_terms_that_cannot_be_reckoned_with_are_refused(terms: CostTerms, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        cost_terms.check(terms)


def test_terms_are_stored_and_said_as_they_are() -> None:
    terms = CostTerms(gpu_hour=2.5, currency="EUR", rps_per_gpu=40.0, by_version={"B": 25.0})
    assert cost_terms.terms_of(cost_terms.record(terms)) == terms
    assert cost_terms.in_words(terms) == "2.5 EUR per GPU hour, 40 requests/s per GPU, B 25 requests/s per GPU"
    assert cost_terms.record(CostTerms()) is None
    assert cost_terms.in_words(CostTerms()) == "unknown"
    assert (terms.rps_of("A"), terms.rps_of("B")) == (40.0, 25.0)


@pytest.mark.parametrize("fraction", [0.0, 1.01, math.nan, -0.5])
def test_a_share_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidInput, match="fractions"):
        costs.check([fraction], None)


def test_the_decision_is_forecast_by_the_report_or_planned_while_there_is_none() -> None:
    def needed(patterns: dict[str, int], candidates: tuple[str, ...]) -> tuple[int | None, str]:
        rollup = rollup_of(candidates, patterns) if patterns else Rollup()
        return costs.forecast_of(build(rollup, model="spam", live="prod", candidates=candidates))

    decided, _ = needed({"ooo": 8_790, "obb": 90, "obo": 300, "oob": 790}, ("A", "B", "C"))
    assert decided == 0
    one, basis = needed({"o": 970, "b": 30}, ("A",))
    assert one is not None
    assert one > 0
    assert basis.startswith("the report's forecast")
    planned, basis = needed({}, ("A", "B"))
    assert planned is not None
    assert 1_000 < planned < 20_000
    assert basis.startswith("planned")
    alike, basis = needed({"oo": 2_000_000, "bb": 20_000, "bo": 15_000, "ob": 15_000}, ("A", "B"))
    assert (alike, basis) == (0, "the comparison is decided")
