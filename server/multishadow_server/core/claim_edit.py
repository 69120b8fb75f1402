"""Editing the flag of a version by itself: what may be changed so, and what that does to a running experiment.

Who serves is promotion's and rollback's to change: they write in an order that no reader can stumble over, and
remember the way back. An edit makes no second version live and takes no claim from the live one. It may end a partial
rollout, and the claim of a version that has lost to a newer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import serving
from multishadow_server.core.experiment import EpochTurn, Experiment
from multishadow_server.core.model import Model, Version
from multishadow_server.core.serving import Flags
from multishadow_server.errors import FailedPrecondition, WritesShadowed

Definition = Mapping[str, Any]


def check(model: Model, flags: Flags, version: Version, definition: Definition) -> None:
    """Refuse an edit that would change who serves.

    Args:
        model: whose version it is.
        flags: as they are.
        version: whose flag is edited.
        definition: what it is to say.

    Raises:
        FailedPrecondition: it would; the message says which command does.
        WritesShadowed: the model's requests write, and it would have them copied.
    """
    if _decides(serving.flag_of(version, flags)) == _decides(definition):
        return
    if flag_rules.only_shadows(definition):
        check_copied(model, version.name)
    after = {**flags, version.flag_key: definition}
    if serving.may_serve(version, after):
        _check_live(model, flags, version, definition)
    elif serving.live_version(model, flags) == version:
        raise FailedPrecondition(
            f"{version.name} is the live version of {model.name}; setting it to `{flag_rules.describe(definition)}` "
            "would leave its callers to whatever claims `live` beneath it, or to nobody. To take its promotion back: "
            f"`shadowctl rollback`. To make another version live: `shadowctl promote VERSION` "
            f"({_others(model, version)})"
        )


def check_copied(model: Model, version: str) -> None:
    """Raise WritesShadowed when nobody may copy the model's requests."""
    if model.writes.all:
        raise WritesShadowed(
            f"{model.name} is marked as writing (`writes: true`): a copy of its requests for {version} would write a "
            "second time, so its versions are never shadowed. If only some of its methods write, name these in its "
            "file as `writing_methods` instead, with `writes: false`, and `shadowctl apply` it"
        )


def _decides(definition: Definition) -> tuple[object, object]:
    """What of a flag says who gets what; the rest is for people."""
    return definition.get("targeting") or None, definition.get("defaultVariant")


def _check_live(model: Model, flags: Flags, version: Version, definition: Definition) -> None:
    percent = flag_rules.live_percent(definition)
    share = "" if percent is None or percent >= 100 else f" --percent {percent:g}"
    claiming = [each.name for each in model.versions if each != version and serving.may_serve(each, flags)]
    if claiming:
        raise FailedPrecondition(
            f"{', '.join(claiming)} of {model.name} claims `live` already, and a second live claim is only made by "
            f"promotion, which keeps the order and can be rolled back: `shadowctl promote {version.name}{share}`"
        )
    if not serving.stands(version, {version.flag_key: definition}):
        rest = "requests that get something else" if percent is None else f"other {100 - percent:g} % of the requests"
        raise FailedPrecondition(
            f"no other version of {model.name} claims `live` for the {rest}; set {version.name} to `live` for all of "
            "them, or promote another version first"
        )


def _others(model: Model, version: Version) -> str:
    return ", ".join(each.name for each in model.versions if each != version) or "none"


# --- what it does to an experiment --------------------------------------------------------------------------------


def effects(
    experiment: Experiment | None, version: Version, before: Definition, after: Definition, turn: EpochTurn | None
) -> list[str]:
    """What an edit does to the model's experiment, in words, for whoever makes it.

    Args:
        experiment: the running one.
        version: whose flag is edited.
        before: what the flag said.
        after: what it says.
        turn: the epochs that the edit ends and begins.
    """
    if experiment is None:
        return _without_experiment(version, before, after)
    said = f"experiment {experiment.id}"
    if turn is not None and (turn.closing or turn.opening):
        numbers = ", ".join(str(epoch.number) for epoch in turn.closing) or "none"
        return [f"{said}: who may serve changes, so its statistics begin anew (epochs that end: {numbers})"]
    if version.name not in experiment.candidates:
        if not _copies(after):
            return []
        return [f"{said}: {version.name} is no candidate of it, so copies for {version.name} are not compared"]
    unjudged = "the sample_ratio gate cannot be judged any more in this epoch"
    return [f"{said}: {_for_candidate(version, before, after)}; {unjudged}"]


def _without_experiment(version: Version, before: Definition, after: Definition) -> list[str]:
    if not flag_rules.only_shadows(after) or _copies(before) == _copies(after):
        return []
    said = f"no experiment of {version.model} runs, so what {version.name} answers to copies is not compared"
    return [f"{said}; `shadowctl start {version.name}` begins one"]


def _for_candidate(version: Version, before: Definition, after: Definition) -> str:
    was, now = flag_rules.copied_share(before), flag_rules.copied_share(after)
    if now == 0 and was != 0:
        return (
            f"{version.name} gets no copies of requests any more: its numbers stand still where they are, and the "
            "experiment runs on with the other candidates (`shadowctl stop` ends it for all)"
        )
    if was == 0 and now != 0:
        return f"{version.name} gets copies again ({flag_rules.describe(after)})"
    if was == now and was is not None:
        return f"the share of {version.name} stays as it is, but its flag changed"
    words = f"{flag_rules.describe(before)} → {flag_rules.describe(after)}"
    return f"the share of {version.name} changes ({words}), and its statistics go on"


def _copies(definition: Definition) -> bool:
    return flag_rules.copied_share(definition) != 0
