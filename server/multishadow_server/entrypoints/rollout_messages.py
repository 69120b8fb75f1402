"""Between the messages about rollouts and the core's values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from multishadow.v1 import rollouts_pb2 as pb
from multishadow_server.core import guardrails as guardrail_rules
from multishadow_server.core.guardrails import Evidence, Guardrail, Standing
from multishadow_server.core.rollout import Rollout, Terms
from multishadow_server.entrypoints.control_messages import free_text, moment
from multishadow_server.service.acknowledgement import Acknowledged, RouterView, Serving
from multishadow_server.service.ports import RolloutEvent
from multishadow_server.service.rollout_planning import Proposal, Wish
from multishadow_server.service.rollouts import RolloutView


def wish_of(message: pb.RolloutWish) -> Wish:
    """What somebody asks for. Raises InvalidInput when their words are too long."""

    def given(field: str) -> Any:  # noqa: ANN401  as the field is
        return getattr(message, field) if message.HasField(field) else None  # type: ignore[arg-type]  # one of its own

    return Wish(
        model=message.model,
        version=message.version,
        plan=message.plan,
        stages=tuple(message.stages),
        dwell=given("dwell_seconds"),
        minimum_requests=given("minimum_requests"),
        max_setbacks=given("max_setbacks"),
        patience=given("patience_seconds"),
        max_divergence=given("max_divergence"),
        max_errors=given("max_errors"),
        force=message.force,
        reason=free_text("reason", message.reason),
    )


def plan_response(proposal: Proposal) -> pb.PlanRolloutResponse:
    """What a rollout would be."""
    return pb.PlanRolloutResponse(
        model=proposal.model.name,
        version=proposal.version.name,
        previous_version=proposal.previous.name,
        terms=_terms(proposal.terms, plan=proposal.plan.name, reason=proposal.plan.why),
        obstacle=proposal.obstacle,
        gates_holding=proposal.gates.holding,
        warnings=proposal.warnings,
        requests_per_second=proposal.rate,
        stage_seconds=proposal.stage_seconds,
    )


def rollout_message(rollout: Rollout) -> pb.Rollout:
    """A rollout as it stands."""
    return pb.Rollout(
        id=rollout.id,
        model=rollout.model,
        version=rollout.version,
        previous_version=rollout.previous,
        state=rollout.state,
        terms=_terms(rollout.terms, plan=rollout.plan),
        stage=rollout.stage,
        percent=rollout.percent,
        stage_revision=rollout.stage_revision,
        entered_at=moment(rollout.entered_at),
        setbacks=rollout.setbacks,
        started_at=moment(rollout.started_at),
        started_by=rollout.started_by,
        reason=rollout.reason,
        changed_by=rollout.changed_by,
        note=rollout.note,
        ended_at=moment(rollout.ended_at),
    )


def get_response(view: RolloutView) -> pb.GetRolloutResponse:
    """A rollout with what is found and what comes next."""
    return pb.GetRolloutResponse(
        rollout=rollout_message(view.rollout),
        guardrails=[_guardrail(each) for each in view.checkup.guardrails],
        next=view.next.move,
        next_why=view.next.why,
        next_at=moment(view.next.again_at),
        stragglers=view.checkup.stragglers,
        events=[_event(each) for each in view.events],
        read_at=moment(view.now),
    )


def acknowledgement_response(routers: Acknowledged, served: Serving) -> pb.GetAcknowledgementResponse:
    """Who acts on a revision, and who answered."""
    return pb.GetAcknowledgementResponse(
        model=served.model,
        revision=served.revision,
        acknowledged=_routers(routers.routers),
        stragglers=_routers(routers.stragglers),
        served=[
            pb.ServedRequests(version=version, requests=each.requests, failed=each.failed, covered=each.covered)
            for version, each in sorted(served.counts.items())
        ],
    )


def _routers(routers: Iterable[RouterView]) -> list[pb.RouterStanding]:
    return [
        pb.RouterStanding(
            instance=router.said.instance,
            host=router.said.host,
            pid=router.said.pid,
            revision=router.said.revision,
            age_seconds=router.age,
            silent=router.silent,
        )
        for router in routers
    ]


def _terms(terms: Terms, *, plan: str, reason: str = "") -> pb.RolloutTerms:
    return pb.RolloutTerms(
        plan=plan,
        plan_reason=reason,
        stages=terms.stages,
        dwell_seconds=terms.dwell,
        minimum_requests=terms.minimum_requests,
        max_setbacks=terms.max_setbacks,
        patience_seconds=terms.patience,
        limits=[
            pb.GuardrailLimit(name=each.name, limit=each.limit, watched=each.standing is not Standing.UNWATCHED)
            for each in guardrail_rules.assess(Evidence(), terms.rules)
        ],
    )


def _guardrail(guardrail: Guardrail) -> pb.Guardrail:
    message = pb.Guardrail(
        name=guardrail.name,
        standing=guardrail.standing,
        new=guardrail.new,
        base=guardrail.base,
        found=guardrail.found,
        limit=guardrail.limit,
    )
    if guardrail.bounds is not None and not math.isnan(guardrail.bounds.lower):
        message.lower = guardrail.bounds.lower
    if guardrail.bounds is not None and not math.isnan(guardrail.bounds.upper):
        message.upper = guardrail.bounds.upper
    return message


def _event(event: RolloutEvent) -> pb.RolloutEvent:
    return pb.RolloutEvent(
        at=moment(event.at),
        actor=event.actor,
        move=event.move,
        percent=event.percent,
        revision=event.revision,
        why=event.why,
        findings=[_finding(each) for each in event.findings],
    )


def _finding(finding: Mapping[str, Any]) -> pb.Guardrail:
    return pb.Guardrail(**finding)
