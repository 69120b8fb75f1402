"""Whether a promotion arrived, and staged ones: what `shadowctl` asks, shows, and ends with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from test_cli_commands import Result, Shadowctl, shadowctl

import control_fixtures as reports
from control_fixtures import NOON, CannedControl, at, models
from multishadow.v1 import control_pb2
from multishadow.v1 import rollouts_pb2 as pb
from multishadow_client.cli import arrival

__all__ = ["shadowctl"]  # a fixture

STRAGGLER = pb.RouterStanding(instance="router-2", host="host-b", pid=7, revision=8, age_seconds=34, silent=True)
GUARDRAILS = (
    pb.Guardrail(
        name="errors", standing="kept", new="3 of 4,210 failed", base="12 of 12,600 failed",
        found="−0.02 pp, −0.40 – +0.60", limit="+1 pp (+5 pp is severe)", lower=-0.004, upper=0.006,
    ),
    pb.Guardrail(name="divergence", standing="broken", new="90 of 900 diverged", found="10 %", limit="1 %"),
    pb.Guardrail(name="accuracy", standing="unwatched", found="no labels are kept", limit="−1 pp"),
)  # fmt: skip


MINUTE = "60s"


class Clock:
    """Time that passes by sleeping only: a long wait is over at once, and a machine that stands still ends none."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        """Seconds since it was made."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self._now += seconds


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["ListModels"] = models(spam=["base", "A", "B"])
        canned.answers["Promote"] = control_pb2.PromoteResponse(
            model="spam", version="A", previous_version="base", revision=9, changed=True
        )
        canned.answers["GetAcknowledgement"] = reports.arrived("A")
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "140")
        monkeypatch.setattr(arrival, "time", Clock())
        yield canned


def promoted(shadowctl: Shadowctl, *more: str) -> tuple[Result, str]:
    """Promote A, with a minute to wait; the standing comes from the document."""
    result = shadowctl("promote", "A", "--yes", "--timeout", MINUTE, "-o", "json", *more)
    return result, json.loads(result.out)["arrival"]["standing"]


@pytest.mark.parametrize(
    ("seen", "code", "standing"),
    [
        (reports.arrived("A"), 0, "serving"),
        (reports.arrived("A", served=[]), 0, "no_traffic"),
        (reports.arrived("A", served=[], acknowledged=[]), 0, "no_router"),
        (reports.arrived("A", stragglers=[STRAGGLER]), 3, "stragglers"),
        (reports.arrived("A", served=[pb.ServedRequests(version="A", requests=9, failed=9)]), 1, "failing"),
        (reports.arrived("A", served=[pb.ServedRequests(version="A", requests=9, failed=8)]), 1, "failing"),
        (reports.arrived("A", served=[pb.ServedRequests(version="A", requests=9, failed=2)]), 0, "serving"),
        (reports.arrived("base"), 3, "others_serve"),
    ],
    ids=["serving", "no traffic", "no router", "straggler", "failing", "most fail", "some fail", "others"],
)
def test_a_promotion_ends_with_what_was_seen_of_it(
    control: CannedControl, shadowctl: Shadowctl, seen: pb.GetAcknowledgementResponse, code: int, standing: str
) -> None:
    control.answers["GetAcknowledgement"] = seen
    result, found = promoted(shadowctl)
    assert (result.code, found) == (code, standing)
    asked = control.asked(pb.GetAcknowledgementRequest)[0]
    assert (asked.model, asked.revision) == ("spam", 9)


def test_stragglers_are_named_with_host_and_age_and_the_flip_stands(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    control.answers["GetAcknowledgement"] = reports.arrived("A", stragglers=[STRAGGLER])
    result = shadowctl("promote", "A", "--yes", "--timeout", MINUTE)
    assert result.code == 3
    said = " ".join(result.out.split())
    assert "2 of 3 routers follow; the flag stands" in said
    assert "router-2 on host-b (pid 7): at revision 8, last heard of 34 s ago, silent" in said


def test_a_router_that_follows_late_is_waited_for(control: CannedControl, shadowctl: Shadowctl) -> None:
    answers = iter([reports.arrived("A", stragglers=[STRAGGLER])] * 3)
    control.answers["GetAcknowledgement"] = lambda _: next(answers, reports.arrived("A"))
    result, found = promoted(shadowctl)
    assert (result.code, found) == (0, "serving")
    assert len(control.asked(pb.GetAcknowledgementRequest)) == 4


def test_a_first_request_that_fails_is_no_verdict(control: CannedControl, shadowctl: Shadowctl) -> None:
    one = reports.arrived("A", served=[pb.ServedRequests(version="A", requests=1, failed=1)])
    answers = iter([one])
    control.answers["GetAcknowledgement"] = lambda _: next(answers, reports.arrived("A"))
    result, found = promoted(shadowctl)
    assert (result.code, found) == (0, "serving")


def test_a_control_that_goes_away_after_the_flip_leaves_it_standing_and_unseen(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    control.answers["GetAcknowledgement"] = (grpc.StatusCode.UNAVAILABLE, "PostgreSQL is away")
    result = shadowctl("promote", "A", "--yes", "--timeout", MINUTE)
    assert result.code == 3
    assert "PostgreSQL is away. The flag stands." in " ".join(result.out.split())


def test_a_share_is_seen_to_be_answered_beside_the_other_version(control: CannedControl, shadowctl: Shadowctl) -> None:
    both = [pb.ServedRequests(version="A", requests=5), pb.ServedRequests(version="base", requests=95)]
    control.answers["GetAcknowledgement"] = reports.arrived("A", served=both)
    result = shadowctl("promote", "A", "--percent", "5", "--yes")
    assert result.code == 0
    assert "A answered 5 requests since; base 95" in result.out
    # At 100 % somebody else must have changed the flags meanwhile.
    assert promoted(shadowctl)[1] == "others_serve"


def test_a_dry_run_shows_the_gates_and_changes_nothing(control: CannedControl, shadowctl: Shadowctl) -> None:
    gate = control_pb2.Gate(name="minimum_duration", state="unknown", holds_up=True)
    review = control_pb2.GateReview(version="A", verdict="HOLD", gates=[gate])
    control.answers["ListGates"] = control_pb2.ListGatesResponse(reviews=[review])
    assert shadowctl("promote", "A", "--dry-run").code == 4
    gate.holds_up = False
    control.answers["ListGates"] = control_pb2.ListGatesResponse(
        reviews=[control_pb2.GateReview(version="A", verdict="PROMOTE", gates=[gate])]
    )
    assert shadowctl("promote", "A", "--dry-run").code == 0
    assert not control.asked(control_pb2.PromoteRequest)


# --- staged ---------------------------------------------------------------------------------------------------------


def terms() -> pb.RolloutTerms:
    limits = [
        pb.GuardrailLimit(name="errors", limit="+1 pp", watched=True),
        pb.GuardrailLimit(name="accuracy", limit="−1 pp"),
    ]
    return pb.RolloutTerms(
        plan="cautious", plan_reason="gates are passed over", stages=[1, 25, 100], dwell_seconds=900,
        minimum_requests=100, max_setbacks=2, limits=limits,
    )  # fmt: skip


def plan(**fields: Any) -> pb.PlanRolloutResponse:
    return pb.PlanRolloutResponse(
        model="spam", version="A", previous_version="base", terms=terms(), requests_per_second=12.5,
        stage_seconds=[1_500, 900, 900], warnings=["divergence is not watched"], **fields,
    )  # fmt: skip


def rollout(state: str = "running", stage: int = 1, **fields: Any) -> pb.Rollout:
    return pb.Rollout(
        id=3, model="spam", version="A", previous_version="base", state=state, terms=terms(), stage=stage,
        percent=terms().stages[stage], stage_revision=9, entered_at=at(NOON), started_at=at(NOON - 600),
        started_by="ann@laptop", changed_by="control", **fields,
    )  # fmt: skip


def view(state: str = "running", **fields: Any) -> pb.GetRolloutResponse:
    ended: dict[str, Any] = {"ended_at": at(NOON + 60)} if state in {"completed", "aborted", "rolled_back"} else {}
    values: dict[str, Any] = {
        "rollout": rollout(state, **ended),
        "guardrails": GUARDRAILS,
        "next": "wait",
        "next_at": at(NOON + 900),
        "read_at": at(NOON + 60),
        "events": [
            pb.RolloutEvent(at=at(NOON - 600), actor="ann@laptop", move="start", percent=1, revision=7, why="cautious"),
            pb.RolloutEvent(at=at(NOON), actor="control", move="advance", percent=25, revision=9, why="kept"),
        ],
    }
    return pb.GetRolloutResponse(**(values | fields))


def test_a_dry_run_of_stages_shows_the_plan_with_its_time(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["PlanRollout"] = plan()
    result = shadowctl("promote", "A", "--staged", "--dry-run", "--stages", "1,25%,100", "--dwell", "15m")
    assert result.code == 0
    said = " ".join(result.out.split())
    assert "A over base, plan cautious (gates are passed over)" in said
    assert "1 % (25 m) ─── 25 % (15 m) ─── 100 % (15 m)" in said
    assert "about 55 m at the present 12.5 requests per second" in said
    assert "! divergence is not watched" in said
    (request,) = control.asked(pb.PlanRolloutRequest)
    assert (list(request.wish.stages), request.wish.dwell_seconds) == ([1, 25, 100], 900)
    assert not control.asked(pb.StartRolloutRequest)
    control.answers["PlanRollout"] = plan(obstacle="A was not promoted: HOLD")
    refused = shadowctl("promote", "A", "--staged", "--dry-run")
    assert refused.code == 4
    assert "It cannot be started: A was not promoted: HOLD" in " ".join(refused.out.split())


def test_a_rollout_starts_once_its_plan_was_shown(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["PlanRollout"] = plan()
    control.answers["StartRollout"] = pb.StartRolloutResponse(rollout=rollout(stage=0))
    result = shadowctl(
        "promote", "A", "--staged", "--yes", "--plan", "bold", "--max-divergence", "4%", "--max-errors", "0.5%",
        "--min-requests", "50", "--max-setbacks", "3", "--force", "--reason", "release 41",
    )  # fmt: skip
    assert result.code == 0
    assert "plan cautious" in result.err, "the plan is no part of the answer"
    assert "A answers 1 % of requests, base the others; rollout 3, revision 9" in result.out
    assert "2 of 2 routers follow" in result.out
    (request,) = control.asked(pb.StartRolloutRequest)
    assert request.wish == pb.RolloutWish(
        model="spam", version="A", plan="bold", max_divergence=0.04, max_errors=0.005, minimum_requests=50,
        max_setbacks=3, force=True, reason="release 41", actor="ann",
    )  # fmt: skip


def test_nothing_starts_when_there_is_nobody_to_ask_or_control_refuses(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    control.answers["PlanRollout"] = plan()
    assert shadowctl("promote", "A", "--staged").code == 2
    control.answers["PlanRollout"] = plan(obstacle="rollout 2 goes on already")
    refused = shadowctl("promote", "A", "--staged", "--yes")
    assert (refused.code, refused.err) == (4, "error: rollout 2 goes on already\n")
    control.answers["PlanRollout"] = (grpc.StatusCode.FAILED_PRECONDITION, "A is live already")
    assert shadowctl("promote", "A", "--staged", "--yes").code == 4
    assert not control.asked(pb.StartRolloutRequest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--staged", "--percent", "5"], "name them with --stages"),
        (["--stages", "1,100"], "--stages makes sense with --staged only"),
        (["--dwell", "5m", "--watch"], "--dwell, --watch makes sense with --staged only"),
        (["--staged", "--stages", "1;5"], "no shares in percent"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    control: CannedControl, shadowctl: Shadowctl, arguments: list[str], said: str
) -> None:
    result = shadowctl("promote", "A", "--yes", *arguments)
    assert result.code == 2
    assert said in " ".join(result.err.split())
    assert not control.asked(control_pb2.PromoteRequest)


@pytest.mark.parametrize(
    ("state", "code"), [("running", 3), ("paused", 3), ("completed", 0), ("aborted", 1), ("rolled_back", 1)]
)
def test_the_status_of_a_rollout_ends_with_how_it_stands(
    control: CannedControl, shadowctl: Shadowctl, state: str, code: int
) -> None:
    control.answers["GetRollout"] = view(state)
    assert shadowctl("rollout", "status", "-o", "json").code == code
    assert shadowctl("rollout", "status").code == code


def test_the_status_shows_stages_guardrails_and_what_comes_next(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["GetRollout"] = view()
    said = " ".join(shadowctl("rollout", "status").out.split())
    assert "rollout 3 of spam: A over base running" in said
    assert "● 1 % ─── ◉ 25 % ─── ○ 100 %" in said
    assert "at 25 % for 1 m of 15 m; 0 of 2 setbacks" in said
    assert "✔ errors 3 of 4,210 failed 12 of 12,600 failed −0.02 pp, −0.40 – +0.60 +1 pp (+5 pp is severe)" in said
    assert "next: back to 1 % at 12:15:00 UTC, as divergence is broken" in said
    assert "advance 25 % 9 control kept" in said
    control.answers["GetRollout"] = view(guardrails=GUARDRAILS[:1])
    well = " ".join(shadowctl("rollout", "status").out.split())
    assert "next: 100 % at 12:15:00 UTC, if every guardrail is kept then" in well
    control.answers["GetRollout"] = view(next="hold", next_why="more requests for errors", stragglers=["r-2 on b"])
    held = " ".join(shadowctl("rollout", "status").out.split())
    assert "next: 100 %, held for more requests for errors" in held
    assert "! not acknowledged by r-2 on b" in held
    control.answers["GetRollout"] = view("aborted")
    assert "● 1 % ─── ✘ 25 % ─── ○ 100 %" in " ".join(shadowctl("rollout", "status").out.split())


def test_watching_a_rollout_ends_with_it(control: CannedControl, shadowctl: Shadowctl) -> None:
    views = iter([view(), view("completed")])
    control.answers["GetRollout"] = lambda _: next(views)
    result = shadowctl("rollout", "status", "--watch", "--every", "1s", "-o", "json")
    assert result.code == 0
    assert [json.loads(line)["rollout"]["state"] for line in result.out.splitlines()] == ["running", "completed"]
    control.answers["GetRollout"] = view("paused")
    assert shadowctl("rollout", "status", "--watch").code == 3


def test_a_staged_promotion_can_be_followed_to_its_end(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["PlanRollout"] = plan()
    control.answers["StartRollout"] = pb.StartRolloutResponse(rollout=rollout(stage=0))
    control.answers["GetRollout"] = view("aborted")
    assert shadowctl("promote", "A", "--staged", "--yes", "--watch").code == 1
    (request,) = control.asked(pb.GetRolloutRequest)
    assert (request.model, request.id) == ("spam", 3)


@pytest.mark.parametrize("command", ["pause", "resume", "step", "abort"])
def test_a_rollout_is_steered_with_a_reason(control: CannedControl, shadowctl: Shadowctl, command: str) -> None:
    name = command.title()
    response, request = getattr(pb, f"{name}RolloutResponse"), getattr(pb, f"{name}RolloutRequest")
    control.answers[f"{name}Rollout"] = response(rollout=rollout("paused", note="lunch"))
    result = shadowctl("rollout", command, "--reason", "lunch")
    assert (result.code, result.out) == (0, "spam: rollout 3 of A is paused at 25 %\n")
    assert control.asked(request) == [request(model="spam", actor="ann", reason="lunch")]


def test_a_step_past_a_broken_guardrail_is_refused(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["StepRollout"] = (grpc.StatusCode.FAILED_PRECONDITION, "is not widened while it breaks errors")
    assert shadowctl("rollout", "step").code == 4


def test_rollouts_are_listed(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListRollouts"] = pb.ListRolloutsResponse()
    assert "no rollouts yet" in shadowctl("rollout", "list").out
    control.answers["ListRollouts"] = pb.ListRolloutsResponse(
        rollouts=[rollout("aborted", note="severe: errors", ended_at=at(NOON))]
    )
    said = " ".join(shadowctl("rollout", "list").out.split())
    assert "3 spam A over base aborted 25 %" in said
