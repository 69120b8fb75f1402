"""What `shadowctl compare` says, for the page: the same words and figures, and the intervals as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from multishadow_client.cli import comparison_footnotes, figures, gates_view
from multishadow_server.core.findings import CandidateReport, Interval, PairReport, State
from multishadow_server.core.report import EQUIVALENCE_MARGIN
from multishadow_server.core.session_terms import Unit
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.statistics.ranking import Verdict
from multishadow_server.entrypoints import report_messages
from multishadow_server.entrypoints.web import interval_picture
from multishadow_server.entrypoints.web.interval_picture import IntervalPicture
from multishadow_server.service.comparison_report import ExperimentReport

BAND_KINDS: Mapping[Band, str] = {
    Band.SAFE: "good",
    Band.INVESTIGATE: "warn",
    Band.EDGE_CASES: "warn",
    Band.DO_NOT_ROLL_OUT: "bad",
    Band.UNKNOWN: "plain",
}
STATES: Mapping[State, tuple[str, str]] = {
    State.DECIDED: ("decided", "good"),
    State.UNDECIDED: ("undecided", "warn"),
    State.NO_DATA: ("no data", "plain"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something to know about the figures; `warn` where they are not to be trusted as they stand."""

    text: str
    warn: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRow:
    """A pair as it is shown: its figures, and what is proven in words."""

    pair: PairReport
    name: str
    bad_alone: str
    evidence: str
    verdict: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingView:
    """The ranking.

    Args:
        state, state_kind: whether the comparison has an answer, and how its badge looks.
        ranks: by candidate, in words.
        rates: the candidates' divergence; last the noise floor, where it is measured.
        noise: name of the noise floor's row; empty where it is not measured.
        over_noise: how much each candidate diverges above the noise floor; None where that is not measured.
        pairs: in the report's order.
        differences: of the pairs, in the same order; None where there are none.
        accuracy: of every version that labels were given for, and how candidates differ from live; None without labels.
        notes: what `compare` says beneath its tables.
        gates: a line for each candidate.
        order: what is proven of the order, in words.
    """

    state: str
    state_kind: str
    ranks: Mapping[str, str]
    rates: IntervalPicture
    noise: str
    over_noise: IntervalPicture | None
    pairs: tuple[PairRow, ...]
    differences: IntervalPicture | None
    accuracy: IntervalPicture | None
    notes: tuple[Note, ...]
    gates: tuple[str, ...]
    order: tuple[str, ...]


def view(found: ExperimentReport) -> RankingView:
    """What the page shows of a report."""
    report = found.report
    state, kind = STATES[report.state]
    floor = report.noise_floor if report.unit is Unit.REQUEST else None
    noise = f"{report.live_version} again" if floor else ""
    rates = [(each.version, each.divergence) for each in report.candidates]
    over = [(each.version, each.over_noise) for each in report.candidates if each.over_noise]
    quality = report.quality
    compared = [pair for pair in report.pairs if pair.n]
    message = report_messages.compare_response(found)
    labels = {each.version: each.version for each in report.candidates}
    return RankingView(
        state=state,
        state_kind=kind,
        ranks={each.version: rank(each) for each in report.candidates},
        rates=interval_picture.of_rates([*rates, *([(noise, floor.divergence)] if floor else [])]),
        noise=noise,
        over_noise=interval_picture.of_differences(over) if over else None,
        pairs=tuple(_pair(pair) for pair in compared),
        differences=interval_picture.of_differences(
            [(_named(pair), pair.difference) for pair in compared], margin=EQUIVALENCE_MARGIN
        )
        if compared
        else None,
        accuracy=interval_picture.of_differences(
            [(each.version, each.difference) for each in quality.candidates], margin=quality.margin
        )
        if quality
        else None,
        notes=tuple(
            Note(text=note.plain, warn=str(note.style) == "yellow")
            for note in comparison_footnotes.footnotes(message, labels)
        ),
        gates=tuple(gates_view.verdict(review).plain for review in message.reviews),
        order=tuple(_order(report.pairs)),
    )


def rank(candidate: CandidateReport) -> str:
    """The place, or the range of places, that the evidence leaves."""
    if not candidate.ranked:
        return figures.NONE
    if candidate.rank_best == candidate.rank_worst:
        return str(candidate.rank_best)
    return f"{candidate.rank_best}–{candidate.rank_worst}"


def accuracy_of(interval: Interval | None) -> str:
    """An accuracy with its interval, in words."""
    if interval is None:
        return figures.NONE
    return f"{figures.percent(interval.estimate)} ({figures.percent_range(interval.lower, interval.upper)})"


def _named(pair: PairReport) -> str:
    return f"{pair.first} − {pair.second}"


def _pair(pair: PairReport) -> PairRow:
    verdict, kind = {
        Verdict.BETTER: (f"{pair.first} is better", "good"),
        Verdict.WORSE: (f"{pair.second} is better", "good"),
        Verdict.EQUIVALENT: ("equivalent", "good"),
        Verdict.UNDECIDED: ("undecided", "warn"),
    }[pair.verdict]
    return PairRow(
        pair=pair,
        name=_named(pair),
        bad_alone=f"{figures.count(pair.only_first_bad)} : {figures.count(pair.only_second_bad)}",
        evidence=figures.evidence(max(pair.log_evidence_first_worse, pair.log_evidence_second_worse)),
        verdict=verdict,
        kind=kind,
    )


def _order(pairs: tuple[PairReport, ...]) -> Iterator[str]:
    """Who is proven better than whom: a line for each candidate that is better than any."""
    beaten: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.verdict in {Verdict.BETTER, Verdict.WORSE}:
            first_better = pair.verdict is Verdict.BETTER
            better, worse = (pair.first, pair.second) if first_better else (pair.second, pair.first)
            beaten.setdefault(better, []).append(worse)
    for better, others in beaten.items():
        yield f"{better} is proven better than {', '.join(others)}"
