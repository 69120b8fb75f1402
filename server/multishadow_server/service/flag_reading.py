"""Flags of any kind: what they say, what they said, and both as a document of flagd's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multishadow_server.core import flag_definition, flag_document
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.model import Version
from multishadow_server.errors import InvalidInput, NotFound
from multishadow_server.service import names
from multishadow_server.service.ports import ControlStore, FlagRecord, FlagRevision


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagView:
    """A flag, or one line of its history, and whose it is; `owner` is None for one that is no version's."""

    record: FlagRecord | FlagRevision
    owner: Version | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A flagd document, and the revision that it is of."""

    document: Mapping[str, Any]
    revision: int


async def list_definitions(
    store: ControlStore, *, flag_set: str | None = None, prefix: str = ""
) -> tuple[Sequence[FlagView], int]:
    """Flags by key, of one set or of all ("" is the default set), with the revision.

    Raises StoreUnavailable.
    """
    # The revision first: one that is newer than the list would pass off the list as containing a change it missed.
    configuration = await store.read()
    views = [
        FlagView(record=record, owner=flag_definition.version_of(record.key, configuration.models))
        for record in await store.flags()
        if record.key.startswith(prefix) and flag_set in {None, flag_definition.flag_set(record.definition)}
    ]
    return views, configuration.revision


async def get_definition(store: ControlStore, key: str, *, revision: int | None = None) -> tuple[FlagView, int]:
    """One flag as it is, or as it was, with the present revision.

    Raises:
        NotFound: there is, or was, no such flag; the message names what comes near.
        InvalidInput: the revision is still to come.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read()
    at = _revision(configuration, revision)
    said = next(iter(await store.flag_history(key, before=at + 1, most=1)), None)
    if said is None or said.definition is None:
        raise _no_flag(configuration, key, at=revision, deleted=said)
    owner = flag_definition.version_of(key, configuration.models)
    return FlagView(record=said, owner=owner), configuration.revision


def _revision(configuration: Configuration, wanted: int | None) -> int:
    if wanted is None:
        return configuration.revision
    if not 0 <= wanted <= configuration.revision:
        raise InvalidInput(f"revision: {wanted} is none; there are 0 to {configuration.revision}")
    return wanted


def _no_flag(
    configuration: Configuration, key: str, *, at: int | None = None, deleted: FlagRevision | None = None
) -> NotFound:
    if at is not None:
        return NotFound(f"there was no flag {key!r} at revision {at}; see `shadowctl flags history {key}`")
    if deleted is not None:
        return NotFound(
            f"{key} was deleted at revision {deleted.revision} by {deleted.changed_by}; `shadowctl flags revert {key} "
            f"--to {deleted.revision - 1}` brings it back"
        )
    return NotFound(f"there is no flag {key!r}; there is {names.listed(sorted(configuration.flags))}")


async def history(
    store: ControlStore, key: str, *, before: int | None = None, most: int | None = None
) -> Sequence[FlagView]:
    """What a flag said, newest first.

    Args:
        store: where it is.
        key: the flag's.
        before: below this revision; None: ever.
        most: so many lines; None: all.

    Raises:
        NotFound: there never was such a flag.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read()
    lines = await store.flag_history(key, before=before, most=most)
    if not lines and (before is None or not await store.flag_history(key, most=1)):
        raise _no_flag(configuration, key)
    owner = flag_definition.version_of(key, configuration.models)
    return [FlagView(record=line, owner=owner) for line in lines]


async def export(
    store: ControlStore, *, flag_set: str | None = None, revision: int | None = None, keys: Sequence[str] = ()
) -> Export:
    """Flags as a flagd document, as they are or as they were.

    Args:
        store: where they are.
        flag_set: only those of this set; "" is the default set; None: of all.
        revision: None: the present one.
        keys: only these; empty: all.

    Raises:
        NotFound: a key that was named has, or had, no flag.
        InvalidInput: the revision is still to come.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read()
    at = _revision(configuration, revision)
    flags = configuration.flags if at == configuration.revision else await store.flags_at(at)
    if missing := [key for key in keys if key not in flags]:
        raise _no_flag(configuration, missing[0], at=revision)
    if flag_set is not None:
        flags = flag_document.of_set(flags, flag_set)
    if keys:
        flags = flag_document.only(flags, keys)
    return Export(document=flag_document.write(flags, named_set=flag_set, revision=at), revision=at)
