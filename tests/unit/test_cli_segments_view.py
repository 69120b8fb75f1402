"""What `shadowctl segments` shows."""

from __future__ import annotations

import pytest
from rich.console import Console

from multishadow.v1.control_pb2 import Correlation, Experiment, Interval, ListSegmentsResponse, Segment
from multishadow_client.cli import segments_view


def a_segment(level: str, *, alert: bool = False, feature: str = "attributes.country", bad: int = 30) -> Segment:
    return Segment(
        feature=feature,
        level=level,
        n=1_000,
        diverged=bad,
        failed=2,
        rate=Interval(estimate=(bad + 2) / 1_000, lower=0.01, upper=0.09),
        rest_rate=0.011,
        log_evidence=12.0 if alert else 0.1,
        alert=alert,
        p_exact=1e-9 if alert else 0.3,
        p_adjusted=1e-8 if alert else 0.6,
    )


def response(*segments: Segment, buckets: int = 40) -> ListSegmentsResponse:
    return ListSegmentsResponse(
        experiment=Experiment(id=3, model="spam"),
        live_version="base",
        version="A",
        n=12_000,
        bad=150,
        segments=segments,
        correlations=[
            Correlation(
                feature="request bytes",
                n=12_000,
                rho=Interval(estimate=0.125, lower=0.101, upper=0.149),
                p_raw=1e-12,
                p_adjusted=1e-11,
            )
        ],
        alpha=0.05,
        test_name="segment against rest",
        finished_buckets=buckets,
        epoch=2,
    )


def rendered(found: ListSegmentsResponse, *, width: int = 100, most: int | None = 15) -> str:
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(segments_view.render(found, most=most))
    return capture.get()


def line_with(text: str, *parts: str) -> str:
    (found,) = [line for line in text.splitlines() if all(part in line for part in parts)]
    return found


def test_an_alert_names_the_kind_of_request_and_both_rates() -> None:
    text = rendered(response(a_segment("NO", alert=True), a_segment("DE")))
    row = line_with(text, "country NO", "1,000")
    assert row.split()[:9] == ["!", "country", "NO", "1,000", "32", "3.20", "%", "1.10", "%"]
    last = text.rstrip().splitlines()
    assert "A diverges more often where country is NO (3.20 % against 1.10 %)" in " ".join(last[-2:])
    assert line_with(text, "├", "country DE").endswith("1.00 – 9.00 %")


def test_the_worst_kind_is_named_and_better_ones_are_no_reason_to_look() -> None:
    better = a_segment("DE", alert=True, bad=3)
    both = " ".join(rendered(response(better, a_segment("NO", alert=True))).split())
    assert "A diverges more often where country is NO (3.20 % against 1.10 %): look" in both
    assert "worse on no kind of request, and diverges less often where country is DE" in rendered(
        response(better), width=140
    )


def test_without_an_alert_it_says_so_and_that_the_rest_is_for_ideas() -> None:
    text = rendered(response(a_segment("NO"), a_segment("DE")))
    assert "No kind of request is proven to be different for A." in text
    assert "for one look, for ideas" in text
    assert line_with(text, "request bytes", "12,000").split()[3:6] == ["+0.125", "[+0.101,", "+0.149]"]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits_the_terminal_and_shows_all_alerts_whatever_the_limit(width: int) -> None:
    many = [a_segment(f"kind {number}", alert=number < 4) for number in range(30)]
    text = rendered(response(*many), width=width, most=2)
    assert max(len(line) for line in text.splitlines()) <= width
    assert sum(line.startswith("!") and "kind" in line and "1,000" in line for line in text.splitlines()) == 4
    assert "26 more segments with --all." in text
    assert "more segments" not in rendered(response(*many), width=width, most=None)


def test_nothing_compared_yet_is_said() -> None:
    empty = ListSegmentsResponse(experiment=Experiment(model="spam"), version="A", live_version="base")
    assert "Nothing is compared yet" in rendered(empty)


def test_before_the_second_time_bucket_there_is_no_evidence_and_that_is_said() -> None:
    for buckets, said in ((0, True), (1, True), (2, False)):
        shown = rendered(response(a_segment("NO"), buckets=buckets))
        assert ("Evidence begins once two time buckets are over" in shown) is said
