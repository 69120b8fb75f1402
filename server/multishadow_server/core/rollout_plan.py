"""How boldly to roll out, by how much the version was measured to differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core.findings import Interval
from multishadow_server.core.gate_findings import wording
from multishadow_server.errors import InvalidInput


class PlanName(StrEnum):
    """`auto` chooses one of the others."""

    AUTO = "auto"
    CAUTIOUS = "cautious"
    BOLD = "bold"
    CUSTOM = "custom"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Stages in percent, seconds for each, and why this plan."""

    name: PlanName
    stages: tuple[float, ...]
    dwell: float
    why: str


_PLANS: Mapping[PlanName, tuple[tuple[float, ...], float]] = {
    PlanName.CAUTIOUS: ((1.0, 5.0, 25.0, 50.0, 100.0), 900.0),
    # Who is proven to answer as the base does can only surprise by load, which small shares do not show.
    PlanName.BOLD: ((5.0, 50.0, 100.0), 600.0),
}


def choose(
    name: str,
    *,
    divergence: Interval | None,
    limit: float,
    held_up: bool,
    stages: tuple[float, ...] = (),
    dwell: float = 0.0,
) -> Plan:
    """The plan of that name; stages and dwell that are given win over it.

    Args:
        name: of a plan; empty is `auto`.
        divergence: the version's rate as a shadow, with its interval; None when it was not measured.
        limit: what counts as small.
        held_up: whether gates are passed over.
        stages: in percent; empty: the plan's.
        dwell: seconds; 0: the plan's.

    Raises:
        InvalidInput: there is no such plan.
    """
    wanted = _named(name)
    if wanted is PlanName.AUTO:
        wanted, why = _by(divergence, limit=limit, held_up=held_up)
    else:
        why = "as asked for"
    plan_stages, plan_dwell = _PLANS[wanted]
    if stages:
        wanted, why = PlanName.CUSTOM, "the stages were named"
    return Plan(name=wanted, stages=stages or plan_stages, dwell=dwell or plan_dwell, why=why)


def _named(name: str) -> PlanName:
    allowed = (PlanName.AUTO, *_PLANS)
    if name and name not in allowed:
        raise InvalidInput(f"plan: there is no {name!r}; there is {', '.join(allowed)}")
    return PlanName(name or PlanName.AUTO)


def _by(divergence: Interval | None, *, limit: float, held_up: bool) -> tuple[PlanName, str]:
    if held_up:
        return PlanName.CAUTIOUS, "gates are passed over"
    if divergence is None:
        return PlanName.CAUTIOUS, "its divergence was not measured"
    upper = wording.at_most(divergence.upper)
    if divergence.upper < limit:
        return PlanName.BOLD, f"it is proven to diverge on less than {upper} of the requests"
    return PlanName.CAUTIOUS, f"it may diverge on up to {upper} of the requests"
