"""The quality axis of `shadowctl compare`: who was right, by labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import CandidateQuality, Interval, QualityReport
from multishadow_client.cli import figures, report_table

_ROOMY = {"n", "e"}


def about(quality: QualityReport) -> str:
    """What the table is about, in a line."""
    old = f", at least {figures.span(quality.delay_seconds)} old" if quality.delay_seconds else ""
    return f"{figures.count(quality.labelled)} labelled requests{old}"


def rows(quality: QualityReport, live: str, labels: Mapping[str, str], *, roomy: bool) -> Table:
    """Accuracies beside live's on the same requests.

    Args:
        quality: the axis.
        live: the live version's name.
        labels: what each candidate is called in the report.
        roomy: whether n and e have columns of their own, for which 80 columns are too few.
    """
    columns = [
        ("version", "left"),
        ("n", "right"),
        ("accuracy, %", "left"),
        ("right alone", "right"),
        ("− live's, pp", "left"),
        ("e", "right"),
        ("not worse", "left"),
    ]
    shown = report_table.table(*(column for column in columns if roomy or column[0] not in _ROOMY))
    own = _share(quality.live_accuracy) if quality.HasField("live_accuracy") else figures.NONE
    n = [figures.count(quality.live_n)] if roomy else []
    report_table.add_row(shown, Text(f"{live} (live)"), *n, own, *[""] * (4 if roomy else 3))
    for candidate in quality.candidates:
        name = Text(labels.get(candidate.version, candidate.version), style="bold")
        cells = zip((name, *_figures(candidate)), columns, strict=True)
        report_table.add_row(shown, *(cell for cell, column in cells if roomy or column[0] not in _ROOMY))
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
        f"Not worse: proven to be right at most {100 * quality.margin:g} pp less often than live, which takes "
        f"e ≥ {quality.evidence_threshold:,.4g}. Agreement and accuracy are two axes; neither says anything about the "
        "other.",
        style="dim",
    )


def _figures(candidate: CandidateQuality) -> Iterator[str | Text]:
    yield figures.count(candidate.n)
    if not candidate.n:
        yield from (figures.NONE,) * 4
        yield Text("no labels", style="dim")
        return
    yield _share(candidate.accuracy)
    yield f"{figures.count(candidate.only_right)} : {figures.count(candidate.only_live_right)}"
    difference = candidate.difference
    yield f"{figures.points(difference.estimate)} {figures.points_range(difference.lower, difference.upper)}"
    yield figures.evidence(candidate.log_evidence_not_worse)
    yield Text("proven", style="green") if candidate.not_worse else Text("not yet", style="yellow")


def _share(interval: Interval) -> str:
    lower, _, upper = figures.percent_range(interval.lower, interval.upper).removesuffix(" %").partition(" – ")
    return f"{figures.percent(interval.estimate).removesuffix(' %')} [{lower}, {upper}]"
