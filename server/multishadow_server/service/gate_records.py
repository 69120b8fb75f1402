"""Vouching for a candidate, and waiving gates that it does not pass."""

from __future__ import annotations

from collections.abc import Callable

from multishadow_server.core.gates import Attestation, GateName
from multishadow_server.errors import InvalidInput
from multishadow_server.service import comparison_report, names
from multishadow_server.service.comparison_report import ExperimentReport
from multishadow_server.service.ports import ControlStore


async def attest(
    store: ControlStore, *, model: str, version: str, what: str, note: str, actor: str, clock: Callable[[], float]
) -> ExperimentReport:
    """Put on record that somebody vouches for something about a candidate, in its present epoch.

    Raises:
        InvalidInput: `what` cannot be attested, or the note is empty.
        NotFound, FailedPrecondition, StoreUnavailable: as for `comparison_report.compare`.
    """
    if what not in set(Attestation):
        raise InvalidInput(f"what: {what!r} cannot be attested; allowed are {names.listed(Attestation)}")
    if not note.strip():
        raise InvalidInput("note: say what was found, or where it is written down")
    return await _put_on_record(
        store, model=model, version=version, subject=what, waiver=False, text=note, actor=actor, clock=clock
    )


async def waive(
    store: ControlStore, *, model: str, version: str, gate: str, reason: str, actor: str, clock: Callable[[], float]
) -> ExperimentReport:
    """Let a candidate pass a gate, in its present epoch; the reason is kept for ever.

    Raises:
        InvalidInput: there is no such gate, or no reason.
        NotFound, FailedPrecondition, StoreUnavailable: as for `comparison_report.compare`.
    """
    if gate not in set(GateName):
        raise InvalidInput(f"gate: there is no {gate!r}; there are {names.listed(GateName)}")
    if not reason.strip():
        raise InvalidInput("reason: say why this gate need not hold; it is kept for ever")
    return await _put_on_record(
        store, model=model, version=version, subject=gate, waiver=True, text=reason, actor=actor, clock=clock
    )


async def _put_on_record(
    store: ControlStore,
    *,
    model: str,
    version: str,
    subject: str,
    waiver: bool,
    text: str,
    actor: str,
    clock: Callable[[], float],
) -> ExperimentReport:
    found = await comparison_report.compare(store, model=model, candidates=[version], clock=clock)
    async with store.change(actor) as change:
        await change.put_on_record(found.epoch, version=version, subject=subject, waiver=waiver, text=text)
        detail = {"epoch": found.epoch.number, "subject": subject, "text": text}
        action = "waive_gate" if waiver else "attest"
        await change.audit(action, f"{found.experiment.model}.{version}", detail)
    return await comparison_report.compare(store, model=model, candidates=[version], clock=clock)
