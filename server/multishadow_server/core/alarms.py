"""Alarms: something is wrong that nobody may be looking at. What raises one, keeps it, and clears it.

Rules (`alarm_rules`) say at every look what they find. An alarm is raised at once; it is cleared only when nothing was
found for a while, so that it does not flap; and what cannot be told at present changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class AlarmKind(StrEnum):
    """What may be wrong; these words are part of the API.

    Attributes:
        SHADOW_SILENT: copies go to a candidate, and it has answered nothing for a while.
        ANSWER_CHANGED: a probe's answer differs from the one before, at the same address: another build may stand
            there, and the running epoch mixes the two.
        KNOWN_ANSWER_WRONG: a version does not give a probe's known answer.
        PROBE_FAILING: a probe failed several times in a row: an error, a timeout, no server.
        COMPARATOR_FAILING: many of a candidate's answers cannot be compared, or comparisons crash.
        DROPS: many of a candidate's copies, or of what a router captured, were dropped for a reason that nobody asked
            for.
        LAG: a worker works on requests of a while ago.
        FLAGS_STALE: a router has not confirmed its flags for a while; it keeps the last live version and shadows
            nothing.
        ROUTER_MISSING: a router stopped to report itself, and none began in its place.
        WORKER_MISSING: a worker did, or an experiment runs and there is none.
    """

    SHADOW_SILENT = "shadow_silent"
    ANSWER_CHANGED = "answer_changed"
    KNOWN_ANSWER_WRONG = "known_answer_wrong"
    PROBE_FAILING = "probe_failing"
    COMPARATOR_FAILING = "comparator_failing"
    DROPS = "drops"
    LAG = "lag"
    FLAGS_STALE = "flags_stale"
    ROUTER_MISSING = "router_missing"
    WORKER_MISSING = "worker_missing"


REMEDIES: Mapping[AlarmKind, str] = {
    AlarmKind.SHADOW_SILENT: (
        "see that the version runs at its address (`shadowctl get versions`) and that workers reach it; "
        "`shadowctl flags set VERSION off` stops copies to it"
    ),
    AlarmKind.ANSWER_CHANGED: (
        "register a new build under an address or a name of its own; to keep its evidence apart, "
        "`shadowctl stop` and `shadowctl start` begin a new experiment"
    ),
    AlarmKind.KNOWN_ANSWER_WRONG: "see what the version answers (`shadowctl probes -o json`); do not promote it before",
    AlarmKind.PROBE_FAILING: "see that the version runs at its address, and that control reaches it",
    AlarmKind.COMPARATOR_FAILING: (
        "look at pairs of answers (`shadowctl review list`): they may be of different kinds, empty, or too large for "
        "the comparator; correct the model's file and `shadowctl apply` it"
    ),
    AlarmKind.DROPS: "the reason says which limit; raise it, run more workers, or shadow a smaller share",
    AlarmKind.LAG: "run more workers, shadow a smaller share, or set the slowest shadow to off",
    AlarmKind.FLAGS_STALE: "see that the router reaches its flag source; it shadows nothing meanwhile",
    AlarmKind.ROUTER_MISSING: "see that it runs and reaches PostgreSQL; one that ends in order is not missed",
    AlarmKind.WORKER_MISSING: "see that it runs and reaches PostgreSQL; other workers take over its partitions",
}
"""What to do about each, in a sentence."""


class AlarmKey(NamedTuple):
    """Which alarm: `subject` is a version, `version/probe`, or a process; `model` is empty where it is of all."""

    kind: AlarmKind
    model: str
    subject: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a rule found.

    Args:
        key: which alarm it is about.
        detail: in words, with the figures.
        known: False where nothing can be told at present: an alarm that is on stays on, and none is raised.
    """

    key: AlarmKey
    detail: str = ""
    known: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """One alarm, from when it was raised until it is cleared; raised again, it is another one.

    Args:
        id: made by the store.
        key: which.
        detail: what was found last.
        raised_at, seen_at, cleared_at: when it was raised, last found, and cleared; None while it is on. Seconds since
            the Unix epoch.
        acknowledged_at, acknowledged_by, note: who knows of it; None and empty until somebody says so.
    """

    id: int
    key: AlarmKey
    detail: str
    raised_at: float
    seen_at: float
    cleared_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str = ""
    note: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether somebody knows of it."""
        return self.acknowledged_at is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What one look changes.

    Args:
        raised: new ones.
        found: alarms that stay on, with what was found of them now.
        cleared: alarms that are over.
    """

    raised: tuple[Finding, ...] = ()
    found: tuple[tuple[Alarm, Finding], ...] = ()
    cleared: tuple[Alarm, ...] = ()


def turn(standing: Sequence[Alarm], findings: Sequence[Finding], *, now: float, clear_after: float) -> Turn:
    """What a look at everything changes.

    Args:
        standing: the alarms that are on.
        findings: what the rules found now; at most one for each key.
        now: seconds since the Unix epoch.
        clear_after: how long nothing must have been found of an alarm before it is cleared, in seconds.
    """
    found = {finding.key: finding for finding in findings}
    on = {alarm.key for alarm in standing}
    quiet = [alarm for alarm in standing if alarm.key not in found]
    return Turn(
        raised=tuple(finding for key, finding in found.items() if finding.known and key not in on),
        found=tuple((alarm, found[alarm.key]) for alarm in standing if alarm.key in found),
        cleared=tuple(alarm for alarm in quiet if now - alarm.seen_at >= clear_after),
    )
