"""What `shadowctl compare` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from multishadow.v1.control_pb2 import CandidateReport, CompareResponse
from multishadow_client.cli import (
    alarm_view,
    comparison_footnotes,
    comparison_tables,
    figures,
    gates_view,
    quality_view,
    report_table,
    schedule_view,
    sessions_view,
)
from multishadow_client.cli.interval_picture import IntervalPicture

_ROOMY = 92
"""Columns from which everything has its own."""
_LONGEST_LABEL = 12
"""Longer names of versions would wrap in every cell of every table; the view then numbers them and says so once."""
_STATES: Mapping[str, tuple[str, str]] = {
    "decided": ("✔", "bold green"),
    "undecided": ("…", "bold yellow"),
    "no_data": ("○", "bold"),
}


def render(response: CompareResponse) -> RenderableType:
    """The report as a renderable that fits the width it is given, from 80 columns up."""
    return ComparisonView(response)


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """A report: who is compared, the candidates, their intervals, their calls, the pairs, and what to do.

    Args:
        response: the report.
        advice_first: what to do stands at the top, for a screen that may be too low for all of it.
    """

    response: CompareResponse
    advice_first: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, with an empty line between two."""
        roomy = options.max_width >= _ROOMY
        if self.advice_first:
            yield _advice(self.response)
            yield Text()
        yield from _header(self.response)
        yield from _legend(self._labels())
        for title, part in self._parts(roomy=roomy):
            yield Text()
            yield title
            yield part
        yield Text()
        yield from alarm_view.footer(self.response.alarms)
        yield from gates_view.alarms(self.response.reviews)
        yield from comparison_footnotes.footnotes(self.response, self._labels())
        yield from map(gates_view.verdict, self.response.reviews)
        if not self.advice_first:
            yield _advice(self.response)

    def _labels(self) -> Mapping[str, str]:
        """What each candidate is called here: its name, or its place where names are long."""
        names = [candidate.version for candidate in sorted(self.response.candidates, key=_standing)]
        if all(len(name) <= _LONGEST_LABEL for name in names):
            return {name: name for name in names}
        return {name: f"#{place}" for place, name in enumerate(names, start=1)}

    def _parts(self, *, roomy: bool) -> Iterator[tuple[Text, RenderableType]]:
        candidates, labels = sorted(self.response.candidates, key=_standing), self._labels()
        confidence = f"{100 * (1 - self.response.alpha):g} %"
        live, by_labels = self.response.live_version, self.response.experiment.rank_by == "labels"
        by_session = self.response.unit == "session"
        yield (
            report_table.title("Agreement", f"with live {live}; {_ranking(self.response)}"),
            comparison_tables.agreement(candidates, labels),
        )
        if any(candidate.n for candidate in candidates):
            yield (
                report_table.title(
                    "Divergence rate",
                    ("share of sessions with a bad turn; " if by_session else "failures count; ")
                    + f"{confidence} intervals that hold however often you look",
                ),
                IntervalPicture(
                    whiskers=[
                        *(comparison_tables.whisker(candidate, labels) for candidate in candidates),
                        *comparison_tables.noise_whisker(self.response),
                    ]
                ),
            )
        if self.response.HasField("sessions"):
            yield from sessions_view.counted(self.response, labels)
        if self.response.HasField("quality"):
            quality = self.response.quality
            yield (
                report_table.title("Accuracy", quality_view.about(quality)),
                quality_view.rows(quality, live, labels, roomy=roomy),
            )
        if any(candidate.n or candidate.uncomparable or candidate.dropped for candidate in candidates):
            yield (
                report_table.title("Calls", f"of the shadows, beside live {live} on the same requests"),
                comparison_tables.calls(candidates, labels),
            )
        if any(comparison_tables.is_streamed(candidate) for candidate in candidates):
            yield (
                report_table.title("First message", f"of streamed answers, beside live {live} on the same requests"),
                comparison_tables.first_messages(candidates, labels),
            )
        if any(pair.n for pair in self.response.pairs):
            needed = f"{self.response.evidence_threshold:,.4g}"
            same = "on the same labelled requests, bad is wrong" if by_labels else "on the same requests"
            same = "on the same whole sessions" if by_session else same
            about = f"{same}; difference in percentage points; e ≥ {needed} decides"
            yield report_table.title("Pairs", about), comparison_tables.pairs(self.response.pairs, labels, roomy=roomy)
            classical = self.response.panel
            if classical.pairs and not by_session:
                yield (
                    report_table.title("Classical tests", f"p-values, {classical.label}"),
                    gates_view.panel(classical, labels),
                )


def _ranking(response: CompareResponse) -> str:
    labels = response.experiment.rank_by == "labels"
    if response.unit == "session":
        return "ranking unit: session; counts are of requests"
    return "ranks are by labels, see Accuracy" if labels else "smaller divergence ranks first"


def _header(response: CompareResponse) -> Iterator[Text]:
    experiment = response.experiment
    names = ", ".join(candidate.version for candidate in response.candidates) or ", ".join(experiment.candidates)
    if len(names) > 60:
        names = f"{len(response.candidates)} candidates"
    yield Text.assemble((f"{experiment.model}: {names}", "bold"), " against live ", (response.live_version, "bold"))
    facts = [
        f"experiment {experiment.id}" + (f" by {experiment.started_by}" if experiment.started_by else ""),
        f"{schedule_view.share(experiment)} of requests",
        _remaining(response),
    ]
    yield Text(" · ".join(facts), style="dim")
    for line in schedule_view.lines(experiment):
        yield Text(line, style="dim")
    since = f" since {figures.moment(response.epoch_opened_at)}" if response.HasField("epoch_opened_at") else ""
    reason = f": {response.epoch_reason}" if response.epoch_reason else ""
    yield Text(f"epoch {response.epoch}{since}{reason}", style="dim")


def _remaining(response: CompareResponse) -> str:
    experiment = response.experiment
    if experiment.state == "stopped":
        reason = f" ({experiment.stop_reason})" if experiment.stop_reason else ""
        return f"stopped {figures.moment(experiment.stopped_at)}{reason}"
    whole = experiment.ends_at.seconds - experiment.started_at.seconds
    left = experiment.ends_at.seconds - response.read_at.seconds
    return f"running, {figures.span(left)} of {figures.span(whole)} left"


def _legend(labels: Mapping[str, str]) -> Iterator[Text]:
    for name, label in labels.items():
        if label != name:
            yield Text.assemble("  ", (f"{label:<4}", "bold"), name)


def _standing(report: CandidateReport) -> tuple[bool, bool, int, int, float]:
    """Best first; those without a rank last."""
    best = report.in_best_set
    return not report.ranked, not best, report.rank_best, report.rank_worst, report.divergence.estimate


def _advice(response: CompareResponse) -> Text:
    sign, style = _STATES.get(response.state, ("→", "bold"))
    return Text.assemble((f"{sign} ", style), (response.advice, style))
