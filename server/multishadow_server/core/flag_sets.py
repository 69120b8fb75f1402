"""Flag sets: which flags a reader asks for, by flagd's selectors.

A flag is in the set that its metadata names (`flagSetId`), else in the default one. Keys are unique over all sets, so a
reader without a selector gets every flag. https://flagd.dev/reference/selector-syntax/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from multishadow_server.errors import InvalidInput

DEFAULT_SET = "multishadow"
SET_FIELD = "flagSetId"
Definitions: TypeAlias = Mapping[str, Mapping[str, Any]]
"""flagd definition by flag key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selector:
    """Which flags a reader asks for.

    Args:
        flag_set: name of one set; None asks for every flag.
    """

    flag_set: str | None = None

    @property
    def metadata_set(self) -> str:
        """The set's name as metadata of what is selected."""
        return self.flag_set or DEFAULT_SET

    def admits(self, definition: Mapping[str, Any]) -> bool:
        """Whether it asks for this flag."""
        return self.flag_set is None or self.flag_set == set_of(definition)

    def chosen(self, definitions: Definitions) -> Definitions:
        """Those that it asks for."""
        if self.flag_set is None:
            return definitions
        return {key: definition for key, definition in definitions.items() if self.admits(definition)}


EVERY_FLAG = Selector()


def selector_of(text: str) -> Selector:
    """Read a selector: nothing, or `flagSetId=NAME`. An empty NAME is the default set.

    Raises:
        InvalidInput: it is another one. flagd's `source=`, and a name alone, which is short for it, choose among
            sources; here is one source only.
    """
    if not text.strip():
        return EVERY_FLAG
    field, equals, name = text.partition("=")
    if field.strip() != SET_FIELD or not equals:
        raise InvalidInput(
            f'selector "{text}" is not understood: flags are selected by their set, like "{SET_FIELD}=payments"; '
            f'without a selector every flag is served, and "{SET_FIELD}=" selects those of no named set'
        )
    return Selector(flag_set=name.strip() or DEFAULT_SET)


def set_of(definition: Mapping[str, Any]) -> str:
    """Name of the set that a flag is in."""
    metadata = definition.get("metadata")
    name = metadata.get(SET_FIELD) if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) and name else DEFAULT_SET


def changes(before: Definitions, after: Definitions) -> dict[str, str]:
    """What happened to each flag that is not the same in both, by key: `create`, `update` or `delete`."""
    happened = {key: "delete" for key in before if key not in after}
    for key, definition in after.items():
        if key not in before:
            happened[key] = "create"
        elif not same(before[key], definition):
            happened[key] = "update"
    return happened


def same(first: Any, second: Any) -> bool:  # noqa: ANN401 — JSON of any shape
    """Whether two definitions are the same for every reader: 1, 1.0 and true are three things to them."""
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[name]) for name, value in first.items())
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)
