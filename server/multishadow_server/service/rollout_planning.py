"""What a staged rollout would be: worked out before anything is changed, and shown to whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from multishadow_server.core import guardrails as guardrail_rules
from multishadow_server.core import promotion as promotion_rules
from multishadow_server.core import rollout as rules
from multishadow_server.core import rollout_plan, serving
from multishadow_server.core.guardrails import GuardrailName, Limits
from multishadow_server.core.model import Model, Version
from multishadow_server.core.rollout import Terms
from multishadow_server.core.rollout_plan import Plan
from multishadow_server.core.serving import Flags
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service import names, promotion_gates, rollout_ownership
from multishadow_server.service.ports import ControlStore, RolloutStore, VersionProbe
from multishadow_server.service.promotion_gates import GatesFound

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What somebody asks for; whatever is None or empty is chosen by the plan and the model's gates.

    Args:
        model: empty: the only one there is.
        version: to be rolled out.
        plan: name of a plan; empty is `auto`.
        stages: in percent.
        dwell: seconds that each stage lasts at least.
        minimum_requests, max_setbacks, patience: see `rollout.Terms`.
        max_divergence, max_errors: see `guardrails.Limits`.
        force: although gates do not pass, or control cannot connect to it.
        reason: why; needed where gates are passed over.
    """

    model: str
    version: str
    plan: str = ""
    stages: tuple[float, ...] = ()
    dwell: float | None = None
    minimum_requests: int | None = None
    max_setbacks: int | None = None
    patience: float | None = None
    max_divergence: float | None = None
    max_errors: float | None = None
    force: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """What a rollout would be.

    Args:
        model, version, previous: what is rolled out over what.
        plan: the stages and why these.
        terms: how it would go.
        gates: what they say.
        obstacle: why it could not be started now; empty when it could.
        rate: live requests per second at present, roughly; 0 when it is not known.
        stage_seconds: how long each stage is likely to take, given that rate; the dwell where it is not known.
        warnings: what to think of before.
    """

    model: Model
    version: Version
    previous: Version
    plan: Plan
    terms: Terms
    gates: GatesFound
    obstacle: str
    rate: float
    stage_seconds: tuple[float, ...]
    warnings: tuple[str, ...]


async def propose(
    store: ControlStore, records: RolloutStore, probe: VersionProbe, wish: Wish, *, clock: Callable[[], float]
) -> Proposal:
    """Work out what a rollout would be; nothing is changed.

    Raises:
        InvalidInput: the terms make no rollout, or gates are to be passed over without a reason.
        NotFound: no such model or version.
        FailedPrecondition: the version is live already.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read()
    model = names.only_model(configuration, wish.model)
    version = names.version_of(model, wish.version)
    previous = serving.live_version(model, configuration.flags)
    assert previous is not None, "a model with a version has a base"
    if previous == version:
        raise FailedPrecondition(f"{version.name} is the live version of {model.name} already; nothing is left to do")
    gates = await promotion_gates.look(store, version, clock=clock)
    terms, plan = await _terms(store, model, wish, gates)
    rules.check_terms(terms)
    obstacle = await _going_on(records, model)
    if not obstacle:
        try:
            promotion_gates.refuse(gates, version, force=wish.force, reason=wish.reason)
            check_flags(model, version, configuration.flags, terms)
            if not wish.force:
                await promotion_gates.check_reachable(probe, version)
        except (FailedPrecondition, InvalidInput) as error:
            obstacle = str(error)
    rate = await records.request_rate(model.name)
    return Proposal(
        model=model,
        version=version,
        previous=previous,
        plan=plan,
        terms=terms,
        gates=gates,
        obstacle=obstacle,
        rate=rate,
        stage_seconds=_stage_seconds(terms, rate),
        warnings=tuple(_warnings(model, terms, gates)),
    )


async def _terms(store: ControlStore, model: Model, wish: Wish, gates: GatesFound) -> tuple[Terms, Plan]:
    plan = rollout_plan.choose(
        wish.plan,
        divergence=gates.divergence,
        limit=model.gates.divergence,
        held_up=bool(gates.holding),
        stages=wish.stages,
        dwell=wish.dwell or 0.0,
    )
    defaults = Terms(stages=plan.stages)
    running = bool(await store.experiments(model.name, running=True))
    watched = {GuardrailName.ERRORS, GuardrailName.LATENCY}
    if running:
        watched.add(GuardrailName.DIVERGENCE)
    if running and model.labels is not None:
        watched.add(GuardrailName.ACCURACY)
    terms = Terms(
        stages=plan.stages,
        dwell=plan.dwell if wish.dwell is None else wish.dwell,
        minimum_requests=_or(wish.minimum_requests, defaults.minimum_requests),
        max_setbacks=_or(wish.max_setbacks, defaults.max_setbacks),
        patience=_or(wish.patience, defaults.patience),
        limits=_limits(model, wish, gates),
        watched=frozenset(watched),
    )
    return terms, plan


def _or(asked: Value | None, default: Value) -> Value:
    return default if asked is None else asked


def _limits(model: Model, wish: Wish, gates: GatesFound) -> Limits:
    """The gates' limits go on as guardrails. Divergence that somebody waived is accepted as it was measured then."""
    divergence = model.gates.divergence
    if gates.divergence_waived and gates.divergence is not None:
        divergence = max(divergence, gates.divergence.upper)
    limits = Limits(
        latency_ratio=model.gates.latency_ratio,
        divergence=_or(wish.max_divergence, divergence),
        accuracy=model.gates.inferiority,
    )
    if wish.max_errors is None:
        return limits
    return replace(limits, errors=wish.max_errors, severe_errors=max(limits.severe_errors, 5 * wish.max_errors))


async def _going_on(records: RolloutStore, model: Model) -> str:
    going_on = await records.rollouts(model.name, running=True)
    return f"{rollout_ownership.described(going_on[0])} goes on already" if going_on else ""


def check_flags(model: Model, version: Version, flags: Flags, terms: Terms) -> None:
    """Refuse a version that the flags allow no stages for.

    Raises:
        FailedPrecondition: it serves already, or no older version claims `live` for the rest of the requests.
    """
    if serving.may_serve(version, flags):
        raise FailedPrecondition(
            f"{version.name} answers a share of the requests of {model.name} already; take that back with `shadowctl "
            f"rollback`, or go on by hand with `shadowctl promote {version.name} --percent PERCENT`"
        )
    promotion_rules.check_stage(model, flags, version, terms.stages[0])


def _stage_seconds(terms: Terms, rate: float) -> tuple[float, ...]:
    needed = guardrail_rules.requests_to_clear(terms.rules)
    return tuple(max(terms.dwell, needed / (rate * percent / 100)) if rate else terms.dwell for percent in terms.stages)


def _warnings(model: Model, terms: Terms, gates: GatesFound) -> list[str]:
    said = []
    if GuardrailName.DIVERGENCE not in terms.watched:
        said.append(
            "divergence is not watched, as no experiment runs; `shadowctl start VERSION` before the rollout compares "
            "every answer with the base's"
        )
    elif gates.divergence is not None and gates.divergence.estimate > terms.limits.divergence:
        said.append(
            f"as a shadow it diverged on {100 * gates.divergence.estimate:.3g} % of the requests and the limit is "
            f"{100 * terms.limits.divergence:.3g} %, so it will be rolled back; if it is meant to differ, waive the "
            "gate `divergence` with the reason, or set a limit (`--max-divergence`)"
        )
    if model.labels is None:
        said.append("accuracy is not watched: the model keeps no answers to be labelled")
    return said
