"""The flags of one revision, ready to be evaluated and to be handed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from multishadow_server.core.flag_sets import Definitions, Selector


class FlagType(StrEnum):
    """What a reader wants a flag to be."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a flag says for one context.

    Args:
        key: the flag's.
        variant: the variant's name; None tells the reader to take its own default.
        value: JSON of any shape; None without a variant.
        reason: OpenFeature's word for it, e.g. `STATIC`, `TARGETING_MATCH`, `DEFAULT`, `DISABLED`.
        metadata: the flag's, over that of its set and revision.
        lacked_targeting_key: its rule wanted to draw by the targeting key, found none, and came to nothing.
    """

    key: str
    variant: str | None
    value: Any
    reason: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    lacked_targeting_key: bool = False


class PublishedFlags(Protocol):
    """The flags of one revision. It never changes; a new revision makes another."""

    @property
    def revision(self) -> int:
        """Of the configuration that they are from."""
        ...

    @property
    def definitions(self) -> Definitions:
        """What is handed on: every flag that all readers load."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why each other flag is not handed on, by its key."""
        ...

    def keys(self, selector: Selector) -> Sequence[str]:
        """Of the flags that it selects, in order."""
        ...

    def evaluate(
        self, key: str, context: Mapping[str, Any], *, wanted: FlagType | None = None, selector: Selector
    ) -> Evaluation:
        """Evaluate one flag; it never blocks.

        Args:
            key: the flag's.
            context: attributes, and `targetingKey`.
            wanted: the type that the reader asks for; None: whichever the flag is of. Whole numbers of a flag that has
                others, too, are floats then.
            selector: flags that it does not select are not found.

        Raises:
            EvaluationFailed: the flag gives no value; the error's code says why.
        """
        ...

    def payload(self, selector: Selector) -> str:
        """The selected definitions as one document in flagd's format, JSON. It is made once for each selector."""
        ...

    def reads_the_clock(self, selector: Selector) -> bool:
        """Whether some selected flag may change its answer with time alone."""
        ...
