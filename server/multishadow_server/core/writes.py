"""Requests that write: they are answered by the live version, and never copied to anybody.

A copy of a request that changes something would change it twice. Which requests do so is said by the model, for all of
its methods or some of them, or by the caller, request by request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from multishadow_server.core.capture import Metadata
from multishadow_server.core.prediction import Json
from multishadow_server.errors import InvalidInput

MARK = "x-multishadow-write"
"""The key of the caller's mark, as metadata or as an attribute of the request."""
MOST_METHODS = 100
LONGEST_METHOD = 256
_METHOD = re.compile(r"[A-Za-z_]\w*|/[A-Za-z_][\w.]*/[A-Za-z_]\w*", flags=re.ASCII)
# Whoever writes the mark means it: only what plainly says no is no mark.
_NO = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Writes:
    """Which requests of a model write.

    Args:
        all: every one.
        methods: those of these methods, by their own name (`Predict`) or the full one (`/package.Service/Predict`).
    """

    all: bool = False
    methods: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.all or bool(self.methods)

    def covers(self, method: str) -> bool:
        """Whether requests of this method write; `method` is its full name."""
        if self.all or not self.methods:
            return self.all
        return method in self.methods or method.rpartition("/")[2] in self.methods


NO_WRITES = Writes()


def is_marked(metadata: Metadata, attributes: Mapping[str, Json]) -> bool:
    """Whether the caller said that this request writes."""
    for key, value in metadata:
        if key == MARK and _means_it(value):
            return True
    return MARK in attributes and _means_it(attributes[MARK])


def _means_it(value: Json | bytes) -> bool:
    words = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return value is not None and words.strip().lower() not in _NO


def check(writes: Writes) -> None:
    """Raise InvalidInput unless its methods can be methods."""
    if len(writes.methods) > MOST_METHODS:
        raise InvalidInput(f"writing_methods: {len(writes.methods)} are too many; allowed are {MOST_METHODS}")
    for method in writes.methods:
        if len(method) > LONGEST_METHOD or not _METHOD.fullmatch(method):
            raise InvalidInput(
                f"writing_methods: {method[:80]!r} is no method; name it alone (`Predict`) or in full "
                "(`/multishadow.v1.PredictionService/Predict`)"
            )


def in_words(writes: Writes) -> str:
    """For people who look at what changed."""
    return "all requests" if writes.all else ", ".join(sorted(writes.methods)) or "none"
