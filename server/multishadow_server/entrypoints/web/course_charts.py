"""What the charts of an experiment's course are drawn from: plain data, beside the page's own tables of the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from markupsafe import Markup

from multishadow_client.cli import figures
from multishadow_server.core.divergence_course import DivergenceCourse, Period
from multishadow_server.core.evidence_course import EvidenceCourse
from multishadow_server.core.findings import Report
from multishadow_server.core.statistics.bands import EDGES
from multishadow_server.entrypoints.web import wording
from multishadow_server.service.experiment_course import ExperimentCourse

# Evidence below a hundredth says nothing, however small it is.
LOWEST_LOG10 = -2.0
MOST_ROWS = 42
_DIGITS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line.

    Args:
        label: what the legend calls it.
        colour: the CSS variable of its colour.
        values: one for each of the chart's times; None where there is nothing.
        dashed: whether it is a threshold, and no measurement.
        low, high: bounds around it, shaded; empty where there are none.
    """

    label: str
    colour: str
    values: Sequence[float | None]
    dashed: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Lines over time.

    Args:
        kind: what the vertical axis is of: `evidence` (powers of ten), `share`.
        times: seconds since the Unix epoch.
        lines: in the order of the legend.
    """

    kind: str
    times: Sequence[int]
    lines: Sequence[Line]

    @property
    def data(self) -> Markup:
        """For a `<script type="application/json">`: nothing in it can end the element."""
        text = json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704  escaped


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The same as a chart, to read: heads of columns, and rows of as many cells."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def colours(versions: Sequence[str]) -> Mapping[str, str]:
    """A candidate's colour on every picture: the CSS variable, by its place in the epoch."""
    return {version: f"--series-{place % 5 + 1}" for place, version in enumerate(versions)}


def evidence(
    course: EvidenceCourse,
    lines: Mapping[str, Sequence[float]],
    *,
    threshold: tuple[str, float],
    versions: Sequence[str],
) -> Chart:
    """Evidence over time, as powers of ten.

    Args:
        course: for its times.
        lines: ln of e-values, by candidate.
        threshold: what reaching it means, and ln of it.
        versions: the epoch's candidates, for their colours.
    """
    colour, (meaning, limit) = colours(versions), threshold
    level = _log10(limit)
    return Chart(
        kind="evidence",
        times=course.ends,
        lines=[
            *(
                Line(label=name, colour=colour[name], values=[_log10(value) for value in values])
                for name, values in lines.items()
            ),
            Line(label=meaning, colour="--text", values=[level] * len(course.ends), dashed=True),
        ],
    )


def evidence_table(course: EvidenceCourse, lines: Mapping[str, Sequence[float]]) -> Table:
    """The same e-values in figures; of many times, some."""
    shown = _some(len(course.ends))
    return Table(
        heads=["until (UTC)", *lines],
        rows=[
            [wording.moment(course.ends[place])[:16], *(figures.evidence(values[place]) for values in lines.values())]
            for place in shown
        ],
    )


def divergence(course: DivergenceCourse, version: str, colour: str) -> Chart:
    """One candidate's divergence over time, beside what was proven of it."""
    periods = course.periods[version]
    rates = [None if period.rate is None else _rounded(period.rate) for period in periods]
    low, high = ([_rounded(bound) for bound in bounds] for bounds in _bounds(periods))
    highest = max([*(rate for rate in rates if rate is not None), *high[len(high) // 8 :]], default=0.0)
    return Chart(
        kind="share",
        times=[start + course.seconds for start in course.starts],
        lines=[
            Line(label=f"{version}, each {span(course.seconds)}", colour=colour, values=rates, low=low, high=high),
            *(
                Line(label=f"{100 * edge:g} %", colour="--text", values=[edge] * len(rates), dashed=True)
                for below, edge in pairwise((0.0, *EDGES))
                if below <= highest
            ),
        ],
    )


def divergence_table(course: DivergenceCourse, version: str) -> Table:
    """The same in figures: of many periods, several together."""
    periods = course.periods[version]
    every = max(1, math.ceil(len(periods) / MOST_ROWS))
    rows = []
    for first in range(0, len(periods), every):
        together = periods[first : first + every]
        n, bad = sum(period.n for period in together), sum(period.bad for period in together)
        proven = together[-1].proven
        rows.append(
            [
                wording.moment(course.starts[first])[:16],
                figures.count(n),
                figures.count(bad),
                figures.percent(bad / n) if n else figures.NONE,
                figures.percent_range(proven.lower, proven.upper),
            ]
        )
    return Table(heads=["from (UTC)", "n", "bad", "rate", "proven by its end"], rows=rows)


def span(seconds: int) -> str:
    """How long a period is, in words."""
    return "hour" if seconds == 3_600 else figures.span(seconds)


def _bounds(periods: Iterable[Period]) -> tuple[list[float], list[float]]:
    listed = list(periods)
    return [period.proven.lower for period in listed], [period.proven.upper for period in listed]


def _some(size: int) -> list[int]:
    every = max(1, math.ceil(size / MOST_ROWS))
    return sorted({*range(size - 1, -1, -every)})


def _log10(natural: float) -> float:
    return round(max(natural / math.log(10), LOWEST_LOG10), _DIGITS)


def _rounded(value: float) -> float:
    return round(value, _DIGITS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A chart with what is said about it, and its table."""

    title: str
    chart: Chart
    table: Table


@dataclass(frozen=True, kw_only=True, slots=True)
class CourseView:
    """An experiment over time.

    Args:
        leader: who stands first in the report; the others' evidence is against it.
        against_leader: that each other one is worse than it; None with one candidate, or nothing counted.
        not_best: that each is not the best; likewise.
        divergence: of each candidate.
    """

    leader: str
    against_leader: Panel | None
    not_best: Panel | None
    divergence: Sequence[Panel]


def view(course: ExperimentCourse, report: Report) -> CourseView:
    """What the page draws.

    Args:
        course: the experiment over time.
        report: on the same experiment, for who leads.
    """
    versions, found = course.epoch.candidates, course.evidence
    leader = report.candidates[0].version if report.candidates else ""
    colour = colours(versions)
    pair = best = None
    if found is not None:
        against = found.against(leader)
        limit = found.log_pair_threshold
        words = f"proves one of a pair worse, e ≥ {figures.evidence(limit)}"
        pair = Panel(
            title=f"Evidence that it is worse than {leader}",
            chart=evidence(found, against, threshold=(words, limit), versions=versions),
            table=evidence_table(found, against),
        )
        words = f"leaves the best set, e ≥ {figures.evidence(found.log_best_threshold)}"
        best = Panel(
            title="Evidence that it is not the best",
            chart=evidence(found, found.log_not_best, threshold=(words, found.log_best_threshold), versions=versions),
            table=evidence_table(found, found.log_not_best),
        )
    return CourseView(
        leader=leader,
        against_leader=pair,
        not_best=best,
        divergence=[
            Panel(
                title=version,
                chart=divergence(course.divergence, version, colour[version]),
                table=divergence_table(course.divergence, version),
            )
            for version in versions
            if any(period.n for period in course.divergence.periods[version])
        ],
    )
