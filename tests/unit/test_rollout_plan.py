"""Which plan is chosen by itself."""

from __future__ import annotations

import pytest

from multishadow_server.core import rollout_plan
from multishadow_server.core.findings import Interval
from multishadow_server.core.rollout_plan import Plan
from multishadow_server.errors import InvalidInput

SMALL = Interval(estimate=0.002, lower=0.001, upper=0.008)
LARGE = Interval(estimate=0.02, lower=0.01, upper=0.03)


def chosen(name: str = "", divergence: Interval | None = SMALL, *, held_up: bool = False, **more: object) -> Plan:
    return rollout_plan.choose(name, divergence=divergence, limit=0.01, held_up=held_up, **more)  # type: ignore[arg-type]


def test_who_is_proven_to_differ_little_goes_boldly() -> None:
    plan = chosen()
    assert (plan.name, plan.stages, plan.dwell) == ("bold", (5.0, 50.0, 100.0), 600.0)
    assert "less than 0.8 %" in plan.why


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (chosen(divergence=LARGE), "up to 3 %"),
        (chosen(divergence=None), "not measured"),
        (chosen(held_up=True), "gates are passed over"),
    ],
)
def test_everybody_else_goes_cautiously(plan: Plan, why: str) -> None:
    assert (plan.name, plan.stages, plan.dwell) == ("cautious", (1.0, 5.0, 25.0, 50.0, 100.0), 900.0)
    assert why in plan.why


def test_what_is_named_wins() -> None:
    assert chosen("cautious").name == "cautious"
    plan = chosen("bold", stages=(10.0, 100.0), dwell=60.0)
    assert (plan.name, plan.stages, plan.dwell) == ("custom", (10.0, 100.0), 60.0)
    assert chosen(dwell=60.0).dwell == 60
    with pytest.raises(InvalidInput, match="there is auto, cautious, bold"):
        chosen("reckless")
