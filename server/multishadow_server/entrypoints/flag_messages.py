"""Between the flag service's messages and the core's values."""

from __future__ import annotations

from collections.abc import Mapping

from multishadow.v1 import flags_pb2 as pb
from multishadow_server.core import flag_definition, flag_document
from multishadow_server.core import flags as flag_rules
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.errors import InvalidInput
from multishadow_server.service.flag_editing import Definition, Edit, Edited, FlagChange, Serve
from multishadow_server.service.flag_reading import FlagView

EditRequest = pb.PutFlagsRequest | pb.DeleteFlagsRequest | pb.RevertFlagsRequest | pb.ImportFlagsRequest


def edit_of(request: EditRequest, *, actor: str) -> Edit:
    """Who edits, why, and on what terms. Raises InvalidInput when the reason is too long."""
    return Edit(
        actor=actor,
        reason=messages.free_text("reason", request.reason),
        expected_revision=request.expected_revision if request.HasField("expected_revision") else None,
        dry_run=request.dry_run,
    )


def writes_of(request: pb.PutFlagsRequest) -> Mapping[str, object]:
    """What each flag is to say. Raises InvalidInput: one is named twice, or has nothing to say, or no JSON."""
    writes: dict[str, object] = {}
    for i, write in enumerate(request.flags):
        if write.key in writes:
            raise InvalidInput(f'flags[{i}].key: "{write.key}" is named twice')
        writes[write.key] = _what(write, i)
    if not writes:
        raise InvalidInput("flags: name at least one")
    return writes


def _what(write: pb.FlagWrite, i: int) -> object:
    if write.HasField("serve"):
        percent = write.serve.percent if write.serve.HasField("percent") else 100.0
        return Serve(variant=write.serve.variant, percent=percent)
    if not write.HasField("definition"):
        raise InvalidInput(f"flags[{i}] ({write.key}): say what it is to be: `definition` or `serve`")
    return flag_document.parse(write.definition, write.key)


def definition_message(view: FlagView) -> pb.FlagDefinition:
    """A flag with its last change, or one line of its history."""
    record, owner = view.record, view.owner
    return pb.FlagDefinition(
        key=record.key,
        definition=_json(record.definition),
        revision=record.revision,
        changed_at=messages.moment(record.changed_at),
        changed_by=record.changed_by,
        reason=record.reason,
        flag_set="" if record.definition is None else flag_definition.flag_set(record.definition),
        model=owner.model if owner else "",
        version=owner.name if owner else "",
        summary=_summary(record.definition, absent="deleted"),
    )


def changes_message(edited: Edited) -> pb.FlagChanges:
    """What an edit came to."""
    return pb.FlagChanges(
        revision=edited.revision,
        dry_run=edited.dry_run,
        changes=[_change_message(change) for change in edited.changes],
        problems=edited.problems,
        warnings=edited.warnings,
        effects=edited.effects,
    )


def _change_message(change: FlagChange) -> pb.FlagChange:
    return pb.FlagChange(
        key=change.key,
        before=_json(change.before),
        after=_json(change.after),
        summary_before=_summary(change.before, absent=""),
        summary_after=_summary(change.after, absent="deleted"),
    )


def _json(definition: Definition | None) -> str:
    return "" if definition is None else flag_document.dumps(flag_document.in_order(definition))


def _summary(definition: Definition | None, *, absent: str) -> str:
    if definition is None:
        return absent
    words = flag_rules.describe(definition)
    return words if definition.get("state") == "ENABLED" else f"disabled ({words})"
