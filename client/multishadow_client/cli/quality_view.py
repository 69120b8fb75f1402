"""The quality axis of `shadowctl compare`: who was right, by labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import CandidateQuality, Interval, QualityReport
from multishadow_client.cli import figures, report_table


def about(quality: QualityReport) -> str:
    """What the table is about, in a line."""
    old = f", at least {figures.span(quality.delay_seconds)} old" if quality.delay_seconds else ""
    return f"{figures.count(quality.labelled)} labelled requests{old}"


def rows(quality: QualityReport, live: str, labels: Mapping[str, str]) -> Table:
    """Accuracies beside live's on the same requests.

    Args:
        quality: the axis.
        live: the live version's name.
        labels: what each candidate is called in the report.
    """
    shown = report_table.table(
        ("version", "left"),
        ("n", "right"),
        ("accuracy", "left"),
        ("right alone", "right"),
        ("accuracy − live's", "left"),
        ("e", "right"),
        (f"not {100 * quality.margin:g} pp worse", "left"),
    )
    own = _share(quality.live_accuracy) if quality.HasField("live_accuracy") else figures.NONE
    report_table.add_row(shown, Text(f"{live} (live)"), figures.count(quality.live_n), own, "", "", "", "")
    for candidate in quality.candidates:
        name = Text(labels.get(candidate.version, candidate.version), style="bold")
        report_table.add_row(shown, name, *_figures(candidate))
    return shown


def footnotes(quality: QualityReport, labels: Mapping[str, str]) -> Iterator[Text]:
    """What the table leaves out."""
    if quality.too_young:
        yield Text(f"{figures.count(quality.too_young)} labelled requests are too young to count yet.", style="dim")
    for candidate in quality.candidates:
        if candidate.unjudged:
            name, number = labels.get(candidate.version, candidate.version), figures.count(candidate.unjudged)
            yield Text(f"{name}: {number} labels are of no kind that its answers could be held against.", style="dim")
    yield Text(
        f"Not worse: e ≥ {quality.evidence_threshold:,.4g} decides. Agreement and accuracy are two axes; neither says "
        "anything about the other.",
        style="dim",
    )


def _figures(candidate: CandidateQuality) -> Iterator[str | Text]:
    yield figures.count(candidate.n)
    if not candidate.n:
        yield from (figures.NONE,) * 4
        yield Text("no labels yet", style="dim")
        return
    yield _share(candidate.accuracy)
    yield f"{figures.count(candidate.only_right)} : {figures.count(candidate.only_live_right)}"
    difference = candidate.difference
    yield f"{figures.points(difference.estimate)} {figures.points_range(difference.lower, difference.upper)}"
    yield figures.evidence(candidate.log_evidence_not_worse)
    yield Text("proven", style="green") if candidate.not_worse else Text("not proven", style="yellow")


def _share(interval: Interval) -> str:
    return f"{figures.percent(interval.estimate)} [{figures.percent_range(interval.lower, interval.upper)}]"
