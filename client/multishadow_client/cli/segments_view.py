"""What `shadowctl segments` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1.control_pb2 import Correlation, ListSegmentsResponse, Segment
from multishadow_client.cli import figures, report_table
from multishadow_client.cli.interval_picture import IntervalPicture, Whisker

_CERTAIN = 0.05


def render(response: ListSegmentsResponse, *, most: int | None) -> RenderableType:
    """The report as a renderable that fits 80 columns.

    Args:
        response: the report.
        most: segments to show; None for all. Alerts are always shown.
    """
    return Group(*_parts(response, most))


def _parts(response: ListSegmentsResponse, most: int | None) -> Iterator[RenderableType]:
    name = response.experiment.model
    yield Text.assemble((f"{name}: {response.version}", "bold"), " against live ", (response.live_version, "bold"))
    rate = figures.percent(response.bad / response.n) if response.n else figures.NONE
    yield Text(f"{figures.count(response.n)} comparisons, {rate} diverged or failed · epoch {response.epoch}", "dim")
    if not response.segments:
        yield Text()
        yield Text("○ Nothing is compared yet: see `shadowctl compare`.", "bold")
        return
    alerts = sum(segment.alert for segment in response.segments)
    shown = response.segments[: None if most is None else max(most, alerts)]
    yield Text()
    yield report_table.title("Segments", "how often they diverge or fail, beside all other requests")
    yield _segments(shown)
    yield Text()
    confidence = f"{100 * (1 - response.alpha):g} %"
    yield report_table.title("Rate", f"{confidence} intervals that hold together, however often you look")
    yield IntervalPicture(whiskers=[_whisker(segment) for segment in shown])
    if response.correlations:
        yield Text()
        yield report_table.title(
            "Correlations", "of ordered features with diverging or failing; for one look, for ideas"
        )
        yield _correlations(response.correlations)
    yield Text()
    yield from _footnotes(response, len(shown))
    yield _conclusion(response)


def _segments(segments: Sequence[Segment]) -> RenderableType:
    table = report_table.table(
        ("", "left"),
        ("segment", "left"),
        ("n", "right"),
        ("bad", "right"),
        ("rate", "right"),
        ("rest", "right"),
        ("e", "right"),
        ("p adj.", "right"),
    )
    for segment in segments:
        report_table.add_row(
            table,
            Text("!", style="bold red") if segment.alert else "",
            Text(_named(segment), style="bold" if segment.alert else ""),
            figures.count(segment.n),
            figures.count(segment.diverged + segment.failed),
            figures.percent(segment.rate.estimate),
            figures.percent(segment.rest_rate) if segment.HasField("rest_rate") else figures.NONE,
            figures.evidence(segment.log_evidence),
            Text(figures.p_value(segment.p_adjusted), style="" if segment.p_adjusted <= _CERTAIN else "dim"),
        )
    return table


def _correlations(correlations: Sequence[Correlation]) -> RenderableType:
    table = report_table.table(
        ("feature", "left"), ("n", "right"), ("ρ", "right"), ("interval", "left"), ("p adj.", "right")
    )
    for found in correlations:
        report_table.add_row(
            table,
            _short(found.feature),
            figures.count(found.n),
            f"{found.rho.estimate:+.3f}".replace("-", "−"),
            f"[{found.rho.lower:+.3f}, {found.rho.upper:+.3f}]".replace("-", "−"),
            figures.p_value(found.p_adjusted),
        )
    return table


def _short(feature: str) -> str:
    return feature.removeprefix("attributes.")


def _named(segment: Segment) -> str:
    return f"{_short(segment.feature)} {segment.level}"


def _whisker(segment: Segment) -> Whisker:
    rate = segment.rate
    return Whisker(
        label=_named(segment),
        style="red" if segment.alert else "",
        estimate=rate.estimate,
        lower=rate.lower,
        upper=rate.upper,
    )


def _footnotes(response: ListSegmentsResponse, shown: int) -> Iterator[Text]:
    hidden = len(response.segments) - shown
    if hidden:
        yield Text(f"{figures.count(hidden)} more segments with --all.", style="dim")
    buckets = figures.count(response.finished_buckets)
    yield Text(f"e: {response.test_name}; α = {response.alpha:g}; {buckets} finished time buckets.", style="dim")
    if response.finished_buckets < 2:
        # The first one is what the second is judged by.
        yield Text("Evidence begins once two time buckets are over; until then there is p alone.", style="dim")
    family = figures.count(len(response.segments))
    yield Text(
        f"p: Fisher's exact test, adjusted by Benjamini–Hochberg over {family} segments; for one look, for ideas.",
        style="dim",
    )


def _conclusion(response: ListSegmentsResponse) -> Text:
    """What to do about kinds of request on which the candidate is proven worse; being better on some is no fault."""
    alerts = [segment for segment in response.segments if segment.alert]
    worse = [segment for segment in alerts if segment.rate.estimate > segment.rest_rate]
    if worse:
        first, others = worse[0], f", and on {len(worse) - 1} more" if len(worse) > 1 else ""
        return Text(
            f"! {response.version} diverges more often where {_beside_the_rest(first)}{others}: look at such requests "
            "before you promote.",
            style="bold red",
        )
    if alerts:
        return Text(
            f"✔ {response.version} is proven worse on no kind of request, and diverges less often where "
            f"{_beside_the_rest(alerts[0])}.",
            style="bold green",
        )
    return Text(f"✔ No kind of request is proven to be different for {response.version}.", style="bold green")


def _beside_the_rest(segment: Segment) -> str:
    rates = f"{figures.percent(segment.rate.estimate)} against {figures.percent(segment.rest_rate)}"
    return f"{_short(segment.feature)} is {segment.level} ({rates})"
