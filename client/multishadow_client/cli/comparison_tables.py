"""The tables and the picture of `shadowctl compare`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import CandidateReport, CompareResponse, Interval, PairReport
from multishadow_client.cli import figures, report_table
from multishadow_client.cli.interval_picture import Whisker

# By the largest rate that the band holds; the style follows the band's first words, since words are what the API gives.
_BAND_STYLES = (("<", "green"), ("1–", "yellow"), ("5–", "dark_orange"), (">", "red"))


def agreement(candidates: Sequence[CandidateReport], labels: Mapping[str, str]) -> Table:
    """How each candidate agrees with the live version, best first."""
    table = report_table.table(
        ("rank", "left"),
        ("version", "left"),
        ("n", "right"),
        ("complete", "right"),
        ("diverged", "right"),
        ("similarity", "right"),
        ("band of the upper end", "left"),
    )
    for report in candidates:
        report_table.add_row(
            table,
            _rank(report),
            Text(labels[report.version], style="bold"),
            figures.count(report.n),
            figures.percent(report.completeness) if report.n or report.uncomparable or report.dropped else figures.NONE,
            figures.count(report.diverged),
            f"{report.similarity:.4f}" if report.HasField("similarity") else figures.NONE,
            _band(report),
        )
    return table


def calls(candidates: Sequence[CandidateReport], labels: Mapping[str, str]) -> Table:
    """How the calls to the shadows went."""
    table = report_table.table(
        ("version", "left"),
        ("errors", "right"),
        ("timeouts", "right"),
        ("uncompared", "right"),
        ("dropped", "right"),
        ("p50 / live ms", "right"),
        ("p99 / live ms", "right"),
    )
    for report in candidates:
        report_table.add_row(
            table,
            Text(labels[report.version], style="bold"),
            _count_of_bad(report.errors),
            _count_of_bad(report.timeouts),
            figures.count(report.uncomparable),
            figures.count(report.dropped),
            _beside(report, "latency_p50_ms"),
            _beside(report, "latency_p99_ms"),
        )
    return table


def is_streamed(report: CandidateReport) -> bool:
    """Whether streamed answers were measured."""
    return report.HasField("live_first_latency_p50_ms")


def first_messages(candidates: Sequence[CandidateReport], labels: Mapping[str, str]) -> Table:
    """How long streamed answers took to begin."""
    table = report_table.table(("version", "left"), ("p50 / live ms", "right"), ("p99 / live ms", "right"))
    for report in filter(is_streamed, candidates):
        report_table.add_row(
            table,
            Text(labels[report.version], style="bold"),
            _beside(report, "first_latency_p50_ms"),
            _beside(report, "first_latency_p99_ms"),
        )
    return table


def pairs(pairs: Sequence[PairReport], labels: Mapping[str, str], *, roomy: bool) -> Table:
    """Each pair of candidates, and who is better."""
    columns = [
        ("pair", "left"),
        ("n", "right"),
        ("bad alone", "right"),
        ("difference", "left"),
        ("e", "right"),
        ("p", "right"),
        ("p adj.", "right"),
        ("verdict", "left"),
    ]
    table = report_table.table(*(column for column in columns if roomy or column[0] != "n"))
    for pair in pairs:
        first, second = labels.get(pair.first, pair.first), labels.get(pair.second, pair.second)
        n = [figures.count(pair.n)] if roomy else []
        report_table.add_row(
            table, f"{first} − {second}", *n, *_pair_figures(pair), _verdict(pair.verdict, first, second)
        )
    return table


def _pair_figures(pair: PairReport) -> Iterator[str]:
    if not pair.n:
        yield from (figures.NONE,) * 5
        return
    difference = pair.difference
    yield f"{figures.count(pair.only_first_bad)} : {figures.count(pair.only_second_bad)}"
    yield f"{figures.points(difference.estimate)} {figures.points_range(difference.lower, difference.upper)}"
    yield figures.evidence(max(pair.log_evidence_first_worse, pair.log_evidence_second_worse))
    yield figures.p_value(pair.p_raw)
    yield figures.p_value(pair.p_adjusted)


def _verdict(verdict: str, first: str, second: str) -> Text:
    match verdict:
        case "better":
            return Text(f"{first} better", style="green")
        case "worse":
            return Text(f"{second} better", style="green")
        case "equivalent":
            return Text("equivalent", style="cyan")
        case _:
            return Text(verdict, style="yellow")


def _rank(report: CandidateReport) -> str:
    if not report.ranked:
        return figures.NONE
    if report.rank_best == report.rank_worst:
        return f"{report.rank_best}"
    return f"{report.rank_best}–{report.rank_worst}"


def _band(report: CandidateReport) -> Text:
    if not report.HasField("divergence"):
        # Of sessions nothing may be known yet although answers were compared.
        return Text(f"unknown: {'no session ended' if report.n else 'nothing compared'} yet", style="dim")
    certainty = "confirmed" if report.band_confirmed else "provisional"
    return Text.assemble((report.band, _band_style(report)), f", {certainty}")


def _band_style(report: CandidateReport) -> str:
    return next((style for start, style in _BAND_STYLES if report.band.startswith(start)), "")


def whisker(report: CandidateReport, labels: Mapping[str, str]) -> Whisker:
    """A candidate's divergence rate, for the picture."""
    if not report.HasField("divergence"):
        return Whisker(label=labels[report.version], missing=f"{figures.NONE:>6}")
    interval: Interval = report.divergence
    return Whisker(
        label=labels[report.version],
        style=_band_style(report),
        estimate=interval.estimate,
        lower=interval.lower,
        upper=interval.upper,
    )


def noise_whisker(response: CompareResponse) -> Iterator[Whisker]:
    """The live version beside itself, where that is measured."""
    if response.HasField("noise_floor") and response.unit != "session":
        found = response.noise_floor.divergence
        label = f"{response.live_version} again"
        yield Whisker(label=label, style="dim", estimate=found.estimate, lower=found.lower, upper=found.upper)


def _count_of_bad(number: int) -> Text:
    return Text(figures.count(number), style="red" if number else "")


def _beside(report: CandidateReport, field: str) -> str:
    said = {descriptor.name: value for descriptor, value in report.ListFields()}
    own, live = (figures.milliseconds(said.get(name)) for name in (field, f"live_{field}"))
    return f"{own} / {live}"
