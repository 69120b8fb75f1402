"""Kinds of request: how requests are sorted into few levels, and what is found in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import segment_report, segments
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.segment_report import SegmentReport
from multishadow_server.core.segments import MOST_FEATURES, MOST_LEVELS, KnownLevels
from multishadow_server.core.tally import Tally
from shadowed_traffic import a_capture
from sightings import LIVE_LATENCY, an_epoch, seen

MIDNIGHT = 1_700_006_400  # 2023-11-15 00:00 UTC
HOUR = 3_600
EPOCH = an_epoch(("A", "B"))


def levels_of(attributes: dict[str, object], *, confidence: float | None = None) -> list[str]:
    observation = Observation(version="A", outcome=Outcome.OK, live_confidence=confidence)
    capture = a_capture("r", attributes=attributes, request=b"x" * 300, received_at=MIDNIGHT + 13.5 * HOUR)
    return segments.levels_of(capture, [observation])


def test_a_request_belongs_to_a_level_of_each_feature_that_it_has() -> None:
    attributes = {"country": "NO", "premium": True, "age": 41.0, "user": {"plan": "pro"}, "tags": ["a"], "none": None}
    assert levels_of(attributes, confidence=0.97) == [
        "request bytes=[200, 500)",
        "hour (UTC)=13",
        "live confidence=[0.9, 1]",
        "attributes.country=NO",
        "attributes.premium=true",
        "attributes.age=[20, 50)",
        "attributes.user.plan=pro",
    ]


def test_a_model_may_name_the_attributes_that_count() -> None:
    capture = a_capture("r", attributes={"country": "NO", "id": "x7", "user": {"plan": "pro", "name": "Ada"}})
    found = segments.levels_of(capture, [], attributes=("country", "user.plan", "missing"))
    assert found[2:] == ["attributes.country=NO", "attributes.user.plan=pro"]


def test_what_callers_send_never_breaks_a_level() -> None:
    found = levels_of({"a=b": "x\x00y", "long": "z" * 500, "n": math.inf, "m": -0.0}, confidence=math.nan)
    assert found[2:] == [
        "attributes.a_b=x\ufffdy",
        f"attributes.long={'z' * segments.LONGEST_NAME}",
        "attributes.n=inf",
        "attributes.m=[0, 0.001)",
    ]


@given(st.floats(-1e12, 1e12))
def test_a_number_lies_in_its_bin(number: float) -> None:
    text = segments.binned(number)
    lower, upper = (float(end) for end in text[1:-1].split(", "))
    assert lower <= number < upper if text[0] == "[" else lower < number <= upper
    assert segments.place_of(f"x={text}") == lower


def test_numbers_have_few_bins_and_names_are_not_taken_for_bins() -> None:
    bins = {segments.binned(float(sign * 10.0**power)) for power in np.arange(-6, 14, 0.01) for sign in (1, -1)}
    assert len(bins) <= 2 * 38
    assert segments.place_of("country=NO") is None
    assert segments.place_of("hour (UTC)=13") is None


def test_levels_and_features_beyond_the_bounds_share_a_place_or_are_left_out() -> None:
    known = KnownLevels()
    known.learn(7, ["attributes.id=0"])
    found = {level for number in range(500) for level in known.bounded(7, [f"attributes.id={number}"])}
    assert len(found) == MOST_LEVELS + 1
    assert "attributes.id=(other)" in found
    assert known.bounded(7, ["attributes.id=3"]) == ["attributes.id=3"]
    many = known.bounded(7, [f"attributes.f{number}=1" for number in range(100)])
    assert len(many) == MOST_FEATURES - 1
    assert known.knows(7)
    assert not known.knows(8)


def hour_of(number: int, *kinds: tuple[str, str, int]) -> Rollup:
    """An hour's counts: (country, pattern of A and B, how many)."""
    tally = Tally()
    for country, pattern, count in kinds:
        for _ in range(count):
            tally.add_capture(
                EPOCH,
                received_at=MIDNIGHT + number * HOUR,
                live_latency=LIVE_LATENCY,
                observations=seen(("A", "B"), pattern),
                segments=[f"hour (UTC)={number % 24:02d}", f"attributes.country={country}", "request bytes=[200, 500)"],
            )
    (rollup,) = tally.rollups().values()
    return rollup


def report_on(hours: dict[int, Rollup], version: str = "A") -> SegmentReport:
    buckets = {MIDNIGHT + number * HOUR: rollup for number, rollup in hours.items()}
    return segment_report.build(buckets, version=version, alpha=0.05)


def test_a_kind_of_request_on_which_a_candidate_is_worse_raises_an_alert_and_the_others_do_not() -> None:
    kinds = (("NO", "bo", 12), ("NO", "oo", 28), ("DE", "bo", 2), ("DE", "oo", 98), ("DE", "xb", 5), ("DE", "ro", 5))
    found = report_on({number: hour_of(number, *kinds) for number in range(12)})
    assert (found.version, found.n, found.bad, found.finished_buckets) == ("A", 140 * 12, 14 * 12, 11)
    alerts = [(each.feature, each.level) for each in found.segments if each.alert]
    assert sorted(alerts) == [("attributes.country", "DE"), ("attributes.country", "NO")]
    norway = next(each for each in found.segments if each.level == "NO")
    assert (norway.n, norway.diverged, norway.failed) == (480, 144, 0)
    assert norway.rate.estimate == pytest.approx(0.3)
    assert norway.rate.lower < 0.3 < norway.rate.upper
    assert norway.rest_rate == pytest.approx(0.02)
    assert norway.p_exact <= norway.p_adjusted < 1e-20
    size = next(each for each in found.segments if each.feature == "request bytes")
    assert (size.rest_rate, size.p_exact, size.alert) == (None, 1.0, False)
    assert size.log_evidence == pytest.approx(0, abs=1e-9)
    # B agrees in every country.
    assert not any(each.alert for each in report_on({0: hour_of(0, *kinds), 1: hour_of(1, *kinds)}, "B").segments)


def test_errors_and_timeouts_count_as_failed() -> None:
    found = report_on({0: hour_of(0, ("NO", "eo", 3), ("NO", "to", 4), ("NO", "bo", 2), ("NO", "oo", 1))})
    norway = next(each for each in found.segments if each.level == "NO")
    assert (norway.n, norway.diverged, norway.failed) == (10, 2, 7)


def test_the_newest_bucket_is_no_evidence_yet() -> None:
    calm = {number: hour_of(number, ("NO", "oo", 50), ("DE", "oo", 50)) for number in range(5)}
    burning = {**calm, 5: hour_of(5, ("NO", "bo", 50), ("DE", "oo", 50))}
    before, after = report_on(calm), report_on(burning)
    assert max(abs(each.log_evidence) for each in before.segments) < 1e-9
    assert not any(each.alert for each in after.segments)
    assert min(each.p_adjusted for each in after.segments) < 1e-10


def test_hours_are_compared_within_days() -> None:
    days = 8
    hours = {
        24 * day + hour: hour_of(24 * day + hour, ("NO", "bo", 15 if hour == 3 else 1), ("NO", "oo", 25))
        for day in range(days)
        for hour in (2, 3, 4, 5)
    }
    alerts = {(each.feature, each.level) for each in report_on(hours).segments if each.alert}
    assert ("hour (UTC)", "03") in alerts


def test_an_ordered_feature_that_goes_with_diverging_is_correlated() -> None:
    tally = Tally()
    for place, size in enumerate(("[100, 200)", "[200, 500)", "[500, 1000)", "[1000, 2000)")):
        for number in range(100):
            tally.add_capture(
                EPOCH,
                received_at=MIDNIGHT,
                live_latency=LIVE_LATENCY,
                observations=seen(("A", "B"), "bo" if number < 5 + 10 * place else "oo"),
                segments=["hour (UTC)=00", f"request bytes={size}", "attributes.country=NO"],
            )
    (rollup,) = tally.rollups().values()
    (found,) = segment_report.build({MIDNIGHT: rollup}, version="A", alpha=0.05).correlations
    assert (found.feature, found.n) == ("request bytes", 400)
    assert 0 < found.rho.lower < found.rho.estimate < found.rho.upper < 1
    assert found.p_raw == found.p_adjusted < 1e-5


def test_nothing_compared_is_an_empty_report() -> None:
    found = report_on({})
    assert (found.n, found.segments, found.correlations, found.finished_buckets) == (0, (), (), 0)
