"""Promotion and rollback: which flags to write, in which revisions, so that no reader is ever without a live version.

OpenFeature has no atomic read of several flags: a reader that goes from the newest version to the base may see one
flag as it was and the next one as it is now. It still always finds a live version, and none but the former one or the
next one if a single revision overtakes it, when the flag of one of the two stands (claims `live` for every request)
both before and after each revision. `next_step` makes only such steps, towards a target that says what is wanted in
the end:

- Promoting a version that is newer than the live one is one revision: its flag. The former live version's flag stays
  `live`: it is the fallback and goes on being compared. It is demoted by the next promotion, whose revision also
  demotes what claims `live` beneath it.
- Promoting an older one is two: it claims `live`, then whatever is newer is demoted.
- Rolling back gives the flags that decide who is live back what they said before the promotion. Of a newer version this
  is one revision, unless it had demoted versions that served some requests: each of these comes back first. Flags that
  only ever shadowed stay as they are now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import serving
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.serving import Flags
from multishadow_server.errors import FailedPrecondition


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one revision writes on the way to a target.

    Args:
        writes: new definition by flag key; never empty.
        arrives: whether the target is reached with it.
    """

    writes: Mapping[str, Mapping[str, Any]]
    arrives: bool


def next_step(model: Model, flags: Flags, target: Flags) -> Step | None:
    """The next revision towards `target`, or None when the flags say it already.

    Args:
        model: whose flags.
        flags: as they are.
        target: definition by flag key, for every version of the model.
    """
    differing = {
        version.flag_key: target[version.flag_key]
        for version in model.versions
        if serving.flag_of(version, flags) != target[version.flag_key]
    }
    if not differing:
        return None
    before, after = serving.standing(model, flags), serving.standing(model, target)
    if before is None or after is None:
        return Step(writes=differing, arrives=True)
    if serving.stands(after, flags):
        # Who begins to serve above it goes first and alone, the newest first: with anything else in the same revision,
        # a reader could miss that claim and find neither its former nor its next live version.
        rising = [
            version.flag_key
            for version in model.versions
            if version.flag_key in differing and version.ordinal > after.ordinal and serving.may_serve(version, target)
        ]
        writes = {key: differing[key] for key in rising[-1:]} or differing
        return Step(writes=writes, arrives=len(writes) == len(differing))
    # `after` rises with this step. With it may go what a reader cannot mistake for either: nothing that takes the
    # former live version's claim away, and nothing that begins to serve above that version.
    others = [version for version in model.versions if version.flag_key in differing and version != after]
    alone = not serving.stands(before, target) or any(
        serving.may_serve(version, target) and version.ordinal > before.ordinal for version in others
    )
    writes = {after.flag_key: target[after.flag_key]} if alone else differing
    return Step(writes=writes, arrives=len(writes) == len(differing))


def promotion_target(
    model: Model, flags: Flags, version: Version, *, percent: float, previous: Version, experiment: Experiment | None
) -> Flags:
    """What the flags say once `version` is live for `percent` of the requests.

    Args:
        model: whose flags.
        flags: as they are.
        version: to be promoted.
        percent: (0, 100]; below 100, `check_stage` must have passed.
        previous: who was live when the promotion began.
        experiment: the running one, whose candidates go on being shadowed when they lose `live`.
    """
    target = {each.flag_key: serving.flag_of(each, flags) for each in model.versions}
    claims = {version.flag_key: flag_rules.claim_definition(model.name, Claim.LIVE, percent)}
    if percent >= 100:
        for each in _demoted(model, flags, version, previous):
            claims[each.flag_key] = _after_live(each, experiment)
    return target | {key: flag_rules.with_metadata_of(target[key], claim) for key, claim in claims.items()}


def _demoted(model: Model, flags: Flags, version: Version, previous: Version) -> list[Version]:
    """Whoever is newer would win against it; whoever claims beneath the former live version has been left over."""
    left_over = previous.ordinal if previous.ordinal < version.ordinal and serving.stands(previous, flags) else 0
    return [
        each
        for each in model.versions
        if (each.ordinal > version.ordinal or each.ordinal < left_over) and serving.may_serve(each, flags)
    ]


def _after_live(version: Version, experiment: Experiment | None) -> dict[str, Any]:
    if experiment is not None and version.name in experiment.candidates and experiment.present_percent:
        return flag_rules.claim_definition(version.model, Claim.SHADOW, experiment.present_percent)
    return flag_rules.claim_definition(version.model, Claim.OFF)


def check_stage(model: Model, flags: Flags, version: Version, percent: float) -> None:
    """Refuse a share below 100 % where the rest of the requests would not be answered by the present live version.

    Raises:
        FailedPrecondition: a newer version claims `live`, or no older one stands for the rest.
    """
    if percent >= 100:
        return
    newer = [each.name for each in model.versions if each.ordinal > version.ordinal and serving.may_serve(each, flags)]
    if newer:
        raise FailedPrecondition(
            f"{version.name} cannot be promoted at {percent:g} %: the newer {', '.join(newer)} of {model.name} claims "
            f"`live`, and the newest live claim wins. Promote {version.name} at 100 %, which demotes "
            f"{', '.join(newer)}, or take the last promotion back with `shadowctl rollback`"
        )
    if not any(each.ordinal < version.ordinal and serving.stands(each, flags) for each in model.versions):
        raise FailedPrecondition(
            f"{version.name} cannot be promoted at {percent:g} %: no older version of {model.name} claims `live` for "
            f"the other {100 - percent:g} %. Promote another version first, or take the last promotion back with "
            "`shadowctl rollback`"
        )


def rollback_target(
    model: Model, flags: Flags, *, before: Flags, previous: str, experiment: Experiment | None = None
) -> Flags:
    """What the flags say once a promotion has been taken back.

    Args:
        model: whose flags.
        flags: as they are.
        before: the model's flags before the promotion.
        previous: who was live then, and is to be live again.
        experiment: the one that ran then, as it stands now; None: none did, or nobody can tell.

    Only flags that claim `live`, now or before, are given back, and of these the claim alone. One exception: a version
    older than `previous` that stands now (it was promoted over a newer one) keeps standing beneath it until the next
    promotion, because a reader on its way from `previous` to it must not find both without a claim.
    """
    target: dict[str, Mapping[str, Any]] = {}
    again_live = model.version(previous)
    for version in model.versions:
        now = serving.flag_of(version, flags)
        then = _as_it_would_be(version, serving.flag_of(version, before), experiment)
        decides = serving.may_serve(version, flags) or serving.may_serve(version, before)
        beneath = again_live is not None and version.ordinal < again_live.ordinal and serving.stands(version, flags)
        target[version.flag_key] = flag_rules.with_metadata_of(now, then) if decides and not beneath else now
    if again_live is not None and not serving.stands(again_live, target):
        live = flag_rules.claim_definition(model.name, Claim.LIVE)
        target[again_live.flag_key] = flag_rules.with_metadata_of(serving.flag_of(again_live, flags), live)
    return target


def _as_it_would_be(version: Version, then: Mapping[str, Any], experiment: Experiment | None) -> Mapping[str, Any]:
    """A shadow's claim of then, with what its experiment would have made of it since: ended, closed, or climbed."""
    if experiment is None or version.name not in experiment.candidates or not flag_rules.only_shadows(then):
        return then
    if not (experiment.running and experiment.present_percent):
        return flag_rules.claim_definition(version.model, Claim.OFF)
    shares = experiment.schedule.shares(experiment.percent)
    written = [flag_rules.claim_definition(version.model, Claim.SHADOW, share) for share in shares]
    if flag_rules.with_metadata_of({}, then) not in written:
        return then
    return flag_rules.claim_definition(version.model, Claim.SHADOW, experiment.present_percent)
