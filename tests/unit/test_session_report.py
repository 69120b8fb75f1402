"""Candidates ranked by sessions: what is claimed is about sessions, what was counted stays about requests."""

from __future__ import annotations

import pytest

from multishadow_server.core import report, segment_report, session_report
from multishadow_server.core.experiment import Experiment, RankBy
from multishadow_server.core.findings import CandidateReport
from multishadow_server.core.gate_findings import Findings, merit
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import GateState
from multishadow_server.core.model import Model
from multishadow_server.core.report import Report
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.session_terms import SessionTerms, Unit
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.statistics.non_inferiority import LabelledPair
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service import session_ranking
from sightings import rollup_of

AB = ("A", "B")
# Of 10,000 sessions with ten turns each, A goes wrong in one turn of many, B in all turns of few.
REQUESTS = rollup_of(AB, {"oo": 99_390, "bo": 410, "ob": 200})
SESSIONS = Rollup(
    {
        Cell(Family.SESSION, "A", "o"): 9_600,
        Cell(Family.SESSION, "A", "b"): 400,
        Cell(Family.SESSION, "B", "o"): 9_980,
        Cell(Family.SESSION, "B", "b"): 20,
        Cell(Family.SESSION_PAIR, "A|B", "oo"): 9_580,
        Cell(Family.SESSION_PAIR, "A|B", "bo"): 400,
        Cell(Family.SESSION_PAIR, "A|B", "ob"): 20,
    }
)


def built(rollup: Rollup, unit: Unit = Unit.REQUEST) -> Report:
    return report.build(rollup, model="chat", live="prod", candidates=AB, unit=unit)


REPORT = session_report.ranked_by_session(
    built(REQUESTS), built(session_report.as_requests(SESSIONS), unit=Unit.SESSION)
)


def test_ranks_rates_and_pairs_are_those_of_sessions_and_counts_those_of_requests() -> None:
    assert (REPORT.unit, REPORT.winner) == (Unit.SESSION, "B")
    b, a = REPORT.candidates
    assert (b.version, b.n, b.diverged) == ("B", 100_000, 200)
    assert b.divergence is not None
    assert a.divergence is not None
    assert (b.divergence.estimate, a.divergence.estimate) == (0.002, 0.04)
    (pair,) = REPORT.pairs
    assert (pair.first, pair.n, pair.only_first_bad, pair.only_second_bad) == ("B", 10_000, 20, 400)
    assert b.band is Band.SAFE


def test_the_advice_speaks_of_sessions() -> None:
    few = Rollup({cell: count // 50 + 2 * (cell.level in {"b", "ob"}) for cell, count in SESSIONS.cells.items()})
    advice = built(session_report.as_requests(few), unit=Unit.SESSION).advice
    assert "more sessions at the present rates" in advice
    assert "request" not in advice
    only_a = Rollup({cell: count for cell, count in SESSIONS.cells.items() if cell.subject == "A"})
    assert "no whole session of B has ended yet" in built(session_report.as_requests(only_a), unit=Unit.SESSION).advice
    assert built(Rollup(), unit=Unit.SESSION).advice.startswith("No whole session of A and B has ended yet")


def test_gates_on_divergence_are_about_sessions_and_say_so() -> None:
    b, a = REPORT.candidates

    def found(candidate: CandidateReport) -> Findings:
        return Findings(
            report=REPORT,
            candidate=candidate,
            tables={},
            hours={},
            bucket_seconds=3600,
            candidates=AB,
            by_labels=False,
            collected_for=0.0,
            shadowed_for=0.0,
            shares=None,
            labels=LabelledPair(only_candidate_right=0, only_live_right=0, alike=0),
            segments=segment_report.build({}, version=candidate.version, alpha=0.05),
            divergent_samples=0,
            reviewed=0,
            serving=False,
            attested={},
        )

    passed, failed = (merit.divergence(found(each), GateLimits()) for each in (b, a))
    assert (passed.state, failed.state) == (GateState.PASS, GateState.FAIL)
    assert failed.number.startswith("4")
    assert failed.number.endswith("of sessions")
    assert merit.divergence(found(a), GateLimits(divergence=0.04)).remedy == "more sessions"
    assert merit.best_set(found(a)).remedy == "promote B instead"


@pytest.mark.parametrize(
    ("terms", "by", "wanted", "shown", "of_gates"),
    [
        (None, RankBy.AGREEMENT, "", Unit.REQUEST, Unit.REQUEST),
        (SessionTerms(), RankBy.AGREEMENT, "", Unit.SESSION, Unit.SESSION),
        (SessionTerms(), RankBy.AGREEMENT, "request", Unit.REQUEST, Unit.SESSION),
        (SessionTerms(unit=Unit.REQUEST), RankBy.AGREEMENT, "session", Unit.SESSION, Unit.REQUEST),
        (SessionTerms(), RankBy.LABELS, "", Unit.REQUEST, Unit.REQUEST),
    ],
)
def test_the_unit_is_the_models_unless_somebody_asks_for_another(
    terms: SessionTerms | None, by: RankBy, wanted: str, shown: Unit, of_gates: Unit
) -> None:
    found = session_ranking.units(Model(name="chat", sessions=terms), an_experiment(by), wanted)
    assert (found.shown, found.of_gates) == (shown, of_gates)


def test_who_asks_for_sessions_where_there_are_none_to_rank_by_is_told_why() -> None:
    with pytest.raises(FailedPrecondition, match="ranks by labels, which are given to requests"):
        session_ranking.units(Model(name="chat", sessions=SessionTerms()), an_experiment(RankBy.LABELS), "session")
    with pytest.raises(FailedPrecondition, match="chat has no sessions"):
        session_ranking.units(Model(name="chat"), an_experiment(RankBy.AGREEMENT), "session")
    with pytest.raises(InvalidInput, match="unit"):
        session_ranking.units(Model(name="chat"), an_experiment(RankBy.AGREEMENT), "week")


def an_experiment(rank_by: RankBy) -> Experiment:
    return Experiment(
        id=1,
        model="chat",
        candidates=AB,
        percent=100,
        bucket_seconds=3600,
        started_at=0,
        ends_at=1,
        started_by="ann",
        rank_by=rank_by,
    )
