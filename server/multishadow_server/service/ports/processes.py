"""How processes report themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessStatus:
    """What a process says of itself.

    `flag_source` is of routers: where they read flags, for people; empty when they are our own. `program` is the
    version of the program that it runs; empty for one of before it said so.
    """

    role: str
    instance: str
    host: str
    pid: int
    started_at: float
    revision: int
    counters: Mapping[str, int]
    seen_at: float = 0.0
    flag_source: str = ""
    program: str = ""


class ProcessRegistry(Protocol):
    """Where processes report themselves."""

    async def report(self, status: ProcessStatus) -> None:
        """Say how this process is. Raises StoreUnavailable."""
        ...

    async def withdraw(self, instance: str) -> None:
        """This process ends in order."""
        ...
