"""Documents of flagd: many flags in one JSON object, with the rules that they share.

`{"flags": {key: definition}, "$evaluators": {name: rule}, "metadata": {…}}`; flagd's daemon also takes the flags as a
list of definitions that hold their `key` (https://flagd.dev/schema/v0/flags.json).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from multishadow_server.core.flag_definition import FLAG_SET, KEPT_FIELDS, flag_set
from multishadow_server.errors import InvalidInput

SCHEMA = "https://flagd.dev/schema/v0/flags.json"
_PARTS = frozenset({"flags", "$evaluators", "metadata", "$schema"})
# The set's revision takes its place.
_VERSION = "version"


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagDocument:
    """A document's parts, not yet held to anything but their shape.

    Args:
        flags: definition by key, with the document's metadata in it.
        evaluators: shared rules by name.
        flag_set: the set that the document names; empty: the default set.
        warnings: what of it is left out.
    """

    flags: Mapping[str, object]
    evaluators: Mapping[str, Any] = field(default_factory=dict)
    flag_set: str = ""
    warnings: tuple[str, ...] = ()


def parse(text: str, what: str) -> Any:  # noqa: ANN401 — JSON of any shape
    """JSON that has one meaning: no key twice in an object, no NaN.

    Args:
        text: JSON.
        what: its name in errors.

    Raises:
        InvalidInput: with line and column where it is no JSON.
    """

    def constant(name: str) -> NoReturn:
        raise InvalidInput(f"{what}: {name} is no JSON; numbers must be finite")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
            raise InvalidInput(f'{what}: "{twice}" stands twice in one object')
        return members

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{what}: no JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise InvalidInput(f"{what}: nested too deeply") from error
    except ValueError as error:
        # Python reads no whole numbers of thousands of digits.
        raise InvalidInput(f"{what}: a number has too many digits") from error


def read(document: object) -> FlagDocument:
    """A document's parts.

    Raises:
        InvalidInput: it is none; the message names the part.
    """
    if not isinstance(document, Mapping) or "flags" not in document:
        raise InvalidInput('document: must be an object with "flags", as flagd reads it')
    evaluators, metadata = document.get("$evaluators", {}), document.get("metadata", {})
    for name, part in (("$evaluators", evaluators), ("metadata", metadata)):
        if not isinstance(part, Mapping):
            raise InvalidInput(f"{name}: must be an object")
    inherited = {name: value for name, value in metadata.items() if name != _VERSION}
    if inherited.get(FLAG_SET) == "":
        del inherited[FLAG_SET]
    flags = _by_key(document["flags"])
    return FlagDocument(
        flags={key: _with_metadata(definition, inherited) for key, definition in flags.items()},
        evaluators=evaluators,
        flag_set=str(inherited.get(FLAG_SET, "")),
        warnings=tuple(f"{name}: is left out" for name in document if name not in _PARTS),
    )


def _by_key(flags: object) -> Mapping[str, object]:
    if isinstance(flags, Mapping):
        return flags
    if not isinstance(flags, list):
        raise InvalidInput("flags: must be an object of definitions by key, or a list of definitions with their key")
    by_key: dict[str, object] = {}
    for i, definition in enumerate(flags):
        key = definition.get("key") if isinstance(definition, Mapping) else None
        if not isinstance(key, str):
            raise InvalidInput(f"flags[{i}].key: is missing")
        if key in by_key:
            raise InvalidInput(f'flags[{i}].key: "{key}" is there twice')
        by_key[key] = definition
    return by_key


def _with_metadata(definition: object, inherited: Mapping[str, Any]) -> object:
    """A set's metadata is each flag's, where the flag has none of that name itself: so flagd reads it."""
    if not inherited or not isinstance(definition, Mapping):
        return definition
    own = definition.get("metadata") or {}
    return {**definition, "metadata": {**inherited, **own}} if isinstance(own, Mapping) else definition


def write(flags: Mapping[str, Mapping[str, Any]], *, named_set: str | None, revision: int) -> dict[str, Any]:
    """The document of these flags, by key.

    Args:
        flags: definition by key, as stored.
        named_set: the set that they all belong to; None when they may be of any.
        revision: of which they are.
    """
    metadata = {FLAG_SET: named_set} if named_set else {}
    return {
        "$schema": SCHEMA,
        "metadata": {**metadata, _VERSION: str(revision)},
        "flags": {key: in_order(flags[key]) for key in sorted(flags)},
    }


def in_order(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The definition with its fields in the order in which people read them; the store keeps none."""
    return {name: definition[name] for name in KEPT_FIELDS if name in definition}


def of_set(flags: Mapping[str, Mapping[str, Any]], wanted: str) -> dict[str, Mapping[str, Any]]:
    """Those of one set; "" is the default set."""
    return {key: definition for key, definition in flags.items() if flag_set(definition) == wanted}


def dumps(value: Mapping[str, Any]) -> str:
    """JSON as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def only(flags: Mapping[str, Mapping[str, Any]], keys: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Those of these keys that there are."""
    return {key: flags[key] for key in keys if key in flags}
