"""What is stored of a model's traffic: looking at it, holding it to new terms, erasing it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from multishadow_server.core import privacy_limits
from multishadow_server.core.model import Model
from multishadow_server.core.privacy import Payloads
from multishadow_server.errors import InvalidInput, LogUnavailable
from multishadow_server.service import names
from multishadow_server.service.ports import (
    CaptureBacklog,
    ControlStore,
    Erased,
    Rewritten,
    Selection,
    StoredTraffic,
    TrafficStore,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Office:
    """What all of it needs.

    Args:
        store: where models are.
        traffic: where stored traffic is.
        backlog: the capture log; it may be away.
        clock: the time, in seconds since the Unix epoch.
    """

    store: ControlStore
    traffic: TrafficStore
    backlog: CaptureBacklog
    clock: Callable[[], float]

    async def waiting(self) -> int | None:
        """Messages of the capture log that no worker has finished; None when the log cannot be asked."""
        try:
            return await self.backlog.waiting()
        except LogUnavailable as error:
            _log.warning("the capture log cannot be asked: %s", error)
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What is to be erased; at most one of the three is given, none means everything."""

    before: float | None = None
    request_id: str = ""
    session_id: str = ""


async def stored(office: Office, *, model: str) -> tuple[Model, Sequence[StoredTraffic]]:
    """A model, and what is stored of its traffic.

    Raises:
        InvalidInput: the model must be named.
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    owner = names.only_model(await office.store.read(experiments=False), model)
    return owner, await office.traffic.stored(owner.name)


async def apply(office: Office, *, model: str, actor: str, reason: str) -> tuple[Model, Rewritten]:
    """Hold what is stored already to the model's present terms; audited.

    What is stored in a stricter form stays in it: what is gone cannot be had back.

    Raises:
        InvalidInput: the model must be named.
        NotFound: there is no such model.
        StoreUnavailable: the database is away; ask again, and it goes on where it was.
    """
    owner = names.only_model(await office.store.read(experiments=False), model)
    if owner.privacy.payloads is Payloads.FULL:
        return owner, Rewritten()
    rewritten = await office.traffic.rewrite(owner)
    detail = {**asdict(rewritten), "terms": privacy_limits.in_short(owner.privacy), "reason": reason}
    await office.traffic.audit("apply_privacy", owner.name, detail, actor=actor)
    return owner, rewritten


async def purge(
    office: Office, *, model: str, wish: Wish, actor: str, reason: str, dry_run: bool
) -> tuple[Model, Erased]:
    """Erase stored traffic; audited before and after, without what identifies anybody.

    Raises:
        InvalidInput: more than one choice, or the model must be named.
        NotFound: there is no such model.
        StoreUnavailable: the database is away; ask again, and it goes on where it was.
    """
    if sum((wish.before is not None, bool(wish.request_id), bool(wish.session_id))) > 1:
        raise InvalidInput("choose one of before, request_id and session_id, or none for everything")
    if wish.before is not None and wish.before > office.clock():
        raise InvalidInput("before: it lies in the future; to erase everything, leave it out")
    owner = names.only_model(await office.store.read(experiments=False), model)
    selection = await _selection(office, wish)
    if dry_run:
        return owner, await office.traffic.count(owner.name, selection)
    detail = {**_told(selection), "reason": reason}
    # Before anything is deleted: a purge that is cut short has happened, too.
    await office.traffic.audit("purge_begun", owner.name, detail, actor=actor)
    erased = await office.traffic.erase(owner.name, selection)
    await office.traffic.audit("purge", owner.name, {**detail, **asdict(erased)}, actor=actor)
    return owner, erased


async def _selection(office: Office, wish: Wish) -> Selection:
    if wish.before is not None:
        return Selection(before=wish.before)
    if wish.request_id or wish.session_id:
        # Under which terms a row was stored is not known beforehand: every form that the id may have.
        named = wish.request_id or wish.session_id
        forms = (named, (await office.traffic.seal()).text(named))
        return Selection(request_ids=forms) if wish.request_id else Selection(session_ids=forms)
    return Selection()


def _told(selection: Selection) -> Mapping[str, object]:
    """For the audit log, which nothing is ever taken out of: the hash of an id, which tells nothing without the key."""
    if selection.before is not None:
        return {"what": "before", "before": selection.before}
    if selection.request_ids is not None:
        return {"what": "request", "request_id": selection.request_ids[-1]}
    if selection.session_ids is not None:
        return {"what": "session", "session_id": selection.session_ids[-1]}
    return {"what": "everything"}
