"""What comparisons say of a stage: those since it was entered."""

from __future__ import annotations

from multishadow_server.core.statistics.two_samples import Rate
from multishadow_server.service.rollout_findings import Comparisons

TOTALS = {
    "reverse/7/ok": 90,
    "reverse/7/diverged": 10,
    "forward/6/ok": 900,
    "forward/6/diverged": 100,
}


def test_only_what_came_after_the_stage_was_entered_counts() -> None:
    found = Comparisons(totals=TOTALS)
    assert found.since({}, "reverse") == Rate(bad=10, n=100)
    baseline = {"reverse/7/ok": 50, "reverse/7/diverged": 8, "forward/6/ok": 900, "forward/6/diverged": 100}
    assert found.since(baseline, "reverse") == Rate(bad=2, n=42)
    assert found.since(baseline, "forward") == Rate(bad=0, n=0)


def test_another_epoch_begins_at_nothing() -> None:
    assert Comparisons(totals=TOTALS).since({"reverse/5/ok": 80, "reverse/5/diverged": 9}, "reverse") == Rate(
        bad=10, n=100
    )


def test_without_an_epoch_nothing_is_known() -> None:
    assert Comparisons(totals={}).since({}, "reverse") is None
