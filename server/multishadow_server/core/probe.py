"""Known-answer probes: synthetic requests that every version of a model is asked on a timer."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from multishadow_server.errors import InvalidInput

DEFAULT_EVERY = 30.0
SHORTEST_EVERY = 1.0
LONGEST_EVERY = 86_400.0
MOST_PROBES = 20
# Every version is asked, and its last answer is kept: what is larger belongs into a load test.
LARGEST_REQUEST = 64 * 1024
LARGEST_ANSWER = 256 * 1024
# A model's probes come with every listing of models.
LARGEST_TOTAL = 128 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One synthetic request.

    Args:
        name: unique in its model.
        request: bytes of a PredictRequest that names the model.
        every: seconds between two askings of one version.
        expected: bytes of the known PredictResponse; empty: whatever the version answered first (`stable`).
        threshold: smallest similarity that counts as agreement; None takes the model's.
    """

    name: str
    request: bytes
    every: float = DEFAULT_EVERY
    expected: bytes = b""
    threshold: float | None = None

    @property
    def fingerprint(self) -> str:
        """Of what is asked and expected: with another one, former answers say nothing."""
        parts = (self.request, self.expected, repr(self.threshold).encode())
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()[:16]


def check(probes: tuple[Probe, ...]) -> None:
    """Refuse probes that cannot be registered. Raises InvalidInput: which, and what is allowed."""
    if len(probes) > MOST_PROBES:
        raise InvalidInput(f"probes: {len(probes)} are too many; allowed are {MOST_PROBES} for a model")
    total = sum(len(probe.request) + len(probe.expected) for probe in probes)
    if total > LARGEST_TOTAL:
        raise InvalidInput(
            f"probes: {total:,} bytes of requests and answers are too many; allowed are {LARGEST_TOTAL:,}"
        )
    seen: set[str] = set()
    for index, probe in enumerate(probes):
        if not _NAME.fullmatch(probe.name):
            raise InvalidInput(
                f"probes[{index}].name: {probe.name[:80]!r} is no name for a probe; allowed are 1 to 63 letters, "
                "digits, `-`, `_` and `.`, beginning with a letter or digit"
            )
        if probe.name in seen:
            raise InvalidInput(f"probes[{index}].name: {probe.name!r} is named twice")
        seen.add(probe.name)
        _check_terms(f"probes[{index}] ({probe.name})", probe)


def _check_terms(where: str, probe: Probe) -> None:
    # Written so that NaN fails.
    if not SHORTEST_EVERY <= probe.every <= LONGEST_EVERY:
        raise InvalidInput(f"{where}.every: {probe.every:g} s is out of range; allowed are 1 s to 1 d")
    if probe.threshold is not None and not 0 < probe.threshold <= 1:
        raise InvalidInput(f"{where}.threshold: {probe.threshold:g} is out of range; allowed is (0, 1]")
    if len(probe.request) > LARGEST_REQUEST:
        raise InvalidInput(
            f"{where}.request: {len(probe.request):,} bytes are too many; allowed are {LARGEST_REQUEST:,}"
        )


def in_words(probes: tuple[Probe, ...]) -> str:
    """For the lines that say what an application changed."""
    return ", ".join(_in_words(probe) for probe in probes) or "none"


def _in_words(probe: Probe) -> str:
    threshold = "" if probe.threshold is None else f" at {probe.threshold:g}"
    expects = f"known answer {probe.fingerprint[:6]}" if probe.expected else f"stable {probe.fingerprint[:6]}"
    return f"{probe.name} every {probe.every:g} s ({expects}{threshold})"
