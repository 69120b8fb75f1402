"""Which processes are missing, by what they said last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """What a process said of itself last; times are seconds since the Unix epoch."""

    role: str
    instance: str
    started_at: float
    seen_at: float
    host: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)


def missing(processes: Sequence[Process], *, now: float, after: float) -> list[Process]:
    """The processes of one role that fell silent and were not replaced, the one that was heard of first at the front.

    A process that ends in order withdraws, and is not missed. One that was killed is started again under another name
    (its pid), and then it is not missed either: each process that began after it fell silent makes up for one.

    Args:
        processes: all of one role.
        now: seconds since the Unix epoch.
        after: seconds without a report after which a process is taken for dead.
    """
    dead = sorted((each for each in processes if now - each.seen_at > after), key=lambda each: each.seen_at)
    fresh = sorted(each.started_at for each in processes if now - each.seen_at <= after)
    gone = []
    for process in dead:
        replacement = next((started for started in fresh if started > process.seen_at), None)
        if replacement is None:
            gone.append(process)
        else:
            fresh.remove(replacement)
    return gone
