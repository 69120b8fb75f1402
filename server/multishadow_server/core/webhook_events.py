"""What webhooks are told of, as events. Their `data` is part of the API; docs/webhooks.md describes it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from multishadow_server.core.alarms import REMEDIES, Alarm, AlarmKey, Finding
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.core.findings import Report
from multishadow_server.core.gates import Gate, GateState, Review
from multishadow_server.core.rollout import Decision, Move, Rollout
from multishadow_server.core.webhooks import Event, EventType

_HOLDING = frozenset({Move.PAUSE, Move.SET_BACK})


def promoted(
    model: str,
    version: str,
    *,
    previous: str,
    percent: float,
    reason: str,
    passed_over: Sequence[str],
    revision: int,
    by: str,
    at: float,
) -> Event:
    """A version was made live, for `percent` of the requests."""
    data = {
        "version": version,
        "previous": previous,
        "percent": percent,
        "reason": reason,
        "gates_passed_over": list(passed_over),
        "revision": revision,
        "by": by,
    }
    return Event(type=EventType.VERSION_PROMOTED, at=at, model=model, data=data)


def rolled_back(model: str, version: str, *, live: str, reason: str, revision: int, by: str, at: float) -> Event:
    """The promotion of `version` was taken back; `live` answers from now on."""
    data = {"version": version, "live": live, "reason": reason, "revision": revision, "by": by}
    return Event(type=EventType.VERSION_ROLLED_BACK, at=at, model=model, data=data)


def experiment_ended(experiment: Experiment, *, reason: str, at: float) -> Event:
    """An experiment was stopped, or its time box is over."""
    data = {"experiment": experiment.id, "candidates": list(experiment.candidates), "reason": reason}
    return Event(type=EventType.EXPERIMENT_ENDED, at=at, model=experiment.model, data=data)


def report_stored(model: str, week: str, headline: str, *, at: float) -> Event:
    """A week's report was stored; `page` is its path on the web page. Once for a model and a week."""
    data = {"week": week, "headline": headline, "page": f"/ui/reports/{quote(model, safe='')}/{week}"}
    return Event(type=EventType.REPORT_STORED, at=at, model=model, data=data, once=f"report/{model}/{week}")


def rollout_moved(rollout: Rollout, decision: Decision, *, percent: float, by: str, at: float) -> Event | None:
    """A rollout was held up or has ended; None when it did neither.

    Args:
        rollout: after the move.
        decision: the move.
        percent: share of the requests afterwards.
        by: who did it.
        at: when, seconds since the Unix epoch.
    """
    if not rollout.state.ended and decision.move not in _HOLDING:
        return None
    data = {
        "rollout": rollout.id,
        "version": rollout.version,
        "previous": rollout.previous,
        "state": rollout.state,
        "move": decision.move,
        "percent": percent,
        "why": decision.why,
        "by": by,
    }
    kind = EventType.ROLLOUT_FINISHED if rollout.state.ended else EventType.ROLLOUT_HELD
    return Event(type=kind, at=at, model=rollout.model, data=data)


def alarm_raised(finding: Finding, *, at: float) -> Event:
    """Something is wrong."""
    return _alarm(EventType.ALARM_RAISED, finding.key, finding.detail, at)


def alarm_cleared(alarm: Alarm, *, at: float) -> Event:
    """It is not any more."""
    return _alarm(EventType.ALARM_CLEARED, alarm.key, alarm.detail, at)


def _alarm(type_: EventType, key: AlarmKey, detail: str, at: float) -> Event:
    data = {"alarm": key.kind, "subject": key.subject, "detail": detail, "remedy": REMEDIES[key.kind]}
    return Event(type=type_, at=at, model=key.model, data=data)


def proofs(
    experiment: Experiment, epoch: Epoch, report: Report, reviews: Sequence[Review], *, at: float
) -> list[Event]:
    """What a report proves that has to be told: its winner, and gates that failed. Each once in an epoch.

    Args:
        experiment: the experiment.
        epoch: its present epoch.
        report: on all candidates of it.
        reviews: what the gates say of each.
        at: when it was read, seconds since the Unix epoch.
    """
    about = {"experiment": experiment.id, "epoch": epoch.number, "live": epoch.live}
    found = []
    if report.winner:
        (winner,) = (candidate for candidate in report.candidates if candidate.version == report.winner)
        data = {**about, "version": report.winner, "n": winner.n, "alpha": report.alpha, "advice": report.advice}
        once = f"{EventType.WINNER_PROVEN}/{epoch.id}/{report.winner}"
        found.append(Event(type=EventType.WINNER_PROVEN, at=at, model=experiment.model, data=data, once=once))
    for review in reviews:
        found += [_gate(about, epoch, review.version, gate, at) for gate in review.gates if _failed(gate)]
    return found


def _failed(gate: Gate) -> bool:
    """Whether it stands in the way: what is advisory, or was waived, does not."""
    return gate.state is GateState.FAIL and gate.holds_up


def _gate(about: dict[str, object], epoch: Epoch, version: str, gate: Gate, at: float) -> Event:
    found = {"gate": gate.name, "number": gate.number, "bound": gate.bound, "remedy": gate.remedy}
    data = {**about, "version": version, **found}
    once = f"{EventType.GATE_FAILED}/{epoch.id}/{version}/{gate.name}"
    return Event(type=EventType.GATE_FAILED, at=at, model=epoch.model, data=data, once=once)
