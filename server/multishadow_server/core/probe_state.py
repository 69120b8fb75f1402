"""How a version stands with a probe: whether it answers what it should, and what it answered before.

A probe tells what traffic cannot. Two comparisons are made of each answer: with the known answer, where there is one,
and with what the version answered last under the same address. Where the second fails, another implementation answers
behind our back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from multishadow_server.core.comparison import Comparison, Verdict
from multishadow_server.core.model import Comparator, Version
from multishadow_server.core.probe import Probe

LONGEST_DETAIL = 300

# What the comparison itself failed at says nothing of the answers.
_NOT_JUDGED = frozenset({"comparison_failed", "comparison_timeout"})


class ProbeOutcome(StrEnum):
    """What the last asking came to."""

    OK = "ok"
    WRONG = "wrong"
    FAILING = "failing"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeState:
    """How one version stands with one probe.

    Args:
        model, version, probe: names.
        fingerprint: of the probe, see `Probe.fingerprint`.
        address: under which the version was asked.
        outcome: of the last asking.
        reason, detail: why, for `wrong` and `failing`: a short word, and the same for a person.
        similarity: to the known answer, or else to the former one; None when nothing was compared.
        latency: of the last call in seconds; None when it failed.
        asked_at: when, seconds since the Unix epoch.
        since: when the outcome became what it is.
        failures: askings that failed one after the other.
        answer: the last answer; empty when there was none yet.
        first_at: when that answer, or one that agrees with it, was given first.
        changed_at: when an answer last differed from the one before it, under this address; None: never.
        changes: how often that happened under this address.
        settled_at: the `changed_at` up to which changes are settled: no evidence is mixed, or somebody knows.
    """

    model: str
    version: str
    probe: str
    fingerprint: str
    address: str
    outcome: ProbeOutcome
    asked_at: float
    since: float
    reason: str = ""
    detail: str = ""
    similarity: float | None = None
    latency: float | None = None
    failures: int = 0
    answer: bytes = b""
    first_at: float | None = None
    changed_at: float | None = None
    changes: int = 0
    settled_at: float | None = None

    @property
    def unsettled(self) -> bool:
        """Whether its answer changed, and that may matter still."""
        return self.changed_at is not None and (self.settled_at is None or self.settled_at < self.changed_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One asking of one version.

    Args:
        at: when, seconds since the Unix epoch.
        latency: of the call in seconds.
        response: the answer's bytes; empty when it failed.
        failure, detail: why it failed, as a word (a gRPC status' name, `answer_too_large`) and for a person.
        known: the comparison with the known answer; None without one.
        former: the comparison with the former answer; None without one.
    """

    at: float
    latency: float
    response: bytes = b""
    failure: str = ""
    detail: str = ""
    known: Comparison | None = None
    former: Comparison | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeChange:
    """One line of a probe's history: what it came to be, and from what."""

    at: float
    before: str
    after: str
    detail: str


def comparator(probe: Probe, models: Comparator) -> Comparator:
    """When two answers to it agree: as the model's do, but for a threshold of its own."""
    return models if probe.threshold is None else replace(models, threshold=probe.threshold)


def former_answer(state: ProbeState | None, probe: Probe, version: Version) -> bytes:
    """What the version answered before, if that still says something: the same question at the same address."""
    return state.answer if state is not None and _continues(state, probe, version) else b""


def noted(state: ProbeState | None, probe: Probe, version: Version, asked: Asked) -> ProbeState:
    """How the version stands after an asking.

    Args:
        state: how it stood before; None when it was never asked.
        probe: what was asked.
        version: who was asked.
        asked: what came of it.
    """
    if state is not None and not _continues(state, probe, version):
        state = None
    outcome, reason, detail = _judged(asked)
    after = ProbeState(
        model=version.model,
        version=version.name,
        probe=probe.name,
        fingerprint=probe.fingerprint,
        address=version.address,
        outcome=outcome,
        reason=reason,
        detail=detail[:LONGEST_DETAIL],
        similarity=_similarity(asked),
        latency=None if asked.failure else asked.latency,
        asked_at=asked.at,
        since=asked.at if state is None or state.outcome is not outcome else state.since,
        failures=(state.failures if state else 0) + 1 if outcome is ProbeOutcome.FAILING else 0,
        answer=state.answer if state else b"",
        first_at=state.first_at if state else None,
        changed_at=state.changed_at if state else None,
        changes=state.changes if state else 0,
    )
    return _with_answer(after, asked)


def changes(before: ProbeState | None, after: ProbeState) -> tuple[ProbeChange, ...]:
    """What is worth a line in the history, oldest first; nothing when everything is as it was."""
    lines = []
    if before is not None and before.address != after.address:
        lines.append(
            ProbeChange(at=after.asked_at, before=before.address, after=after.address, detail="asked there now")
        )
    if after.changed_at == after.asked_at:
        lines.append(
            ProbeChange(
                at=after.asked_at,
                before="former answer",
                after="other answer",
                detail=f"it answers differently at the same address {after.address}",
            )
        )
    was = before.outcome if before is not None else "never asked"
    if was != after.outcome:
        lines.append(ProbeChange(at=after.asked_at, before=was, after=after.outcome, detail=after.detail))
    return tuple(lines)


def _continues(state: ProbeState, probe: Probe, version: Version) -> bool:
    return state.address == version.address and state.fingerprint == probe.fingerprint


def _judged(asked: Asked) -> tuple[ProbeOutcome, str, str]:
    if asked.failure:
        return ProbeOutcome.FAILING, asked.failure, asked.detail
    for comparison in (asked.known, asked.former):
        if comparison is not None and comparison.reason in _NOT_JUDGED:
            return ProbeOutcome.FAILING, comparison.reason, comparison.detail
    if asked.known is not None and asked.known.verdict is not Verdict.AGREE:
        return ProbeOutcome.WRONG, asked.known.reason or "differs", asked.known.detail
    return ProbeOutcome.OK, "", ""


def _similarity(asked: Asked) -> float | None:
    told = asked.known if asked.known is not None else asked.former
    return None if told is None else told.similarity


def _with_answer(state: ProbeState, asked: Asked) -> ProbeState:
    """The answer that the next one is held against; one that differs from it takes its place, and is remembered."""
    if asked.failure:
        return state
    if not state.answer:
        return replace(state, answer=asked.response, first_at=asked.at)
    same = asked.response == state.answer or asked.former is None or asked.former.verdict is Verdict.AGREE
    if same or (asked.former is not None and asked.former.reason in _NOT_JUDGED):
        return state
    return replace(state, answer=asked.response, first_at=asked.at, changed_at=asked.at, changes=state.changes + 1)
