"""What became of the copies of requests, and what the answers were like: outcomes, latencies, similarity, sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core import latency_shape, similarity_shape
from multishadow_server.core.findings import CandidateReport
from multishadow_server.core.latency_shape import LatencyShape, Panels
from multishadow_server.core.rollup import Family
from multishadow_server.core.session_report import SessionReport, TurnCounts
from multishadow_server.core.similarity_shape import ConfidenceShift, SimilarityShape
from multishadow_server.service.comparison_report import ExperimentReport
from multishadow_server.service.experiment_course import CountedAnswers

# Later places of a session are few, and shown together.
MOST_TURNS = 12
# Of a picture's axis of latencies.
_ROUND = tuple(digit * 10.0**power for power in range(-6, 4) for digit in (1, 2, 5))
_CUT_WORDS: Mapping[str, str] = {
    "began_before": "may have begun earlier",
    "went_on": "may have gone on",
    "gap": "a turn is missing",
    "partly_sampled": "partly sampled",
    "dropped": "a copy was dropped",
    "other_epoch": "an epoch ended in it",
    "epoch_gone": "its epoch is gone",
    "too_long": "too many turns",
    "bound": "too many sessions",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of all copies: what became of them, how many, and as a share."""

    name: str
    kind: str
    count: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """What became of one candidate's copies.

    Args:
        version: the candidate.
        total: copies that were meant to be sent.
        parts: of these, in order; those that are none are left out.
        reasons: (what, why, how many), the most frequent first.
        report: what the report says of it.
    """

    version: str
    total: int
    parts: tuple[Part, ...]
    reasons: tuple[tuple[str, str, int], ...]
    report: CandidateReport


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisMark:
    """A mark of a latency axis: its place in percent of the width, and seconds."""

    place: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyPictures:
    """Latencies of some versions on one axis."""

    panels: Panels
    marks: tuple[AxisMark, ...]

    def place(self, seconds: float) -> float:
        """A latency's place in percent of the width."""
        return round(100 * self.panels.place(seconds), 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnRow:
    """A place in sessions: what it is called, and by candidate its counts; None where nothing counts there."""

    name: str
    cells: tuple[TurnCounts | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswersView:
    """The answers.

    Args:
        copies: by candidate, in the report's order.
        live: live's latencies, in production; None where nothing was timed.
        live_beside: the candidate on whose requests these are.
        shadows: the candidates' latencies, as shadows.
        first_live, first_shadows: times to the first message of streamed answers, likewise.
        threshold: similarity from which answers agree.
        similarity, confidence: by candidate.
        sessions: what was counted of sessions; None where the model has none.
        turns: divergence by turn.
    """

    copies: tuple[Copies, ...]
    live: LatencyPictures | None
    live_beside: str
    shadows: LatencyPictures | None
    first_live: LatencyPictures | None
    first_shadows: LatencyPictures | None
    threshold: float
    similarity: tuple[SimilarityShape, ...]
    confidence: tuple[ConfidenceShift, ...]
    sessions: SessionReport | None
    turns: tuple[TurnRow, ...]


def view(counted: CountedAnswers, found: ExperimentReport) -> AnswersView:
    """What the page shows of an epoch's counts."""
    tables, threshold = counted.tables, counted.epoch.comparator.threshold
    versions = [each.version for each in found.report.candidates]
    # Live answered each request once, whoever got a copy: the largest sample holds the others, as samples nest.
    beside = max(versions, key=lambda version: sum(tables.get((Family.LIVE_LATENCY, version), {}).values()), default="")
    live = found.report.live_version

    def histograms(family: Family) -> dict[str, Mapping[str, int]]:
        return {version: tables.get((family, version), {}) for version in versions}

    shapes = [similarity_shape.similarity(tables, version, threshold=threshold) for version in versions]
    shifts = [similarity_shape.confidence(tables, version) for version in versions]
    return AnswersView(
        copies=tuple(_copies(each) for each in found.report.candidates),
        live=_pictures({live: tables.get((Family.LIVE_LATENCY, beside), {})}),
        live_beside=beside,
        shadows=_pictures(histograms(Family.LATENCY)),
        first_live=_pictures({live: tables.get((Family.LIVE_FIRST_LATENCY, beside), {})}),
        first_shadows=_pictures(histograms(Family.FIRST_LATENCY)),
        threshold=threshold,
        similarity=tuple(shape for shape in shapes if shape is not None),
        confidence=tuple(shift for shift in shifts if shift is not None),
        sessions=found.sessions,
        turns=tuple(_turns(found.sessions)) if found.sessions else (),
    )


def cut_words(cut: Mapping[str, int]) -> str:
    """Why sessions are not known to be whole, the most frequent reason first."""
    ordered = sorted(cut.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{_CUT_WORDS.get(why, why)} {number:,}" for why, number in ordered)


def quantiles(shape: LatencyShape) -> tuple[tuple[str, float], ...]:
    """The quantiles that are marked."""
    return ("p50", shape.p50), ("p95", shape.p95), ("p99", shape.p99)


def _copies(candidate: CandidateReport) -> Copies:
    counts = (
        ("agreed", "agreed", candidate.agreed),
        ("diverged", "diverged", candidate.diverged),
        ("failed", "errors", candidate.errors),
        ("timed-out", "timeouts", candidate.timeouts),
        ("uncomparable", "uncomparable", candidate.uncomparable),
        ("dropped", "dropped", candidate.dropped),
    )
    total = sum(count for _, _, count in counts)
    reasons = [
        (what, why, count)
        for what, by_reason in (
            ("error", candidate.errors_by_reason),
            ("not compared", candidate.uncomparable_by_reason),
            ("dropped", candidate.dropped_by_reason),
        )
        for why, count in by_reason.items()
    ]
    return Copies(
        version=candidate.version,
        total=total,
        parts=tuple(
            Part(name=name, kind=kind, count=count, share=count / total) for kind, name, count in counts if count
        ),
        reasons=tuple(sorted(reasons, key=lambda reason: (-reason[2], reason))),
        report=candidate,
    )


def _pictures(histograms: Mapping[str, Mapping[str, int]]) -> LatencyPictures | None:
    panels = latency_shape.panels(histograms)
    if panels is None:
        return None
    marks = [seconds for seconds in _ROUND if panels.lower <= seconds <= panels.upper]
    kept: list[AxisMark] = []
    for seconds in marks:
        place = round(100 * panels.place(seconds), 3)
        if 4 <= place <= 96 and (not kept or place - kept[-1].place >= 16):
            kept.append(AxisMark(place=place, seconds=seconds))
    return LatencyPictures(panels=panels, marks=tuple(kept))


def _turns(report: SessionReport) -> Sequence[TurnRow]:
    """A row for each place; later ones together where there are many."""
    known = [{counts.turn: counts for counts in each.by_turn} for each in report.candidates]
    places = sorted({place for by_place in known for place in by_place if place})
    rows = [
        TurnRow(name=str(place), cells=tuple(by_place.get(place) for by_place in known))
        for place in places[:MOST_TURNS]
    ]
    later = [*places[MOST_TURNS:], *({0} & {place for by_place in known for place in by_place})]
    if later:
        first = places[MOST_TURNS] if len(places) > MOST_TURNS else (places[-1] if places else 0) + 1
        rows.append(TurnRow(name=f"{first}+", cells=tuple(_sum(by_place, later) for by_place in known)))
    return rows


def _sum(known: Mapping[int, TurnCounts], together: Sequence[int]) -> TurnCounts | None:
    found = [known[place] for place in together if place in known]
    if not found:
        return None
    return TurnCounts(
        turn=0,
        n=sum(each.n for each in found),
        bad=sum(each.bad for each in found),
        first=sum(each.first for each in found),
    )
