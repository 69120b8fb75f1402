"""What has to hold before a version goes live: its server answers, and its gates pass or are passed over by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multishadow_server.core import serving
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.findings import Interval
from multishadow_server.core.gates import GateName
from multishadow_server.core.model import Version
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound, VersionUnavailable
from multishadow_server.service import comparison_report, names
from multishadow_server.service.ports import ControlStore, VersionProbe

PROBE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GatesFound:
    """What the gates say of a version.

    Args:
        holding: names of the gates that stand in the way; `comparison` alone when it was never compared.
        why: in words, a line for each; empty when none does.
        divergence: its rate as a shadow; None when it was not measured.
        divergence_waived: whether somebody waived the gate of that name.
    """

    holding: tuple[str, ...]
    why: str = ""
    divergence: Interval | None = None
    divergence_waived: bool = False


async def look(store: ControlStore, version: Version, *, clock: Callable[[], float]) -> GatesFound:
    """What the gates say now. Raises StoreUnavailable."""
    try:
        found = await comparison_report.compare(store, model=version.model, candidates=[version.name], clock=clock)
    except (FailedPrecondition, NotFound) as error:
        return GatesFound(holding=("comparison",), why=f"it has not been compared with the live version: {error}")
    if past := of_another_time(found.epoch, await store.read()):
        return GatesFound(holding=("comparison",), why=past)
    (review,) = found.reviews
    reasons = (f"  {gate.name} {gate.state}: {gate.number}; asked for: {gate.bound}" for gate in review.holding)
    waived = any(gate.name is GateName.DIVERGENCE and gate.waiver is not None for gate in review.gates)
    return GatesFound(
        holding=tuple(gate.name for gate in review.holding),
        why="\n".join([str(review.verdict), *reasons]) if review.holding else "",
        divergence=next((each.divergence for each in found.report.candidates), None),
        divergence_waived=waived,
    )


def of_another_time(epoch: Epoch, present: Configuration) -> str:
    """Why a comparison vouches for nothing any more: nothing keeps that of an experiment that has ended up to date."""
    model = present.models[epoch.model]
    live = serving.live_version(model, present.flags)
    again = "Compare it anew with `shadowctl start`"
    if live is not None and epoch.live != live.name:
        return f"it was compared with {epoch.live}, and {live.name} is live now. {again}"
    if epoch.comparator != model.comparator:
        return f"it was compared before the model's comparator was changed. {again}"
    return ""


async def check(
    store: ControlStore, version: Version, *, force: bool, reason: str, clock: Callable[[], float]
) -> list[str]:
    """Names of the gates that are passed over.

    Raises:
        FailedPrecondition: there are any, and nothing forces them.
        InvalidInput: they are forced without a reason.
        StoreUnavailable: the database is away.
    """
    found = await look(store, version, clock=clock)
    refuse(found, version, force=force, reason=reason)
    return list(found.holding)


def refuse(found: GatesFound, version: Version, *, force: bool, reason: str) -> None:
    """Raise what `check` raises, when the gates were looked at already."""
    if not found.holding:
        return
    if not force:
        raise FailedPrecondition(
            f"{version.name} was not promoted and nothing changed: {found.why}\n`shadowctl gates {version.name}` says "
            f"what would change it; `shadowctl waive {version.name} GATE --reason TEXT` passes over one gate, and "
            "`--force --reason TEXT` with `promote` over all"
        )
    if not reason.strip():
        raise InvalidInput(
            f"reason: {version.name} does not pass its gates ({names.listed(found.holding)}); say why it is promoted"
        )


async def check_reachable(probe: VersionProbe, version: Version) -> None:
    """Refuse a version that nothing listens for: going live, it would answer every caller with an error.

    Raises:
        FailedPrecondition: control cannot connect to it.
    """
    try:
        await probe.connect(version.address, within=PROBE_SECONDS)
    except VersionUnavailable as error:
        raise FailedPrecondition(
            f"{version.name} does not answer at {version.address} ({error}), so it was not promoted and nothing "
            "changed. Start it, or correct its address with `shadowctl apply`. If only the routers can reach it, "
            "promote it with `force` (`shadowctl promote --force`)"
        ) from error
