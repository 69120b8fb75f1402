"""The flags of one revision, evaluated by flagd-core and handed on in flagd's format.

Stock in-process clients reject a whole set for one flag that they do not load. So a flag that any of them would choke
on is left out of what is handed on; who asks for it here is told why.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from json_logic import jsonLogic  # type: ignore[import-untyped]  # ships none
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode, OpenFeatureError, TypeMismatchError
from openfeature.flag_evaluation import FlagResolutionDetails

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flag_sets import SET_FIELD, Definitions, Selector, same
from multishadow_server.errors import EvaluationFailed
from multishadow_server.service.ports import Evaluation, FlagType, PublishedFlags

logger = logging.getLogger(__name__)

# Mixed into every evaluation, here and, as the sync context, in in-process clients: a rule means the same in both.
SHARED_CONTEXT: Mapping[str, Any] = {"flagSource": "multishadow"}
_CLOCK = "$flagd.timestamp"


class FlagdFlags(PublishedFlags):
    """The flags of one revision.

    Args:
        configuration: where they are read.
        before: the former revision's. What it knows of definitions that are the same is not found out again.
    """

    def __init__(self, configuration: Configuration, before: FlagdFlags | None = None) -> None:
        self._revision = configuration.revision
        self._left_out: dict[str, str] = {}
        self._definitions: dict[str, Mapping[str, Any]] = {}
        known = before.definitions if before is not None else {}
        for key, definition in configuration.flags.items():
            if key in known and same(known[key], definition):
                # The very object, which is quickly told to be the same.
                self._definitions[key] = known[key]
                continue
            flaw = flaw_of(key, definition)
            if flaw is None:
                self._definitions[key] = definition
            else:
                self._left_out[key] = flaw
                if before is None or before.left_out.get(key) != flaw:
                    logger.warning("flag %s is not handed on: %s", key, flaw)
        self._core = FlagdCore()
        self._core.set_flags({"flags": {key: dict(definition) for key, definition in self._definitions.items()}})
        self._payloads: dict[Selector, str] = {}
        self._clocked = frozenset(key for key, definition in self._definitions.items() if _reads_the_clock(definition))

    @property
    def revision(self) -> int:
        """See PublishedFlags; so are the others."""
        return self._revision

    @property
    def definitions(self) -> Definitions:  # noqa: D102  see revision
        return self._definitions

    @property
    def left_out(self) -> Mapping[str, str]:  # noqa: D102  see revision
        return self._left_out

    def keys(self, selector: Selector) -> Sequence[str]:  # noqa: D102  see revision
        return sorted(selector.chosen(self._definitions))

    def evaluate(  # noqa: D102  see revision
        self, key: str, context: Mapping[str, Any], *, wanted: FlagType | None = None, selector: Selector
    ) -> Evaluation:
        definition = self._definition(key, selector)
        subject = _subject(context)
        details = self._resolved(key, subject, [wanted] if wanted else _types_of(definition))
        lacked = details.variant is None or details.reason == "DEFAULT"
        return Evaluation(
            key=key,
            variant=details.variant,
            value=None if details.variant is None else details.value,
            reason=str(details.reason),
            metadata={**self._metadata(selector), **details.flag_metadata},
            lacked_targeting_key=lacked and _lacks_targeting_key(key, definition, subject),
        )

    def payload(self, selector: Selector) -> str:  # noqa: D102  see revision
        made = self._payloads.get(selector)
        if made is None:
            chosen = selector.chosen(self._definitions)
            document = {"flags": chosen, "metadata": self._metadata(selector)}
            made = json.dumps(document, separators=(",", ":"), allow_nan=False)
            # Kept for the sets that there are: readers may ask for any number of others, and would fill the memory.
            if chosen:
                self._payloads[selector] = made
        return made

    def reads_the_clock(self, selector: Selector) -> bool:  # noqa: D102  see revision
        return any(selector.admits(self._definitions[key]) for key in self._clocked)

    def _metadata(self, selector: Selector) -> Mapping[str, str]:
        return {SET_FIELD: selector.metadata_set, "version": str(self._revision)}

    def _definition(self, key: str, selector: Selector) -> Mapping[str, Any]:
        definition = self._definitions.get(key)
        if definition is not None and selector.admits(definition):
            return definition
        if key in self._left_out and selector.flag_set is None:
            raise EvaluationFailed(
                f'flag "{key}" is malformed: {self._left_out[key]}', code=ErrorCode.PARSE_ERROR, key=key
            )
        where = f' in the set "{selector.flag_set}"' if selector.flag_set else ""
        raise EvaluationFailed(f'there is no flag "{key}"{where}', code=ErrorCode.FLAG_NOT_FOUND, key=key)

    def _resolved(self, key: str, subject: EvaluationContext, types: Sequence[FlagType]) -> FlagResolutionDetails[Any]:
        """The first type that fits. Only a flag with variants of several types has more than one to try."""
        for wanted in types[:-1]:
            try:
                return self._resolve(key, subject, wanted)
            except EvaluationFailed as error:
                if error.code != ErrorCode.TYPE_MISMATCH:
                    raise
        return self._resolve(key, subject, types[-1])

    def _resolve(self, key: str, subject: EvaluationContext, wanted: FlagType) -> FlagResolutionDetails[Any]:
        ways: Mapping[FlagType, Callable[..., FlagResolutionDetails[Any]]] = {
            FlagType.BOOLEAN: self._core.resolve_boolean_value,
            FlagType.STRING: self._core.resolve_string_value,
            FlagType.INTEGER: self._core.resolve_integer_value,
            FlagType.FLOAT: self._core.resolve_float_value,
            FlagType.OBJECT: self._core.resolve_object_value,
        }
        try:
            # What it gives back where no variant applies; told apart by the variant, which is None then.
            return ways[wanted](key, None, subject)
        except TypeMismatchError as error:
            raise EvaluationFailed(
                f'flag "{key}" is not of type {wanted}: {error.error_message}', code=error.error_code, key=key
            ) from error
        except OpenFeatureError as error:
            raise EvaluationFailed(
                f'flag "{key}": {error.error_message or "its rule cannot be read"}', code=error.error_code, key=key
            ) from error
        except Exception as error:
            # Rules are data: whatever they do to the interpreter is their fault, and concerns this flag alone.
            raise EvaluationFailed(
                f'flag "{key}": its rule fails on this context ({type(error).__name__}: {error})',
                code=ErrorCode.GENERAL,
                key=key,
            ) from error


def flaw_of(key: str, definition: Mapping[str, Any]) -> str | None:
    """Why stock clients would not load a flag, or None.

    flagd-core loads it (Python's clients); and its default is one of its variants, without which the clients of
    JavaScript and Go reject the set.
    """
    try:
        FlagdCore().set_flags({"flags": {key: dict(definition)}})
    except OpenFeatureError as error:
        return error.error_message or str(error.__cause__ or "its definition is not in flagd's format")
    except (TypeError, ValueError, AttributeError) as error:
        return str(error)
    default = definition.get("defaultVariant")
    if default and (not isinstance(default, str) or default not in definition["variants"]):
        return f"its defaultVariant {json.dumps(default)} is none of its variants"
    return None


def _reads_the_clock(definition: Mapping[str, Any]) -> bool:
    targeting = definition.get("targeting")
    return bool(targeting) and _CLOCK in json.dumps(targeting)


def _types_of(definition: Mapping[str, Any]) -> Sequence[FlagType]:
    """The types of its variants. With one float among the numbers it is a flag of floats."""
    found = {_type_of(value): None for value in definition["variants"].values()}
    if FlagType.FLOAT in found:
        found.pop(FlagType.INTEGER, None)
    return list(found)


def _type_of(value: object) -> FlagType:
    match value:
        case bool():
            return FlagType.BOOLEAN
        case str():
            return FlagType.STRING
        case int():
            return FlagType.INTEGER
        case float():
            return FlagType.FLOAT
        case _:
            return FlagType.OBJECT


def _subject(context: Mapping[str, Any]) -> EvaluationContext:
    attributes = {name: value for name, value in context.items() if name != "targetingKey"}
    return EvaluationContext(targeting_key=context.get("targetingKey"), attributes={**attributes, **SHARED_CONTEXT})


def _lacks_targeting_key(key: str, definition: Mapping[str, Any], subject: EvaluationContext) -> bool:
    """Whether its rule asks for a draw by the targeting key, and there is none.

    The rule is walked once more, with an operator that listens: a draw that some condition skips is not asked for.
    """
    targeting = definition.get("targeting")
    if subject.targeting_key or not targeting or "fractional" not in json.dumps(targeting):
        return False
    asked: list[bool] = []

    def fractional(_data: object, *arguments: object) -> None:
        # Its short form has no expression to draw by: the first argument is a weighted variant already.
        asked.append(bool(arguments) and isinstance(arguments[0], list | tuple))

    # What flagd-core adds: a rule that compares or counts with it would fail here, or go another way.
    flagd = {"flagKey": key, "timestamp": int(time.time())}
    data = {**subject.attributes, "$flagd": flagd, "targetingKey": None}
    jsonLogic(targeting, data, {**OPERATORS, "fractional": fractional})
    return any(asked)
