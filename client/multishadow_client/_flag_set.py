"""One published set of flags, ready to be evaluated, and the file that keeps the last one."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

logger = logging.getLogger(__name__)


class MalformedFlags(ValueError):
    """What was published is no set of flags; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagSet:
    """A set of flags as it was published.

    Args:
        text: flagd's JSON (https://flagd.dev/reference/flag-definitions/).
        context: what the server adds to every evaluation's context.
        definitions: flagd definition by flag key.
        revision: the publisher's, from the set's metadata; empty when it says none.
        core: evaluates them. It is never changed: another set is another core.
    """

    text: str
    context: EvaluationContext
    definitions: Mapping[str, Any]
    revision: str
    core: FlagdCore

    @classmethod
    def parse(cls, text: str, context: Mapping[str, Any]) -> FlagSet:
        """Read a set whole. Raises MalformedFlags: then nothing of it may be used."""
        core = FlagdCore()
        try:
            document = json.loads(text)
            core.set_flags(text)
            definitions = {key: json.dumps(flag, sort_keys=True) for key, flag in document.get("flags", {}).items()}
            shared = document.get("$evaluators")
            if shared:
                # A rule that flags refer to changes every flag that refers to one.
                rules = json.dumps(shared, sort_keys=True)
                definitions = {key: f"{flag}{rules}" if "$ref" in flag else flag for key, flag in definitions.items()}
            metadata = core.get_flag_set_metadata()
        except Exception as error:  # a hostile document can fail in any way on its way through two parsers
            raise MalformedFlags(f"{type(error).__name__}: {_message(error)}") from error
        return cls(
            text=text,
            context=EvaluationContext(attributes=dict(context)),
            definitions=definitions,
            revision=str(metadata.get("version", "")),
            core=core,
        )

    def changed_since(self, before: FlagSet) -> list[str]:
        """Keys of flags that are new, gone, or defined differently, in alphabetical order."""
        keys = before.definitions.keys() | self.definitions.keys()
        return sorted(key for key in keys if before.definitions.get(key) != self.definitions.get(key))


def _message(error: Exception) -> str:
    # The SDK's errors do not hand their message to Exception.
    return str(getattr(error, "error_message", None) or str(error) or error.__cause__ or "no more is known")


class FlagFile:
    """Keeps the last set of flags across restarts of the application.

    Several processes may share it: it is replaced whole, never written into. Trouble with it is logged, and costs
    nothing but the memory of a restart.

    Args:
        path: of the file; its folder must exist.
        selector: the set it is of; a file of another is not read.
    """

    def __init__(self, path: Path, selector: str) -> None:
        self._path = path
        self._selector = selector
        self._told = False

    def read(self) -> FlagSet | None:
        """The set that was kept; None when there is none that can be used."""
        try:
            kept = json.loads(self._path.read_text())
            if kept["selector"] != self._selector:
                logger.warning("%s holds the flags of selector %r; it is not used", self._path, kept["selector"])
                return None
            return FlagSet.parse(kept["flags"], kept["context"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s cannot be used, flags begin without it: %s", self._path, error)
            return None

    def write(self, flags: FlagSet) -> None:
        """Keep this set."""
        kept = {"selector": self._selector, "flags": flags.text, "context": dict(flags.context.attributes)}
        try:
            # Readable for this user only, as temporary files are: rules may name people.
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump(kept, file)
                Path(name).replace(self._path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except (OSError, TypeError, ValueError) as error:
            if not self._told:
                logger.warning("flags cannot be kept in %s: %s", self._path, error)
            self._told = True
