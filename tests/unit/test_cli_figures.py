from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
import typer
import yaml
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import control_pb2
from multishadow_client.cli import document, duration, figures


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("14d", 1_209_600),
        ("1d12h", 129_600),
        ("0.5h", 1_800),
        ("2 w", 1_209_600),
    ],
)
def test_spans_are_typed_with_their_units(typed: str, meant: int) -> None:
    assert duration.seconds(typed) == meant


@pytest.mark.parametrize("typed", ["", "14", "d", "14 days", "-3d", "3d-", "1e3s", "0s", "∞", "1d 2x"])
def test_what_is_no_span_is_refused_with_examples(typed: str) -> None:
    with pytest.raises(typer.BadParameter, match="90s, 15m, 12h, 14d"):
        duration.seconds(typed)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0.00 %"),
        (0.0081, "0.81 %"),
        (1, "100.00 %"),
        (0.00003, "<0.01 %"),
        (0.99997, ">99.99 %"),
        (0.1234567, "12.35 %"),
    ],
)
def test_rounding_never_makes_nothing_or_everything_of_a_share(share: float, shown: str) -> None:
    assert figures.percent(share) == shown


@pytest.mark.parametrize(
    ("lower", "upper", "shown"),
    [
        (0, 0.01, "0.00 – 1.00 %"),
        # Not proven below 1 %, and not shown as if.
        (0.000_03, 0.010_049, "<0.01 – 1.01 %"),
        (0.009_999, 0.07, "0.99 – 7.00 %"),
        (0.29, 0.57, "29.00 – 57.00 %"),
        (0.960_2, 0.999_97, "96.02 – >99.99 %"),
        (1, 1, "100.00 – 100.00 %"),
    ],
)
def test_an_interval_of_shares_is_rounded_outwards(lower: float, upper: float, shown: str) -> None:
    assert figures.percent_range(lower, upper) == shown


@pytest.mark.parametrize(("share", "shown"), [(0, "0.00 %"), (0.010_001, "1.01 %"), (0.01, "1.00 %"), (1, "100.00 %")])
def test_an_upper_bound_is_rounded_up(share: float, shown: str) -> None:
    assert figures.at_most(share) == shown


@pytest.mark.parametrize(
    ("lower", "upper", "shown"),
    [
        (-0.029_01, -0.015_21, "[−2.91, −1.52]"),
        (-0.002, -0.000_03, "[−0.20, −0.00]"),
        (0.000_03, 0.002, "[+0.00, +0.20]"),
        # Not inside ±0.5 percentage points.
        (-0.005_01, 0.005_01, "[−0.51, +0.51]"),
        (-1, 1, "[−100.00, +100.00]"),
    ],
)
def test_an_interval_of_differences_is_rounded_outwards_and_keeps_its_signs(
    lower: float, upper: float, shown: str
) -> None:
    assert figures.points_range(lower, upper) == shown


@pytest.mark.parametrize(
    ("log_evidence", "shown"),
    [
        (0.0, "1.00"),
        (math.log(120), "120"),
        (math.log(54_321), "54,321"),
        (800.0, "2.7e347"),
        (-900.0, "<0.01"),
        (5_000.0, "2.9e2171"),
        # Decided is what reaches the threshold, and what is shown as it.
        (math.log(40), "40"),
        (math.log(39.99), "39"),
        (math.log(9.999), "9.99"),
        (math.log(10), "10"),
        (227 * math.log(10) - 0.001, "9.9e226"),
    ],
)
def test_evidence_is_shown_however_large(log_evidence: float, shown: str) -> None:
    assert figures.evidence(log_evidence) == shown


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (1, "1.000"),
        (0.05, "0.050"),
        (0.0502, "0.051"),
        (0.0009996, "1e-3"),
        (0.00004, "4e-5"),
        (0.000_014, "2e-5"),
        (0.000_095, "1e-4"),
        (0, "<1e-300"),
        (5e-324, "<1e-300"),
        (2e-70, "2e-70"),
    ],
)
def test_a_p_value_is_never_shown_smaller_than_it_is(p: float, shown: str) -> None:
    assert figures.p_value(p) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (math.inf, "∞"), (0.04, "0.0"), (12.34, "12.3"), (12_345.6, "12,346")]
)
def test_latencies_are_shown_in_milliseconds(value: float | None, shown: str) -> None:
    assert figures.milliseconds(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (-5, "0 s"), (61, "1 m 1 s"), (950_400, "11 d"), (90_061, "1 d 1 h")]
)
def test_spans_are_shown_in_their_two_largest_units(seconds: float, shown: str) -> None:
    assert figures.span(seconds) == shown


def test_ages_are_told_from_now() -> None:
    now = datetime.fromtimestamp(1_000_000, UTC)
    assert figures.ago(Timestamp(seconds=999_880), now) == "2 m ago"


def test_a_document_has_every_field_by_its_protos_name() -> None:
    plain = document.plain(control_pb2.CompareResponse())
    assert list(plain) == [field.name for field in control_pb2.CompareResponse.DESCRIPTOR.fields]
    assert plain["candidates"] == []
    assert plain["experiment"] is None


def test_counts_are_numbers_and_times_are_in_utc() -> None:
    experiment = control_pb2.Experiment(id=2**40, started_at=Timestamp(seconds=1_795_435_200, nanos=500_000_000))
    plain = document.plain(experiment)
    assert plain["id"] == 2**40
    assert plain["started_at"] == "2026-11-23T12:00:00.500000Z"
    assert plain["stopped_at"] is None


def test_a_figure_that_is_absent_is_null_and_one_that_is_zero_is_zero() -> None:
    plain = document.plain(control_pb2.CandidateReport(latency_p50_ms=0.0))
    assert plain["latency_p50_ms"] == 0.0
    assert plain["latency_p99_ms"] is None


def test_json_and_yaml_say_the_same_and_can_be_read_back() -> None:
    definition = Struct()
    definition.update({"variants": {"live": "live"}, "targeting": {"if": [True, "A", None]}})
    report = control_pb2.CandidateReport(version="Ä", latency_p99_ms=math.inf, dropped_by_reason={"b": 1, "a": 2})
    for message in (control_pb2.Flag(key="spam.A", definition=definition), report):
        plain = document.plain(message)
        assert json.loads(document.as_json(plain)) == plain
        assert yaml.safe_load(document.as_yaml(plain)) == plain
    assert document.plain(report)["latency_p99_ms"] == "inf"
    assert document.plain(control_pb2.SetFlagRequest(claim=control_pb2.CLAIM_SHADOW))["claim"] == "CLAIM_SHADOW"
