"""Where alarms are kept, and what they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.alarms import Alarm, Turn
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.watch_readings import Reading
from multishadow_server.service.ports.processes import ProcessStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What a look is held against.

    Args:
        recent: the newest reading that is old enough to tell silence by; None when there is none.
        window: likewise for shares, or the oldest there is.
        standing: the alarms that are on.
    """

    recent: Reading | None
    window: Reading | None
    standing: Sequence[Alarm]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """How old the readings are that a look needs, in seconds; and how far apart they are kept."""

    recent: float
    window: float
    apart: float


class AlarmStore(Protocol):
    """Where alarms are kept. Every method raises StoreUnavailable.

    Whoever wants to be told of alarms (a webhook, a metric) reads `alarms`, or what `turn` returns.
    """

    async def reading(self, epochs: Sequence[Epoch], *, back: float) -> Reading:
        """What is counted now.

        Args:
            epochs: those that are open.
            back: how long ago a request may have been received that is counted now, in seconds.
        """
        ...

    async def turn(self, reading: Reading, span: Span, decide: Callable[[Past], Turn]) -> Turn | None:
        """Keep the reading and write what `decide` makes of it and of the past, in one transaction.

        None, and nothing is done, while another process does the same.
        """
        ...

    async def alarms(self, model: str = "") -> Sequence[Alarm]:
        """Those that are on, not acknowledged ones first; of one model with those of all models, or all there are."""
        ...

    async def history(self, model: str = "", *, most: int, before: int | None = None) -> Sequence[Alarm]:
        """On or over, the newest first; with `before`, of those whose number is below it."""
        ...

    async def acknowledge(self, ids: Sequence[int], *, model: str, actor: str, note: str) -> Sequence[Alarm]:
        """Put on record that somebody knows of alarms that are on; returns those that nobody knew of before.

        Args:
            ids: which; empty: all.
            model: without ids: only this model's; empty: of all.
            actor: who knows; it goes into the audit log, too.
            note: in their words.
        """
        ...

    async def processes(self) -> Sequence[ProcessStatus]:
        """What processes said of themselves last."""
        ...
