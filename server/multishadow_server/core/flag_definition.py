"""Flag definitions in flagd's format, held to what every reader of them accepts.

A definition is a JSON object `{state, variants, defaultVariant?, targeting?, metadata?}`
(https://flagd.dev/reference/flag-definitions/). Stock in-process clients reject a whole set of flags for one that is
malformed, so nothing is stored that has not passed `validate`. The flag of a model's version has stricter rules than
any other flag: see `core.flags`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from multishadow_server.core import targeting_rule
from multishadow_server.core.flags import VARIANTS
from multishadow_server.core.model import Model, Version
from multishadow_server.errors import FailedPrecondition, InvalidInput

KEPT_FIELDS = ("state", "variants", "defaultVariant", "targeting", "metadata")
# What flagd's documents and servers put beside them, and no reader misses.
_DROPPED_FIELDS = frozenset({"$evaluators", "$schema", "key", "source", "selector", "priority", "flagSetId"})
STATES = ("ENABLED", "DISABLED")
FLAG_SET = "flagSetId"
LONGEST_KEY = 200
# The whole set is one message to in-process clients, and stock gRPC clients take no message above 4 MiB.
LARGEST_DEFINITION = 256 * 1024
LARGEST_SET = 3 * 1024 * 1024
# Stock OFREP clients put the key into a path without escaping it; "." and ".." would lead out of it.
_KEY = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")
_FLAG_SET = re.compile(rf"(?! )[\x20-\x2b\x2d-\x7e]{{1,{LONGEST_KEY}}}(?<! )")
_TYPES: tuple[tuple[str, Any], ...] = (("boolean", bool), ("number", (int, float)), ("string", str), ("object", dict))


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A definition that every reader accepts.

    Args:
        definition: as it is to be stored: references inlined, and nothing but KEPT_FIELDS.
        warnings: what is allowed and may not be meant, each with its path.
    """

    definition: dict[str, Any]
    warnings: tuple[str, ...] = ()


def validate(
    key: str, definition: object, *, claim: bool, evaluators: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The definition as it is to be stored; see `examine`, of which this raises what was found."""
    checked, problems = examine(key, definition, claim=claim, evaluators=evaluators)
    if problems:
        raise InvalidInput("\n".join(problems))
    return checked.definition


def examine(
    key: str, definition: object, *, claim: bool, evaluators: Mapping[str, Any] | None = None
) -> tuple[Checked, list[str]]:
    """Hold a definition to what every reader accepts.

    Args:
        key: the flag's key.
        definition: in flagd's format, as parsed from JSON; it may hold shared rules of its own in `$evaluators`.
        claim: whether it is the flag of a model's version.
        evaluators: shared rules of the document that it comes from, by name.

    Returns:
        What is to be stored, and everything that is wrong with it, each with its path (`spam.A: targeting.if[1]: …`).
        Where anything is wrong, what is to be stored is not to be used.
    """
    problems = [] if _is_key(key) else [_bad_key(key)]
    if not isinstance(definition, Mapping):
        return Checked(definition={}), [*problems, f"{key}: a definition is an object with {', '.join(KEPT_FIELDS)}"]
    parts = _Parts(definition, claim=claim, evaluators=evaluators or {})
    found = parts.checked()
    problems += [f"{key}: {problem}" for problem in parts.problems]
    if not problems and (size := size_of(found)) > LARGEST_DEFINITION:
        problems.append(f"{key}: {size:,} bytes as JSON; at most {LARGEST_DEFINITION:,} are allowed")
    return Checked(definition=found, warnings=tuple(f"{key}: {each}" for each in parts.warnings)), problems


def same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two definitions say the same; Python calls `True`, `1` and `1.0` equal, readers of flags do not."""
    return one is other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def size_of(definition: Mapping[str, Any]) -> int:
    """Bytes of a definition as JSON."""
    return len(json.dumps(definition, ensure_ascii=False).encode())


def flag_set(definition: Mapping[str, Any]) -> str:
    """Name of the flag set that it belongs to; empty for the default set."""
    return str((definition.get("metadata") or {}).get(FLAG_SET, ""))


# --- keys ---------------------------------------------------------------------------------------------------------


def _is_key(key: str) -> bool:
    return len(key) <= LONGEST_KEY and bool(_KEY.fullmatch(key))


def _bad_key(key: str) -> str:
    return f'flag key "{key[: LONGEST_KEY + 1]}" may hold up to {LONGEST_KEY} letters, digits, "-", "_" and "." only'


def check_key(key: str) -> None:
    """Raise InvalidInput unless stock clients can ask for a flag of this key."""
    if not _is_key(key):
        raise InvalidInput(_bad_key(key))


def version_of(key: str, models: Mapping[str, Model]) -> Version | None:
    """The version whose flag this is; None for any other flag."""
    model = models.get(key.partition(".")[0])
    return next((version for version in model.versions if version.flag_key == key), None) if model else None


def check_free(key: str, models: Mapping[str, Model]) -> None:
    """Refuse a key that would be read as the flag of a version that a model does not have.

    Raises:
        FailedPrecondition: it begins with a model's name and a dot.
    """
    name, dot, rest = key.partition(".")
    if dot and name in models and version_of(key, models) is None:
        versions = ", ".join(version.name for version in models[name].versions) or "none"
        raise FailedPrecondition(
            f'{key}: keys that begin with "{name}." belong to the versions of the model {name}, and it has no version '
            f"{rest!r} (it has {versions}). Register that version with `shadowctl apply`, or choose another key"
        )


def check_takeover(added: Iterable[Version], flags: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to register a version whose flag's key is another flag's.

    A flag of a version's shape was one, of this store or of the one that it was imported from; the new version has it.

    Raises:
        FailedPrecondition: the present flag has another shape; applications read it as what it is.
    """
    for version in added:
        present = flags.get(version.flag_key)
        if present is not None and present.get("variants") != VARIANTS:
            raise FailedPrecondition(
                f"version {version.name} of {version.model} cannot be registered: its flag would be "
                f"{version.flag_key}, and there is another flag of that key, which says "
                f"{targeting_rule.named(present.get('variants', {}))} to whoever reads it. Choose another name for the "
                f"version, or remove the flag with `shadowctl flags delete {version.flag_key}`"
            )


def check_deletable(key: str, models: Mapping[str, Model]) -> None:
    """Raise FailedPrecondition for the flag of a version, without which nobody could say what the version does."""
    version = version_of(key, models)
    if version is not None:
        raise FailedPrecondition(
            f"{key} is the flag of version {version.name} of {version.model} and cannot be deleted; to take the "
            f"version out of use: `shadowctl flags set {key} off`"
        )


def check_set(flags: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InvalidInput when all flags together are more than one message to an in-process client may hold."""
    total = sum(len(key) + size_of(definition) for key, definition in flags.items())
    if total > LARGEST_SET:
        raise InvalidInput(
            f"all flags together would be {total:,} bytes as JSON; at most {LARGEST_SET:,} reach in-process clients in "
            "one message. Delete flags that nobody reads any more, or keep long lists out of them"
        )


# --- parts --------------------------------------------------------------------------------------------------------


class _Parts:
    """Checks one definition part by part, so that all of its problems are told at once."""

    def __init__(self, definition: Mapping[str, Any], *, claim: bool, evaluators: Mapping[str, Any]) -> None:
        self._definition = definition
        self._claim = claim
        self._evaluators = evaluators
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def checked(self) -> dict[str, Any]:
        self._fields()
        kept: dict[str, Any] = {"state": self._state(), "variants": self._variants()}
        default = self._default(kept["variants"])
        if default is not None:
            kept["defaultVariant"] = default
        if self._definition.get("targeting"):
            kept["targeting"] = self._targeting(kept["variants"])
        if self._definition.get("metadata"):
            kept["metadata"] = self._metadata()
        return kept

    def _wrong(self, path: str, what: str) -> None:
        self.problems.append(f"{path}: {what}")

    def _fields(self) -> None:
        for name in self._definition:
            if name in KEPT_FIELDS or name in _DROPPED_FIELDS:
                continue
            near = difflib.get_close_matches(str(name), KEPT_FIELDS, n=1)
            if near:
                self._wrong(str(name), f"is no field of a flag; did you mean {near[0]}?")
            else:
                self.warnings.append(f"{name}: is no field of a flag, and is left out")

    def _state(self) -> object:
        state = self._definition.get("state")
        got = f"got {targeting_rule.shown(state)}" if "state" in self._definition else "it is missing"
        if self._claim and state != "ENABLED":
            self._wrong("state", f'must be "ENABLED"; to switch a version off, claim "off" ({got})')
        elif state not in STATES:
            self._wrong("state", f'must be "ENABLED" or "DISABLED" ({got})')
        return state

    def _variants(self) -> dict[str, Any]:
        variants = self._definition.get("variants")
        if self._claim:
            if variants != VARIANTS:
                self._wrong("variants", f"must be exactly {VARIANTS}: this is the flag of a version")
            return dict(VARIANTS)
        if not isinstance(variants, Mapping) or not variants:
            self._wrong("variants", 'must be an object of one or more values by name, like {"on": true, "off": false}')
            return {}
        self._same_type(variants)
        for name, value in variants.items():
            if not name:
                self._wrong("variants", "a variant needs a name")
            self._value(name, f"variants.{name}")
            self._value(value, f"variants.{name}")
        return dict(variants)

    def _same_type(self, variants: Mapping[str, Any]) -> None:
        types = {name: _type_of(value) for name, value in variants.items()}
        first = next(iter(types.values()))
        for name, kind in types.items():
            if kind is None:
                self._wrong(f"variants.{name}", "must be a boolean, a number, text or an object")
            elif first is not None and kind != first:
                self._wrong(f"variants.{name}", f"is a {kind}, and the others are a {first}; all must have one type")

    def _value(self, value: object, path: str, depth: int = 0) -> None:
        """JSON of any shape, inside an object variant."""
        if depth > targeting_rule.DEEPEST:
            self._wrong(path, f"may be {targeting_rule.DEEPEST} levels deep")
        elif isinstance(value, Mapping):
            for name, item in value.items():
                self._value(name, path, depth + 1)
                self._value(item, f"{path}.{name}", depth + 1)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                self._value(item, f"{path}[{i}]", depth + 1)
        else:
            try:
                targeting_rule.check_value(value, path)
            except InvalidInput as error:
                self.problems.append(str(error))

    def _default(self, variants: Mapping[str, Any]) -> str | None:
        default = self._definition.get("defaultVariant")
        if default is None and not self._claim:
            # flagd's "use the default in the code": readers that know of it take a missing one, too.
            return None
        if not isinstance(default, str) or default not in variants:
            got = f", got {targeting_rule.shown(default)}" if default is not None else "; it is missing"
            self._wrong("defaultVariant", f"must be one of {targeting_rule.named(variants)}{got}")
        return str(default)

    def _targeting(self, variants: Mapping[str, Any]) -> dict[str, Any]:
        own = self._definition.get("$evaluators")
        evaluators = {**self._evaluators, **(own if isinstance(own, Mapping) else {})}
        if not variants:
            return {}
        try:
            checked = targeting_rule.check(
                self._definition["targeting"],
                variants=[str(name) for name in variants],
                evaluators=evaluators,
                fixed_weights=self._claim,
            )
        except InvalidInput as error:
            self.problems.append(str(error))
            return {}
        self.warnings += checked.warnings
        return checked.rule

    def _metadata(self) -> dict[str, Any]:
        metadata = self._definition["metadata"]
        if not isinstance(metadata, Mapping):
            self._wrong("metadata", "must be an object")
            return {}
        for name, value in metadata.items():
            if not isinstance(name, str) or not name:
                self._wrong("metadata", "keys must be text that is not empty")
            elif not isinstance(value, str | int | float):
                self._wrong(f"metadata.{name}", "must be text, a finite number, true or false")
            self._value(name, f"metadata.{name}")
            self._value(value, f"metadata.{name}")
        if FLAG_SET in metadata:
            self._flag_set(metadata[FLAG_SET])
        return dict(metadata)

    def _flag_set(self, name: object) -> None:
        if self._claim:
            self._wrong(f"metadata.{FLAG_SET}", "the flags of versions are in the default set; leave it out")
        elif not isinstance(name, str) or not _FLAG_SET.fullmatch(name):
            self._wrong(
                f"metadata.{FLAG_SET}",
                f"must be 1 to {LONGEST_KEY} printable ASCII characters without a comma or blanks around them, as "
                "clients name it in a header; left out, it is the default set",
            )


def _type_of(value: object) -> str | None:
    return next((name for name, kind in _TYPES if isinstance(value, kind)), None)
