"""A candidate by kinds of request: which diverge more than the rest, and how that is proven."""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_client.cli import figures
from multishadow_server.core.segment_report import Correlation, Segment
from multishadow_server.core.segments import ATTRIBUTES, OTHER
from multishadow_server.entrypoints.web import interval_picture
from multishadow_server.entrypoints.web.interval_picture import IntervalPicture
from multishadow_server.service.segments import CandidateSegments

MOST = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRow:
    """One kind of request, as it is shown.

    Args:
        segment: its figures.
        name: the feature without what all attributes begin with.
        level: as counts are kept by: `attributes.country=NO`.
        bad: diverged and failed.
        findable: whether its requests can be looked for: `(other)` gathers many levels.
        effect: how many times the rest's rate, in words; empty where that cannot be said.
        kind: `bad` where it is proven to diverge more, `good` where less; else empty.
    """

    segment: Segment
    name: str
    level: str
    bad: int
    findable: bool
    effect: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentsView:
    """The kinds of request of one candidate.

    Args:
        rows: those that are shown, alerts first.
        rates: their intervals, in the same order.
        hidden: how many more there are.
        correlations: with being bad, of ordered features.
        correlated: their intervals.
        conclusion: what to make of it; `concern` when a kind is proven worse.
    """

    rows: tuple[SegmentRow, ...]
    rates: IntervalPicture
    hidden: int
    correlations: tuple[Correlation, ...]
    correlated: IntervalPicture
    conclusion: str
    concern: bool


def view(found: CandidateSegments, *, every: bool) -> SegmentsView:
    """What the page shows; `every` leaves none out, and else alerts are always among the first."""
    report = found.report
    alerts = [segment for segment in report.segments if segment.alert]
    shown = report.segments if every else report.segments[: max(MOST, len(alerts))]
    worse = [segment for segment in alerts if _is_worse(segment)]
    return SegmentsView(
        rows=tuple(_row(segment) for segment in shown),
        rates=interval_picture.of_rates((f"{_short(each.feature)} {each.level}", each.rate) for each in shown),
        hidden=len(report.segments) - len(shown),
        correlations=report.correlations,
        correlated=interval_picture.of_correlations((_short(each.feature), each.rho) for each in report.correlations),
        conclusion=_conclusion(report.version, report.segments, alerts, worse),
        concern=bool(worse),
    )


def _row(segment: Segment) -> SegmentRow:
    rest = segment.rest_rate
    return SegmentRow(
        segment=segment,
        name=_short(segment.feature),
        level=f"{segment.feature}={segment.level}",
        bad=segment.diverged + segment.failed,
        findable=bool(segment.diverged + segment.failed) and segment.level != OTHER,
        effect=f"{segment.rate.estimate / rest:.1f} ×" if rest else "",
        kind="" if not segment.alert else "bad" if _is_worse(segment) else "good",
    )


def _is_worse(segment: Segment) -> bool:
    return segment.rest_rate is not None and segment.rate.estimate > segment.rest_rate


def _short(feature: str) -> str:
    return feature.removeprefix(ATTRIBUTES)


def _conclusion(version: str, known: tuple[Segment, ...], alerts: list[Segment], worse: list[Segment]) -> str:
    if not known:
        return "Nothing is compared yet."
    if worse:
        others = f", and on {len(worse) - 1} more" if len(worse) > 1 else ""
        return (
            f"{version} diverges more often where {_beside_the_rest(worse[0])}{others}: look at such requests "
            "before you promote."
        )
    if alerts:
        return (
            f"{version} is proven worse on no kind of request, and diverges less often where "
            f"{_beside_the_rest(alerts[0])}."
        )
    return f"No kind of request is proven to be different for {version}."


def _beside_the_rest(segment: Segment) -> str:
    rates = f"{figures.percent(segment.rate.estimate)} against {figures.percent(segment.rest_rate or 0.0)}"
    return f"{_short(segment.feature)} is {segment.level} ({rates})"
