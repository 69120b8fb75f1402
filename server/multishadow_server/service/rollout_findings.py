"""What is known of a rollout at one moment: counts of live requests, comparisons, and who is in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import guardrails as guardrail_rules
from multishadow_server.core import quality
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.guardrails import Evidence
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.model import Model
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollout import Checkup, Rollout
from multishadow_server.core.rollup import Family, Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.core.statistics.non_inferiority import LabelledPair
from multishadow_server.core.statistics.two_samples import Rate
from multishadow_server.errors import MultishadowError
from multishadow_server.service import acknowledgement
from multishadow_server.service.ports import ControlStore, RolloutStore

# Experiments that cannot be read for so long are left out of a look: live errors must not wait for them.
PATIENCE = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparisons:
    """What shadows made of the answers of the new version, and of those of the base, in the open epochs.

    Args:
        totals: comparisons since the epochs were opened, by "reverse/<epoch>/<outcome>" and "forward/…".
        labels: the new version beside the base on labelled requests; None when no answers are kept.
        unreadable: why they could not be read.
    """

    totals: Mapping[str, int] = field(default_factory=dict)
    labels: LabelledPair | None = None
    unreadable: str = ""

    def since(self, baseline: Mapping[str, int], way: str) -> Rate | None:
        """Comparisons after the baseline; None when no open epoch makes such ones.

        Args:
            baseline: totals when the stage was entered; those of other epochs have nothing to say.
            way: "reverse" or "forward".
        """
        parts = {key: n - baseline.get(key, 0) for key, n in self.totals.items() if key.startswith(f"{way}/")}
        if not parts:
            return None
        diverged = sum(n for key, n in parts.items() if key.endswith(f"/{Outcome.DIVERGED}"))
        return Rate(bad=diverged, n=sum(parts.values()))


async def checkup(store: ControlStore, records: RolloutStore, rollout: Rollout, *, now: float) -> Checkup:
    """Look at everything that a rollout depends on.

    What cannot be read of experiments only leaves the guardrails open that need it: live errors still stop a rollout.

    Raises:
        StoreUnavailable: the database is away.
    """
    configuration = await store.read(experiments=False)
    interference = await _interference(store, configuration, rollout)
    acknowledged = await acknowledgement.acknowledged(store, rollout.stage_revision, now=now)
    stragglers = acknowledgement.names_of(acknowledged.stragglers)
    try:
        found = await evidence(store, records, rollout, configuration, now=now)
    except MultishadowError as error:
        return Checkup(interference=interference, stragglers=stragglers, unreadable=str(error))
    return Checkup(
        guardrails=guardrail_rules.assess(found, rollout.terms.rules),
        stragglers=stragglers,
        interference=interference,
    )


async def evidence(
    store: ControlStore, records: RolloutStore, rollout: Rollout, configuration: Configuration, *, now: float
) -> Evidence:
    """What was counted since the present stage was entered."""
    counts = await records.stage_counts(
        rollout.model, first_revision=rollout.first_revision, stage_revision=rollout.stage_revision
    )
    earlier = rollout.percent >= 100
    model = configuration.models[rollout.model]
    compared = await comparisons(
        store, model, version=rollout.version, previous=rollout.previous, since=rollout.started_at, now=now
    )
    return Evidence(
        new=counts.stage.get(rollout.version, LiveCounts()),
        base=(counts.before if earlier else counts.stage).get(rollout.previous, LiveCounts()),
        base_is_earlier=earlier,
        reverse=compared.since(rollout.baseline, "reverse"),
        forward=compared.since(rollout.baseline, "forward"),
        labels=compared.labels,
        unreadable=compared.unreadable,
    )


async def comparisons(
    store: ControlStore, model: Model, *, version: str, previous: str, since: float, now: float
) -> Comparisons:
    """What the model's running experiment counted; nothing when none runs.

    Args:
        store: where experiments are.
        model: whose.
        version: the one that is rolled out.
        previous: the one that it replaces.
        since: labels of time buckets that ended before do not count, seconds since the Unix epoch.
        now: likewise; labels of time buckets younger than the label delay do not count.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await _comparisons(store, model, version=version, previous=previous, since=since, now=now)
    except TimeoutError:
        return Comparisons(unreadable=f"experiments could not be read within {PATIENCE:g} s")
    except MultishadowError as error:
        return Comparisons(unreadable=str(error))


async def _comparisons(
    store: ControlStore, model: Model, *, version: str, previous: str, since: float, now: float
) -> Comparisons:
    running = next(iter(await store.experiments(model.name, running=True)), None)
    epochs = await store.epochs(running.id) if running else []
    totals: dict[str, int] = {}
    labels: list[LabelledPair] = []
    for way, live, shadow in (("reverse", version, previous), ("forward", previous, version)):
        for epoch in epochs:
            if epoch.until_revision is not None or epoch.live != live or shadow not in epoch.candidates:
                continue
            buckets = await store.buckets(epoch.id, [Family.OUTCOME, Family.LABEL_PAIR])
            totals |= _outcomes(f"{way}/{epoch.id}", sum(buckets.values(), Rollup()), shadow)
            delay = model.labels.delay if model.labels else 0.0
            cohorts = _cohorts(epoch, buckets, since=since, until=now - delay)
            labels.append(_labelled(cohorts, live=live, shadow=shadow, version=version))
    return Comparisons(totals=totals, labels=_together(labels) if model.labels else None)


def _outcomes(prefix: str, counts: Rollup, shadow: str) -> Mapping[str, int]:
    """Answers that could be compared. A shadow that fails says nothing of the version that answered."""
    outcomes = counts.tables().get((Family.OUTCOME, shadow), {})
    return {f"{prefix}/{outcome}": outcomes.get(outcome, 0) for outcome in (Outcome.OK, Outcome.DIVERGED)}


def _cohorts(epoch: Epoch, buckets: Mapping[int, Rollup], *, since: float, until: float) -> Rollup:
    ends = {start + epoch.bucket_seconds: counts for start, counts in buckets.items()}
    return sum((counts for end, counts in ends.items() if since < end <= until), Rollup())


def _labelled(counts: Rollup, *, live: str, shadow: str, version: str) -> LabelledPair:
    pair = quality.labelled_pair(counts.tables(), live, shadow)
    if shadow == version:
        return pair
    return LabelledPair(
        only_candidate_right=pair.only_live_right, only_live_right=pair.only_candidate_right, alike=pair.alike
    )


def _together(pairs: list[LabelledPair]) -> LabelledPair:
    return LabelledPair(
        only_candidate_right=sum(pair.only_candidate_right for pair in pairs),
        only_live_right=sum(pair.only_live_right for pair in pairs),
        alike=sum(pair.alike for pair in pairs),
    )


async def _interference(store: ControlStore, configuration: Configuration, rollout: Rollout) -> str:
    """What somebody else did to a rollout's version or its flags, and who; empty when nobody did."""
    model = configuration.models[rollout.model]
    version, previous = model.version(rollout.version), model.version(rollout.previous)
    assert version is not None
    assert previous is not None
    if version.location != rollout.address:
        return (
            f"{version.name} is at {version.location} now and was at {rollout.address} when its rollout began: what "
            "answers there has passed no gate and no stage"
        )
    expected = {version.flag_key: rollout.flag_in_words, previous.flag_key: "live"}
    newer = {each.flag_key for each in model.versions if each.ordinal > version.ordinal}
    for record in await store.flags():
        words = flag_rules.describe(record.definition)
        by = f"{record.changed_by} set it in revision {record.revision}" + (f" ({record.reason})" * bool(record.reason))
        if record.key in expected and words != expected[record.key]:
            return f"{record.key} says `{words}` and not `{expected[record.key]}`: {by}"
        if record.key in newer and flag_rules.may_claim(record.definition, Claim.LIVE):
            return f"{record.key}, of a newer version, says `{words}`: {by}"
    return ""


async def baseline(store: ControlStore, rollout: Rollout, *, now: float) -> Mapping[str, int]:
    """Comparisons so far, for a stage that is entered now; none where they cannot be read: then all will count."""
    model = (await store.read(experiments=False)).models[rollout.model]
    found = await comparisons(
        store, model, version=rollout.version, previous=rollout.previous, since=rollout.started_at, now=now
    )
    return found.totals
