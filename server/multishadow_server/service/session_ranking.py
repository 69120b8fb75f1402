"""Ranking by sessions: when, and from which counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from multishadow_server.core import report, session_report, session_terms
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.findings import Report
from multishadow_server.core.model import Model
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.session_report import SessionReport
from multishadow_server.core.session_terms import Unit
from multishadow_server.errors import FailedPrecondition
from multishadow_server.service.ports import EvidenceStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """What candidates are ranked by: `shown` for whoever asked, `of_gates` for what a promotion needs."""

    shown: Unit
    of_gates: Unit

    def __iter__(self) -> Iterator[Unit]:
        return iter((self.shown, self.of_gates))


def units(model: Model, experiment: Experiment, wanted: str) -> Units:
    """What to rank by.

    Args:
        model: with its terms of sessions.
        experiment: one that ranks by labels goes by requests, since labels are given to requests.
        wanted: "session" or "request"; empty: as the model says.

    Raises:
        InvalidInput: there is no such unit.
        FailedPrecondition: there are no sessions to rank by.
    """
    by_labels = experiment.rank_by is RankBy.LABELS
    own = Unit.REQUEST if model.sessions is None or by_labels else model.sessions.unit
    if not wanted:
        return Units(shown=own, of_gates=own)
    shown = session_terms.unit_of(wanted)
    if shown is Unit.SESSION and model.sessions is None:
        raise FailedPrecondition(
            f"{model.name} has no sessions; put `sessions: {{idle: 30m}}` into its file and `shadowctl apply` it; "
            "requests from then on form sessions"
        )
    if shown is Unit.SESSION and by_labels:
        raise FailedPrecondition(
            f"experiment {experiment.id} of {model.name} ranks by labels, which are given to requests: leave --by "
            "session out, or start one that ranks by agreement"
        )
    return Units(shown=shown, of_gates=own)


async def ranked(store: EvidenceStore, epoch: Epoch, rollup: Rollup, requests: Report) -> Report:
    """The report on requests, with its claims about sessions. Raises StoreUnavailable."""
    buckets = await store.buckets(epoch.id, session_report.FAMILIES)
    sessions = report.build(
        session_report.as_requests(rollup),
        model=epoch.model,
        live=epoch.live,
        candidates=epoch.candidates,
        alpha=requests.alpha,
        buckets=[session_report.as_requests(bucket) for bucket in buckets.values()],
        unit=Unit.SESSION,
    )
    return session_report.ranked_by_session(requests, sessions)


def counted(model: Model, rollup: Rollup, shown: Sequence[str]) -> SessionReport | None:
    """What was counted of sessions, where the model has any."""
    found = session_report.build(rollup, shown)
    return found if model.sessions is not None or found.ended else None
