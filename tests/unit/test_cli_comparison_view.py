from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from rich.console import Console

import control_fixtures as reports
from multishadow.v1.control_pb2 import CompareResponse, Interval, NoiseFloor
from multishadow_client.cli import comparison_view
from multishadow_client.cli.interval_picture import Axis, IntervalPicture, Whisker

ALL = (reports.decided, reports.undecided, reports.no_data, reports.many_long_names)


def rendered(response: CompareResponse, width: int = 100) -> str:
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(comparison_view.render(response))
    return capture.get()


def line_with(text: str, *parts: str) -> str:
    found = [line for line in text.splitlines() if all(part in line for part in parts)]
    assert len(found) == 1, f"{len(found)} lines hold {parts}:\n{text}"
    return found[0]


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("report", ALL)
def test_a_report_fits_the_terminal_and_its_headers_are_whole(
    report: Callable[[], CompareResponse], width: int
) -> None:
    text = rendered(report(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    header = line_with(text, "rank", "version")
    assert re.search(r"rank +version +n +complete +diverged +similarity +band of the upper end", header)


def test_a_candidates_rate_interval_band_and_rank_are_told() -> None:
    text = rendered(reports.decided())
    standing = line_with(text, "< 1 % safe")
    assert standing.split() == ["1", "A", "12,345", "99.80", "%", "38", "0.9969", "<", "1", "%", "safe,", "confirmed"]
    assert line_with(text, "├", "0.31 %").endswith("0.31 %    0.17 – 0.45 %")
    assert "> 10 % do not roll out, provisional" in text


def test_the_best_candidate_stands_first_wherever_it_was_named() -> None:
    text = rendered(reports.decided())
    assert text.splitlines()[0] == "spam: C, A, B against live base"
    places = [text.index(line) for line in ("< 1 % safe", "1–5 % investigate", "> 10 % do not")]
    assert places == sorted(places)


def test_a_noise_floor_is_drawn_below_the_candidates_and_taken_off_each() -> None:
    report = reports.decided()
    report.noise_floor.MergeFrom(
        NoiseFloor(n=1_234, diverged=5, failed=1, divergence=Interval(estimate=0.0049, lower=0.0015, upper=0.012))
    )
    for found in report.candidates:
        found.over_noise.MergeFrom(Interval(estimate=0.02, lower=-0.005, upper=0.05))
    text = rendered(report)
    assert line_with(text, "base again", "├").endswith("0.49 %    0.15 – 1.20 %")
    assert "Noise floor: live base differs from itself on 0.49 % of 1,234 requests that it got twice." in text
    assert "Above it, on the same requests, in percentage points: " in text
    assert "A +2.00 [−0.50, +5.00]" in " ".join(text.split())
    assert "base again" not in rendered(reports.decided())


def test_repeated_inputs_and_bursts_are_told() -> None:
    report = reports.decided()
    assert "Repeated" not in rendered(report)
    report.candidates[0].duplicates = 1_500
    version = report.candidates[0].version
    report.pairs[0].dispersion, report.pairs[0].overdispersed = 2.46, True
    text = " ".join(rendered(report).split())
    assert f"Repeated inputs, counted once per time bucket: {version} 1,500 left out." in text
    assert "More copies repeat an input than count" not in text
    report.candidates[0].duplicates = report.candidates[0].n + 1
    assert "More copies repeat an input than count" in " ".join(rendered(report).split())
    pair = f"{report.pairs[0].first} − {report.pairs[0].second}"
    assert f"{pair}: requests come in bursts: over time the difference varies 2.5 times as much" in text


def test_calls_stand_beside_the_live_ones() -> None:
    calls = line_with(rendered(reports.decided()), "∞ / 38.8")
    assert calls.split() == ["C", "31", "21", "6", "141", "11.8", "/", "12.1", "∞", "/", "38.8"]


def test_a_pair_tells_estimate_interval_raw_and_adjusted_evidence_and_verdict() -> None:
    pair = line_with(rendered(reports.decided()), "A − B")
    figures = ["12,330", "20", ":", "354", "−2.71", "[−3.18,", "−2.23]", "1.0e70", "2e-70", "6e-70"]
    assert pair.split() == ["A", "−", "B", *figures, "A", "better"]


def test_a_verdict_of_worse_names_the_other_one() -> None:
    response = reports.decided()
    response.pairs[0].verdict = "worse"
    assert "B better" in line_with(rendered(response), "A − B")


def test_how_it_was_decided_is_told() -> None:
    text = rendered(reports.decided())
    assert "e ≥ 120 decides" in text
    assert "Test: paired betting e-process (a = 10), valid at every look; α = 0.05; family of 3 pairs." in text
    assert "epoch 2 since 2026-11-21 12:00 UTC: the comparator's threshold changed from 0.8 to 0.85" in text
    assert "12 sampled requests count for nobody: live itself failed on them." in text


def test_reasons_stand_below_the_largest_first() -> None:
    text = rendered(reports.decided())
    assert "C: dropped: 140 buffer_full, 1 in_flight_limit" in text
    assert "C: not compared: 6 empty_text" in text
    assert "B: errors: 8 UNAVAILABLE, 1 INTERNAL" in text


def test_the_advice_is_the_last_word() -> None:
    last = " ".join(rendered(reports.decided()).split("✔ ")[-1].split())
    assert last == reports.decided().advice


def test_what_is_still_needed_is_told_roughly() -> None:
    text = rendered(reports.undecided())
    assert "More requests to decide a pair, at present rates: A − B ≈ 25,000." in text
    assert "More comparisons to confirm a band, at present rates: A ≈ 3,900." in text


def test_without_data_there_are_no_empty_tables() -> None:
    text = rendered(reports.no_data())
    assert text.count("unknown: nothing compared yet") == 3
    assert "Pairs" not in text
    assert "Divergence rate" not in text
    assert text.rstrip().endswith("○ Nothing has been compared yet: send traffic to the router.")


def test_a_candidate_without_data_has_no_figures_among_those_that_have() -> None:
    text = rendered(reports.undecided())
    assert line_with(text, "C", "unknown").split()[:6] == ["–", "C", "0", "–", "0", "–"]
    assert line_with(text, "A − C").split() == ["A", "−", "C", "0", "–", "–", "–", "–", "–", "undecided"]


def test_long_names_are_numbered_once_and_used_everywhere() -> None:
    text = rendered(reports.many_long_names(), 80)
    assert "  #3  release-2026-11-12-canary" in text
    assert text.count("release-2026-11-12-canary") == 1
    assert "#1 better" in line_with(text, "#1 − #2")


def test_one_candidate_alone_has_no_pairs() -> None:
    response = reports.decided()
    del response.pairs[:]
    response.family_size = 0
    text = rendered(response)
    assert "Pairs" not in text
    assert text.count("family of") == 0


def test_names_are_never_taken_for_markup() -> None:
    response = reports.decided()
    for report in response.candidates:
        report.version = report.version.replace("A", "[red]A")
    response.pairs[0].first = "[red]A"
    response.advice = "[bold]not bold[/bold]"
    console = Console(width=100, markup=True)
    with console.capture() as capture:
        console.print(comparison_view.render(response))
    text = capture.get()
    assert "[bold]not bold[/bold]" in text
    assert "[red]A better" in line_with(text, "[red]A − B", "[−3.18, −2.23]")


def drawn(*whiskers: Whisker, width: int = 80) -> list[str]:
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(IntervalPicture(whiskers=whiskers))
    return capture.get().splitlines()


def test_an_interval_is_drawn_from_its_lower_to_its_upper_end() -> None:
    axis = Axis(top=0.1, width=41)
    bar = axis.draw(Whisker(label="A", estimate=0.0225, lower=0.00625, upper=0.05625)).plain
    assert (bar.index("├"), bar.index("●"), bar.index("┤")) == (10, 19, 30)
    assert set(bar[11:19] + bar[20:30]) == {"─"}


def test_the_bands_edges_are_marked_where_nothing_is_drawn_over_them() -> None:
    axis = Axis(top=0.1, width=41)
    line = axis.draw(Whisker(label="A", missing="nothing")).plain
    assert [cell for cell, sign in enumerate(line) if sign == "┊"] == [axis.cell(edge) for edge in (0.01, 0.05, 0.1)]


def test_a_point_is_drawn_for_an_interval_narrower_than_a_cell() -> None:
    lines = drawn(Whisker(label="A", estimate=0.5, lower=0.4999, upper=0.5001))
    assert "●" in lines[1]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_widest_figures_and_long_labels_fit(width: int) -> None:
    for estimate, upper in ((1.0, 1.0), (0.99999, 0.99999)):
        label = "request bytes [1000, 2000)"
        lines = drawn(Whisker(label=label, estimate=estimate, lower=0.9602, upper=upper), width=width)
        assert len(lines) == 2
        assert max(len(line) for line in lines) <= width
        assert lines[1].startswith(label)
        assert "96.02 – " in lines[1]


def test_answers_that_all_are_uncomparable_are_no_complete_ones() -> None:
    response = reports.no_data()
    response.candidates[0].uncomparable = 40
    shown = [line.split() for line in rendered(response).splitlines() if "unknown: nothing compared yet" in line]
    assert [line[3:5] for line in shown] == [["0.00", "%"], *([["–", "0"]] * (len(shown) - 1))]


@pytest.mark.parametrize("upper", [0.0005, 0.004, 0.012, 0.2, 0.9, 1.0])
def test_labels_never_run_into_each_other(upper: float) -> None:
    labels = drawn(Whisker(label="A", estimate=upper / 2, lower=0, upper=upper))[0]
    assert re.fullmatch(r"\s*(?:[\d.]+ %(?:\s+|$))+", labels), labels
    assert labels.split()[0] == "0"


def test_how_long_streams_took_to_begin_is_told_where_there_are_any() -> None:
    report = reports.decided()
    assert "First message" not in rendered(report)
    for candidate in report.candidates[:1]:
        candidate.first_latency_p50_ms, candidate.first_latency_p99_ms = 212.0, float("inf")
        candidate.live_first_latency_p50_ms, candidate.live_first_latency_p99_ms = 105.0, 190.0
    text = rendered(report)
    title, row = text.split("First message")[1].splitlines()[0], text.split("First message")[1]
    assert "of streamed answers, beside live base on the same requests" in title
    assert re.search(r"C +212.0 / 105.0 +∞ / 190.0", row), row
