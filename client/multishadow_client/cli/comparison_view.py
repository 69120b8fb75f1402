"""What `shadowctl compare` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import CandidateReport, CompareResponse, Interval, PairReport
from multishadow_client.cli import figures, gates_view, quality_view, report_table, review_view
from multishadow_client.cli.interval_picture import IntervalPicture, Whisker

_ROOMY = 92
"""Columns from which everything has its own."""
_LONGEST_LABEL = 12
"""Longer names of versions would wrap in every cell of every table; the view then numbers them and says so once."""
_STATES: Mapping[str, tuple[str, str]] = {
    "decided": ("✔", "bold green"),
    "undecided": ("…", "bold yellow"),
    "no_data": ("○", "bold"),
}
# By the largest rate that the band holds; the style follows the band's first words, since words are what the API gives.
_BAND_STYLES = (("<", "green"), ("1–", "yellow"), ("5–", "dark_orange"), (">", "red"))


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
        yield from gates_view.alarms(self.response.reviews)
        yield from _footnotes(self.response, self._labels())
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
        yield (
            report_table.title("Agreement", f"with live {live}; {_ranking(self.response)}"),
            _agreement(candidates, labels),
        )
        if any(candidate.n for candidate in candidates):
            yield (
                report_table.title(
                    "Divergence rate", f"failures count; {confidence} intervals that hold however often you look"
                ),
                IntervalPicture(
                    whiskers=[
                        *(_whisker(candidate, labels) for candidate in candidates),
                        *_noise_whisker(self.response),
                    ]
                ),
            )
        if self.response.HasField("quality"):
            quality = self.response.quality
            yield (
                report_table.title("Accuracy", quality_view.about(quality)),
                quality_view.rows(quality, live, labels, roomy=roomy),
            )
        if any(candidate.n or candidate.uncomparable or candidate.dropped for candidate in candidates):
            yield (
                report_table.title("Calls", f"of the shadows, beside live {live} on the same requests"),
                _calls(candidates, labels),
            )
        if any(pair.n for pair in self.response.pairs):
            needed = f"{self.response.evidence_threshold:,.4g}"
            same = "on the same labelled requests, bad is wrong" if by_labels else "on the same requests"
            about = f"{same}; difference in percentage points; e ≥ {needed} decides"
            yield report_table.title("Pairs", about), _pairs(self.response.pairs, labels, roomy=roomy)
            classical = self.response.panel
            if classical.pairs:
                yield (
                    report_table.title("Classical tests", f"p-values, {classical.label}"),
                    gates_view.panel(classical, labels),
                )


def _ranking(response: CompareResponse) -> str:
    labels = response.experiment.rank_by == "labels"
    return "ranks are by labels, see Accuracy" if labels else "smaller divergence ranks first"


def _header(response: CompareResponse) -> Iterator[Text]:
    experiment = response.experiment
    names = ", ".join(candidate.version for candidate in response.candidates) or ", ".join(experiment.candidates)
    if len(names) > 60:
        names = f"{len(response.candidates)} candidates"
    yield Text.assemble((f"{experiment.model}: {names}", "bold"), " against live ", (response.live_version, "bold"))
    facts = [
        f"experiment {experiment.id}" + (f" by {experiment.started_by}" if experiment.started_by else ""),
        f"{experiment.percent:g} % of requests",
        _remaining(response),
    ]
    yield Text(" · ".join(facts), style="dim")
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


def _agreement(candidates: Sequence[CandidateReport], labels: Mapping[str, str]) -> Table:
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


def _calls(candidates: Sequence[CandidateReport], labels: Mapping[str, str]) -> Table:
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


def _pairs(pairs: Sequence[PairReport], labels: Mapping[str, str], *, roomy: bool) -> Table:
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


def _standing(report: CandidateReport) -> tuple[bool, bool, int, int, float]:
    """Best first; those without a rank last."""
    best = report.in_best_set
    return not report.ranked, not best, report.rank_best, report.rank_worst, report.divergence.estimate


def _rank(report: CandidateReport) -> str:
    if not report.ranked:
        return figures.NONE
    if report.rank_best == report.rank_worst:
        return f"{report.rank_best}"
    return f"{report.rank_best}–{report.rank_worst}"


def _band(report: CandidateReport) -> Text:
    if not report.n:
        return Text("unknown: nothing compared yet", style="dim")
    certainty = "confirmed" if report.band_confirmed else "provisional"
    return Text.assemble((report.band, _band_style(report)), f", {certainty}")


def _band_style(report: CandidateReport) -> str:
    return next((style for start, style in _BAND_STYLES if report.band.startswith(start)), "")


def _whisker(report: CandidateReport, labels: Mapping[str, str]) -> Whisker:
    if not report.n:
        return Whisker(label=labels[report.version], missing=f"{figures.NONE:>6}")
    interval: Interval = report.divergence
    return Whisker(
        label=labels[report.version],
        style=_band_style(report),
        estimate=interval.estimate,
        lower=interval.lower,
        upper=interval.upper,
    )


def _noise_whisker(response: CompareResponse) -> Iterator[Whisker]:
    if response.HasField("noise_floor"):
        found = response.noise_floor.divergence
        label = f"{response.live_version} again"
        yield Whisker(label=label, style="dim", estimate=found.estimate, lower=found.lower, upper=found.upper)


def _count_of_bad(number: int) -> Text:
    return Text(figures.count(number), style="red" if number else "")


def _beside(report: CandidateReport, field: str) -> str:
    said = {descriptor.name: value for descriptor, value in report.ListFields()}
    own, live = (figures.milliseconds(said.get(name)) for name in (field, f"live_{field}"))
    return f"{own} / {live}"


def _footnotes(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    for report in response.candidates:
        for name, reasons in (
            ("errors", report.errors_by_reason),
            ("dropped", report.dropped_by_reason),
            ("not compared", report.uncomparable_by_reason),
        ):
            if reasons:
                yield Text(f"{labels[report.version]}: {name}: {_tally(reasons.items())}", style="dim")
    yield from _moved(response, labels)
    yield from _noise(response, labels)
    yield from _bursts(response, labels)
    if response.live_failures:
        number = figures.count(response.live_failures)
        yield Text(f"{number} sampled requests count for nobody: live itself failed on them.", style="dim")
    yield from review_view.verdicts(response.review_verdicts, labels)
    if response.HasField("quality"):
        yield from quality_view.footnotes(response.quality, labels)
    yield from _still_needed(response, labels)
    pairs = f"; family of {response.family_size} pair{'s' if response.family_size > 1 else ''}"
    family = pairs if response.family_size else ""
    yield Text(f"Test: {response.test_name}; α = {response.alpha:g}{family}.", style="dim")


def _moved(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    if moved := [labels[report.version] for report in response.candidates if report.rate_moved]:
        yield Text(
            f"{', '.join(moved)}: the divergence rate has changed since the epoch began; the interval is of all "
            "comparisons together, so it says little about the rate now (`shadowctl gates`, drift).",
            style="yellow",
        )


def _noise(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    if not response.HasField("noise_floor"):
        return
    floor = response.noise_floor
    yield Text(
        f"Noise floor: live {response.live_version} differs from itself on "
        f"{figures.percent(floor.divergence.estimate)} of {figures.count(floor.n)} requests that it got twice.",
        style="dim",
    )
    over = [
        f"{labels[report.version]} {figures.points(report.over_noise.estimate)} "
        f"{figures.points_range(report.over_noise.lower, report.over_noise.upper)}"
        for report in response.candidates
        if report.HasField("over_noise")
    ]
    if over:
        yield Text(f"Above it, on the same requests, in percentage points: {', '.join(over)}.", style="dim")


def _bursts(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    repeated = [
        f"{labels[report.version]} {figures.count(report.duplicates)}"
        for report in response.candidates
        if report.duplicates
    ]
    if repeated:
        yield Text(f"Repeated inputs, counted once per time bucket: {', '.join(repeated)} left out.", style="dim")
    moved = {report.version for report in response.candidates if report.rate_moved}
    for pair in response.pairs:
        # A rate that has changed varies too; that is said already, and no longer run mends it.
        if pair.overdispersed and not moved & {pair.first, pair.second}:
            named = f"{labels.get(pair.first, pair.first)} − {labels.get(pair.second, pair.second)}"
            yield Text(
                f"{named}: requests come in bursts: over time the difference varies {pair.dispersion:.1f} times as "
                "much as with independent ones, so its interval and p are too narrow. Let the experiment run longer.",
                style="yellow",
            )


def _still_needed(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    requests = [
        f"{labels.get(pair.first, pair.first)} − {labels.get(pair.second, pair.second)} {_about(pair.requests_needed)}"
        for pair in response.pairs
        if pair.HasField("requests_needed")
    ]
    comparisons = [
        f"{labels[report.version]} {_about(report.comparisons_needed)}"
        for report in response.candidates
        if report.HasField("comparisons_needed")
    ]
    if requests:
        yield Text(f"More requests to decide a pair, at present rates: {', '.join(requests)}.", style="dim")
    if comparisons:
        yield Text(f"More comparisons to confirm a band, at present rates: {', '.join(comparisons)}.", style="dim")


def _about(number: int) -> str:
    """A forecast to two figures; more would claim what nobody knows."""
    return f"≈ {figures.count(round(float(f'{number:.2g}')))}"


def _tally(reasons: Iterable[tuple[str, int]]) -> str:
    largest_first = sorted(reasons, key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{figures.count(number)} {reason}" for reason, number in largest_first)


def _advice(response: CompareResponse) -> Text:
    sign, style = _STATES.get(response.state, ("→", "bold"))
    return Text.assemble((f"{sign} ", style), (response.advice, style))
