"""Editing flags of any kind: put, delete, revert, import; all or nothing, rehearsed when wanted.

The flag of a version keeps to its rules however it is edited (`service.claims`). What some reader of flags would not
take is refused; the store takes the last look at it, whoever writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from multishadow_server.core import flag_definition, flag_document, variant_share
from multishadow_server.core import flags as flag_rules
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flag_document import FlagDocument
from multishadow_server.core.model import Version
from multishadow_server.errors import Conflict, FailedPrecondition, InvalidInput, MultishadowError, NotFound
from multishadow_server.service import claims, names
from multishadow_server.service.ports import Change, ControlStore, FlagRevision

MOST_AT_ONCE = 5_000
# gRPC bounds a status to 8 KiB.
MOST_PROBLEMS_TOLD = 20

Definition = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """Who edits, why, and on what terms.

    Args:
        actor, reason: for the history.
        expected_revision: refuse the edit if a flag that it touches has changed since this revision; None: do not ask.
        dry_run: say what would be, and change nothing.
    """

    actor: str
    reason: str = ""
    expected_revision: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """Serve a variant to `percent` % of subjects, in (0, 100], and the flag's default to the rest."""

    variant: str
    percent: float = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagChange:
    """What an edit does to one flag: None before is a new one, None after a deletion."""

    key: str
    before: Definition | None
    after: Definition | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """What an edit came to, or would have come to.

    Args:
        revision: that it made; the present one when nothing changed.
        dry_run: whether it was a rehearsal.
        changes: by key.
        problems: why it would be refused; empty unless it was a rehearsal.
        warnings: what is allowed and may not be meant.
        effects: what it does to running experiments.
        claims: keys of those changes that are to flags of versions, which routers read.
    """

    revision: int
    dry_run: bool
    changes: Sequence[FlagChange]
    problems: Sequence[str]
    warnings: Sequence[str]
    effects: Sequence[str]
    claims: Sequence[str]


@dataclass(kw_only=True, slots=True)
class _Plan:
    """What an edit is to write: a definition, or None to delete, by key; and what was found on the way."""

    wanted: dict[str, Definition | None] = field(default_factory=dict)
    # Flags whose change meanwhile makes the edit another one than was decided on, beside those that it writes.
    guarded: set[str] = field(default_factory=set)
    problems: list[MultishadowError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


_Planner = Callable[[Change], Awaitable[_Plan]]


async def put(store: ControlStore, writes: Mapping[str, object], edit: Edit) -> Edited:
    """Create or change flags.

    Args:
        store: where they are.
        writes: by key, a definition in flagd's format as parsed from JSON, or Serve.
        edit: who, why, on what terms.

    Raises:
        InvalidInput: every problem of the definitions, each with its path.
        NotFound: a flag is to serve a variant, and there is none of that key.
        FailedPrecondition: it would change who serves, or drop rules, or take a key that is kept for versions.
        Conflict: a flag has changed since `expected_revision`; the message says who changed what.
        StoreUnavailable: the database is away.
    """

    async def plan(change: Change) -> _Plan:
        configuration = change.configuration
        planned = _Plan()
        for key, what in writes.items():
            _put(planned, configuration, key, what)
        return planned

    return await _edit(store, plan, edit, action="put_flags")


async def delete(store: ControlStore, keys: Sequence[str], edit: Edit) -> Edited:
    """Remove flags; their history stays.

    Raises:
        NotFound: there is no such flag.
        FailedPrecondition: it is the flag of a version.
        Conflict, StoreUnavailable: see `put`.
    """

    async def plan(change: Change) -> _Plan:
        configuration = change.configuration
        planned = _Plan()
        for key in keys:
            if key not in configuration.flags:
                known = names.listed(sorted(configuration.flags))
                planned.problems.append(NotFound(f"there is no flag {key!r}; there is {known}"))
            else:
                planned.wanted[key] = None
        return planned

    return await _edit(store, plan, edit, action="delete_flags")


async def revert(
    store: ControlStore, edit: Edit, *, to_revision: int, keys: Sequence[str] = (), flag_set: str | None = None
) -> Edited:
    """Give flags back what they said at a revision; one that was not there is deleted.

    Args:
        store: where they are.
        edit: who, why, on what terms.
        to_revision: at which they said it.
        keys: the flags; empty: those of `flag_set`.
        flag_set: a set, "" for the default one; the flags of versions are left alone.

    Raises:
        InvalidInput: neither keys nor a set is named, or the revision is still to come.
        NotFound: there neither is nor was such a flag.
        FailedPrecondition: a version's flag would change who serves, or would have to be deleted.
        Conflict, StoreUnavailable: see `put`.
    """
    if bool(keys) == (flag_set is not None):
        raise InvalidInput("keys, flag_set: name either the flags to revert or the set whose flags are reverted")

    async def plan(change: Change) -> _Plan:
        configuration = change.configuration
        if not 0 <= to_revision <= configuration.revision:
            raise InvalidInput(f"to_revision: {to_revision} is none; there are 0 to {configuration.revision}")
        former = await change.flags_at(to_revision)
        planned = _Plan()
        for key in keys or _free_of_set(configuration, former, flag_set or ""):
            if key in former:
                _put(planned, configuration, key, former[key])
            elif key in configuration.flags:
                planned.wanted[key] = None
            else:
                planned.problems.append(NotFound(f"there is no flag {key!r}, and was none at revision {to_revision}"))
        return planned

    return await _edit(store, plan, edit, action="revert_flags", detail={"to_revision": to_revision})


async def import_document(store: ControlStore, document: FlagDocument, edit: Edit, *, replace: bool) -> Edited:
    """Put the flags of a flagd document.

    Args:
        store: where they are put.
        document: what to put.
        edit: who, why, on what terms.
        replace: delete the flags of the document's set that it does not have; those of versions are left alone.

    Raises:
        FailedPrecondition: a key is taken by a flag of another set, as keys are unique over all sets; or see `put`.
        InvalidInput, Conflict, StoreUnavailable: see `put`.
    """

    async def plan(change: Change) -> _Plan:
        configuration = change.configuration
        planned = _Plan(warnings=list(document.warnings))
        for key, definition in document.flags.items():
            _put(planned, configuration, key, definition, evaluators=document.evaluators)
            _check_set(planned, configuration, key)
        if replace:
            of_set = _free_of_set(configuration, configuration.flags, document.flag_set)
            planned.guarded.update(of_set)
            planned.wanted |= {key: None for key in of_set if key not in document.flags}
        return planned

    detail = {"flag_set": document.flag_set, "replace": replace}
    return await _edit(store, plan, edit, action="import_flags", detail=detail)


# --- planning -----------------------------------------------------------------------------------------------------


def _put(
    planned: _Plan,
    configuration: Configuration,
    key: str,
    what: object,
    *,
    evaluators: Mapping[str, Any] | None = None,
) -> None:
    """Add one write to the plan, or what is wrong with it."""
    owner = flag_definition.version_of(key, configuration.models)
    try:
        if owner is None and key not in configuration.flags:
            flag_definition.check_free(key, configuration.models)
        definition = _served(configuration, key, what) if isinstance(what, Serve) else what
    except MultishadowError as error:
        planned.problems.append(error)
        return
    checked, problems = flag_definition.examine(key, definition, claim=owner is not None, evaluators=evaluators)
    planned.problems += [InvalidInput(problem) for problem in problems]
    planned.warnings += checked.warnings
    if not problems:
        planned.wanted[key] = checked.definition


def _served(configuration: Configuration, key: str, wanted: Serve) -> Definition:
    present = configuration.flags.get(key)
    if present is None:
        raise NotFound(
            f"there is no flag {key!r} whose variant could be served; make one with `shadowctl flags edit {key}` or "
            f"`shadowctl flags set {key} -f FILE`"
        )
    owner = flag_definition.version_of(key, configuration.models)
    if owner is not None:
        return variant_share.claimed(owner, present, wanted.variant, wanted.percent)
    return variant_share.served(key, present, wanted.variant, wanted.percent)


def _free_of_set(configuration: Configuration, also: Mapping[str, Definition], wanted: str) -> list[str]:
    """Keys of a set's flags, present and in `also`, without those of versions."""
    keys = {*flag_document.of_set(configuration.flags, wanted), *flag_document.of_set(also, wanted)}
    return sorted(key for key in keys if flag_definition.version_of(key, configuration.models) is None)


def _check_set(planned: _Plan, configuration: Configuration, key: str) -> None:
    """An import does not take a flag out of somebody else's set by the way."""
    present, wanted = configuration.flags.get(key), planned.wanted.get(key)
    if present is None or wanted is None:
        return
    was, becomes = flag_definition.flag_set(present), flag_definition.flag_set(wanted)
    if was != becomes:
        planned.problems.append(
            FailedPrecondition(
                f"{key}: is a flag of {_set_name(was)} already, and keys are unique over all sets; rename it in the "
                f"document, or move it with `shadowctl flags edit {key}`"
            )
        )


def _set_name(name: str) -> str:
    return f"the set {name!r}" if name else "the default set"


# --- carrying out -------------------------------------------------------------------------------------------------


async def _edit(
    store: ControlStore, plan: _Planner, edit: Edit, *, action: str, detail: Mapping[str, Any] | None = None
) -> Edited:
    async with store.change(edit.actor) as change:
        planned = await plan(change)
        if len(planned.wanted) > MOST_AT_ONCE:
            raise InvalidInput(f"{len(planned.wanted)} flags at once are too many; at most {MOST_AT_ONCE} are allowed")
        await _check_unchanged(change, {*planned.wanted, *planned.guarded}, edit.expected_revision)
        changes = [
            FlagChange(key=key, before=change.configuration.flags.get(key), after=planned.wanted[key])
            for key in sorted(planned.wanted)
            if not flag_definition.same(change.configuration.flags.get(key), planned.wanted[key])
        ]
        effects = await _write(change, changes, planned.problems, reason=edit.reason)
        if planned.problems and not edit.dry_run:
            raise _refusal(planned.problems)
        if edit.dry_run or not changes:
            change.discard()
        else:
            keys = [each.key for each in changes]
            subject = keys[0] if len(keys) == 1 else f"{len(keys)} flags"
            await change.audit(action, subject, {"keys": keys, "reason": edit.reason, **(detail or {})})
        return Edited(
            revision=change.revision if changes and not edit.dry_run else change.configuration.revision,
            dry_run=edit.dry_run,
            changes=changes,
            problems=[str(problem) for problem in planned.problems],
            warnings=planned.warnings,
            effects=effects,
            claims=[each.key for each in changes if flag_definition.version_of(each.key, change.configuration.models)],
        )


async def _write(
    change: Change, changes: Sequence[FlagChange], problems: list[MultishadowError], *, reason: str
) -> list[str]:
    """Write the changes; returns what they do to experiments. What is refused is added to the problems."""
    models = change.configuration.models
    flags = dict(change.configuration.flags)
    edited: list[Version] = []
    for each in changes:
        owner = flag_definition.version_of(each.key, models)
        try:
            if each.after is None:
                await change.delete_flag(each.key, reason=reason)
                del flags[each.key]
                continue
            if owner is None:
                await change.put_flag(each.key, each.after, reason=reason)
            else:
                await claims.put(change, flags, owner, each.after, reason=reason)
                edited.append(owner)
            flags[each.key] = each.after
        except (InvalidInput, FailedPrecondition) as error:
            # Both are raised before anything of this flag is written; the transaction goes on.
            problems.append(error)
    return await claims.follow(change, flags, edited)


def _refusal(problems: Sequence[MultishadowError]) -> MultishadowError:
    if len(problems) == 1:
        return problems[0]
    lines = [str(problem) for problem in problems[:MOST_PROBLEMS_TOLD]]
    if len(problems) > MOST_PROBLEMS_TOLD:
        lines.append(f"and {len(problems) - MOST_PROBLEMS_TOLD} more; a dry run tells all")
    kind = InvalidInput if any(isinstance(problem, InvalidInput) for problem in problems) else type(problems[0])
    return kind("\n".join(lines))


async def _check_unchanged(change: Change, keys: Iterable[str], expected: int | None) -> None:
    if expected is None:
        return
    present = change.configuration.revision
    if not 0 <= expected <= present:
        raise InvalidInput(f"expected_revision: {expected} is none; the flags are at revision {present}")
    meanwhile = await change.flag_revisions(sorted(keys), after=expected)
    if meanwhile:
        told = "; ".join(_told(line) for line in meanwhile[-3:])
        raise Conflict(f"somebody was first, and changed since revision {expected}: {told}. Read again, decide again")


def _told(line: FlagRevision) -> str:
    at = datetime.fromtimestamp(line.changed_at, UTC)
    what = "deleted" if line.definition is None else f"now {flag_rules.describe(line.definition)}"
    why = f' ("{line.reason}")' if line.reason else ""
    return f"{line.key} at revision {line.revision} by {line.changed_by}, {at:%Y-%m-%d %H:%M} UTC: {what}{why}"
