"""Starting and stopping experiments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multishadow_server.core import claim_edit, serving, webhook_events
from multishadow_server.core import experiment as rules
from multishadow_server.core import flags as flag_rules
from multishadow_server.core import schedule as schedule_rules
from multishadow_server.core import windows as hours
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Experiment, RankBy
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.schedule import NO_SCHEDULE, Progress, Schedule
from multishadow_server.core.serving import Flags
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service import epochs, names, rollout_ownership
from multishadow_server.service.ports import Change, ControlStore
from multishadow_server.service.steering import CONTROL

# A round of housekeeping takes a moment; whoever comes later than this was away.
LATE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What an experiment is to be.

    Args:
        model: the model's name.
        candidates: names of the versions to compare with the live one.
        percent: share of requests that each gets, in (0, 100].
        duration: time box in seconds.
        bucket_seconds: width of the rollups' time buckets.
        noise_percent: share of requests that the live version gets a second time; not above `percent`.
        rank_by: what the candidates are ranked by, for the whole experiment.
        schedule: the steps by which they come to their share, and the hours in which they are called.
    """

    model: str
    candidates: tuple[str, ...]
    percent: float = 100.0
    duration: float = rules.DEFAULT_DURATION
    bucket_seconds: int = rules.DEFAULT_BUCKET_SECONDS
    noise_percent: float = 0.0
    rank_by: RankBy = RankBy.AGREEMENT
    schedule: Schedule = NO_SCHEDULE


async def list_experiments(store: ControlStore, *, model: str = "") -> Sequence[Experiment]:
    """The experiments of one model, or of all, newest first.

    Raises:
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    if model:
        names.model_of(await store.read(), model)
    return await store.experiments(model or None)


async def start_experiment(store: ControlStore, terms: Terms, *, actor: str) -> tuple[Experiment, int]:
    """Open a comparison and set the candidates' flags to `shadow`, in one revision.

    With a ramp, to its first share; with windows of which none is open, to `off` until one opens.

    Raises:
        InvalidInput: the terms are out of range, or name a candidate twice.
        NotFound: no such model or version.
        FailedPrecondition: a candidate is live or a rollout's, or an experiment of this model runs already.
        WritesShadowed: the model's requests write.
        StoreUnavailable: the database is away.
    """
    shares = terms.schedule.shares(terms.percent)
    # All of them now: a share that no flag can hold must not come to light in the middle of the night.
    claims = [flag_rules.claim_definition(terms.model, Claim.SHADOW, share) for share in shares]
    rules.check_terms(
        duration=terms.duration,
        bucket_seconds=terms.bucket_seconds,
        percent=terms.percent,
        noise_percent=terms.noise_percent,
    )
    async with store.change(actor) as change:
        model = names.model_of(change.configuration, terms.model)
        candidates = _candidates(change.configuration, model, terms.candidates)
        await _check_alone(change, model)
        for version in candidates:
            await rollout_ownership.check_free(change, model.name, version=version.name)
        if terms.rank_by is RankBy.LABELS:
            names.label_terms(model)
        schedule_rules.check(terms.schedule, starts_at=change.now, duration=terms.duration)
        is_open = hours.open_at(terms.schedule.windows, change.now)
        first = claims[0] if is_open else flag_rules.claim_definition(model.name, Claim.OFF)
        experiment = await change.start_experiment(
            model=model.name,
            candidates=[version.name for version in candidates],
            percent=terms.percent,
            bucket_seconds=terms.bucket_seconds,
            duration=terms.duration,
            noise_percent=terms.noise_percent,
            rank_by=terms.rank_by,
            schedule=terms.schedule,
            progress=Progress(since=change.now, percent=shares[0] if is_open else 0.0),
        )
        reason = f"experiment {experiment.id} started"
        flags = change.configuration.flags
        written = {
            version.flag_key: flag_rules.with_metadata_of(serving.flag_of(version, flags), first)
            for version in candidates
        }
        for key, definition in written.items():
            await change.put_flag(key, definition, reason=reason)
        await epochs.follow(change, experiment, model, {**flags, **written}, reason=reason)
        await change.audit(
            "start_experiment",
            model.name,
            {"experiment": experiment.id, "candidates": list(experiment.candidates), "percent": terms.percent},
        )
        return experiment, change.revision


def _candidates(configuration: Configuration, model: Model, wanted: Sequence[str]) -> list[Version]:
    """The versions that are named, in order of registration."""
    if not 1 <= len(wanted) <= rules.MOST_CANDIDATES:
        raise InvalidInput(f"candidates: name 1 to {rules.MOST_CANDIDATES} versions, not {len(wanted)}")
    if len(set(wanted)) < len(wanted):
        raise InvalidInput(f"candidates: name each once, not {names.listed(wanted)}")
    candidates = sorted((names.version_of(model, name) for name in wanted), key=lambda version: version.ordinal)
    for version in candidates:
        claim_edit.check_copied(model, version.name)
        _check_not_live(model, configuration.flags, version)
    return candidates


def _check_not_live(model: Model, flags: Flags, version: Version) -> None:
    live = serving.live_version(model, flags)
    if version == live:
        raise FailedPrecondition(
            f"{version.name} is the live version of {model.name}, with which candidates are compared; name others: "
            f"{names.listed(each.name for each in model.versions if each != version)}"
        )
    if live is not None and version.ordinal > live.ordinal and serving.may_serve(version, flags):
        claim = flag_rules.describe(serving.flag_of(version, flags))
        raise FailedPrecondition(
            f"{version.name} is being rolled out ({claim}); starting would take that away from its callers. Finish the "
            f"rollout with `shadowctl promote {version.name}`, or take it back with `shadowctl rollback`"
        )


async def _check_alone(change: Change, model: Model) -> None:
    running = await change.running_experiment(model.name)
    if running is not None:
        raise FailedPrecondition(
            f"experiment {running.id} of {model.name} runs already ({names.listed(running.candidates)} at "
            f"{running.present_percent:g} %, started by {running.started_by}); stop it first with `shadowctl stop`"
        )


async def stop_experiment(store: ControlStore, *, model: str, actor: str, reason: str) -> tuple[Experiment, int]:
    """End the running experiment, and set to `off` what it shadowed. Its statistics stay.

    Raises:
        NotFound: no such model.
        FailedPrecondition: none runs.
        StoreUnavailable: the database is away.
    """
    async with store.change(actor) as change:
        found = names.only_model(change.configuration, model)
        running = await change.running_experiment(found.name)
        if running is None:
            raise FailedPrecondition(
                f"no experiment of {found.name} runs; start one with `shadowctl start VERSION…`, and see past ones "
                "with `shadowctl get experiments`"
            )
        return await _stop(change, found, running, reason=reason or f"stopped by {actor}"), change.revision


async def _stop(change: Change, model: Model, experiment: Experiment, *, reason: str) -> Experiment:
    rollout = await change.rollouts.running(model.name)
    # Their flags are the rollout's own, see `rollout_ownership`: it ends, or goes on, by its own evidence.
    owned = () if rollout is None else (rollout.version, rollout.previous)
    for key, definition in _without_shadows(model, change.configuration.flags, experiment, owned=owned).items():
        await change.put_flag(key, definition, reason=reason)
    await epochs.close(change, experiment)
    stopped = await change.stop_experiment(experiment, reason=reason)
    await change.audit("stop_experiment", model.name, {"experiment": experiment.id, "reason": reason})
    await change.tell(webhook_events.experiment_ended(stopped, reason=reason, at=change.now))
    return stopped


def _without_shadows(
    model: Model, flags: Flags, experiment: Experiment, *, owned: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    """What its candidates' flags are to say, whoever set them: those that only shadow, `off`; those `owned` stay.

    One that was promoted meanwhile keeps its claim to `live`, for the same requests; promoted in part, it no longer
    shadows the rest.
    """
    off = flag_rules.claim_definition(model.name, Claim.OFF)
    wanted: dict[str, Mapping[str, Any]] = {}
    for version in model.versions:
        present = serving.flag_of(version, flags)
        candidate = version.name in experiment.candidates and version.name not in owned
        if candidate and flag_rules.may_claim(present, Claim.SHADOW):
            serves = serving.may_serve(version, flags)
            wanted[version.flag_key] = (
                flag_rules.without_shadow(present) if serves else flag_rules.with_metadata_of(present, off)
            )
    return wanted


async def end_overdue(store: ControlStore, *, clock: Callable[[], float]) -> list[Experiment]:
    """Stop every experiment whose time box is over, and return those that this call stopped.

    Args:
        store: several processes may do this at once: each looks again while it holds the change's lock.
        clock: the time, in seconds since the Unix epoch, that says when to look; the database's time decides.

    Raises:
        StoreUnavailable: the database is away.
    """
    ended = []
    for experiment in await store.experiments(running=True):
        if experiment.ends_at > clock():
            continue
        async with store.change(CONTROL) as change:
            running = await change.running_experiment(experiment.model)
            if running is None or running.id != experiment.id or running.ends_at > change.now:
                continue
            model = change.configuration.models[experiment.model]
            ended.append(await _stop(change, model, running, reason=_ended(running, now=change.now)))
    return ended


def _ended(experiment: Experiment, *, now: float) -> str:
    late = now - experiment.ends_at
    words = f"time box of {rules.in_words(experiment.ends_at - experiment.started_at)} ended"
    if late < LATE_SECONDS:
        return words
    minutes = rules.in_words(late // LATE_SECONDS * LATE_SECONDS)
    return f"{words} {minutes} before this was noticed; nothing was counted since"
