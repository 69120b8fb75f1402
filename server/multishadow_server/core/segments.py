"""What kind of request a comparison was of: features of the request, each binned to few levels.

A level is written `feature=value`. Numbers are binned to 1, 2, 5, 10, 20, 50 …, written `[20, 50)`, so that bins add
and keep their order. Nothing here depends on the answer of a candidate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from multishadow_server.core.capture import Capture
from multishadow_server.core.observation import Observation
from multishadow_server.core.prediction import Json

INPUT_SIZE = "request bytes"
HOUR = "hour (UTC)"
CONFIDENCE = "live confidence"
ATTRIBUTES = "attributes."
OTHER = "(other)"

MOST_FEATURES = 24
MOST_LEVELS = 30
LONGEST_NAME = 60
DEEPEST = 3
CONFIDENCE_BINS = 10

_STEPS = (1, 2, 5, 10)
_SMALLEST_POWER, _LARGEST_POWER = -3, 9
_BIN = re.compile(r"[\[(](-?[\d.e+-]+|-inf), ")


def levels_of(capture: Capture, observations: Sequence[Observation], *, attributes: Collection[str] = ()) -> list[str]:
    """The levels that one capture belongs to, at most one of each feature.

    Args:
        capture: the request.
        observations: what its shadows made of it.
        attributes: names of those that count; empty for all.

    Attributes count by their names, nested ones by their path; lists and what is null do not count.
    """
    hour = int(capture.received_at // 3600) % 24
    levels = [f"{INPUT_SIZE}={binned(len(capture.request))}", f"{HOUR}={hour:02d}"]
    confidence = next((each.live_confidence for each in observations if each.live_confidence is not None), None)
    if confidence is not None and 0 <= confidence <= 1:
        levels.append(f"{CONFIDENCE}={_share(confidence)}")
    levels += (
        f"{ATTRIBUTES}{name}={value}"
        for name, value in _scalars(capture.attributes, depth=1)
        if not attributes or name in attributes
    )
    return levels


def attribute_levels(attributes: Mapping[str, Json]) -> list[str]:
    """The levels that a request belongs to by its attributes, as `levels_of` writes them."""
    return [f"{ATTRIBUTES}{name}={value}" for name, value in _scalars(attributes, depth=1)]


def feature_of(level: str) -> str:
    """The feature that a level is of."""
    return level.partition("=")[0]


def value_of(level: str) -> str:
    """What the feature is in that level."""
    return level.partition("=")[2]


def place_of(level: str) -> float | None:
    """Lower end of a level of numbers, to order it by; None for every other kind."""
    found = _BIN.match(value_of(level))
    return float(found.group(1)) if found else None


def binned(number: float) -> str:
    """The bin of a number: `[20, 50)`, `(-50, -20]`, `[0, 0.001)`."""
    if not math.isfinite(number):
        return str(number)
    lower, upper = _bounds(abs(number))
    if number < 0:
        return f"(-{upper}, -{lower}]"
    return f"[{lower}, {upper})"


def _bounds(size: float) -> tuple[str, str]:
    if size < 10.0**_SMALLEST_POWER:
        return "0", f"{10.0**_SMALLEST_POWER:g}"
    if size >= 10.0**_LARGEST_POWER:
        return f"{10.0**_LARGEST_POWER:g}", "inf"
    power = math.floor(math.log10(size))
    # Logarithms round; the scaled number decides, and where rounding left [1, 10), its end does.
    scaled = min(max(size / 10.0**power, 1.0), math.nextafter(10, 0))
    place = next(place for place in (2, 1, 0) if scaled >= _STEPS[place])
    return tuple(f"{_STEPS[step] * 10.0**power:g}" for step in (place, place + 1))  # type: ignore[return-value]  # two


def _share(confidence: float) -> str:
    place = min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
    closing = "]" if place == CONFIDENCE_BINS - 1 else ")"
    return f"[{place / CONFIDENCE_BINS:g}, {(place + 1) / CONFIDENCE_BINS:g}{closing}"


def _scalars(attributes: Mapping[str, Json], *, depth: int) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        named = _clean(name).replace("=", "_")
        if isinstance(value, bool):
            yield named, str(value).lower()
        elif isinstance(value, int | float):
            yield named, binned(value)
        elif isinstance(value, str):
            yield named, _clean(value)
        elif isinstance(value, Mapping) and depth < DEEPEST:
            yield from ((f"{named}.{inner}", text) for inner, text in _scalars(value, depth=depth + 1))


def _clean(text: str) -> str:
    """As it is counted by: short, and without the NUL that PostgreSQL has no place for."""
    return text.replace("\x00", "\ufffd")[:LONGEST_NAME]


class KnownLevels:
    """Bounds how many levels there are, whatever callers send: later ones of a feature count as `(other)`.

    One per process, that begins with what all have counted; so an epoch has at most 24 features of 30 levels each, and
    those that several processes came upon at once.
    """

    def __init__(self) -> None:
        self._epochs: dict[int, dict[str, set[str]]] = {}

    def knows(self, epoch_id: int) -> bool:
        """Whether `learn` was called for the epoch."""
        return epoch_id in self._epochs

    def learn(self, epoch_id: int, levels: Iterable[str]) -> None:
        """Begin with the levels that are counted already."""
        features = self._epochs.setdefault(epoch_id, {})
        for level in levels:
            features.setdefault(feature_of(level), set()).add(level)

    def bounded(self, epoch_id: int, levels: Iterable[str]) -> list[str]:
        """The levels to count for those of one capture; features beyond the bound are left out."""
        features = self._epochs.setdefault(epoch_id, {})
        return [known for level in levels if (known := self._bounded(features, level))]

    def _bounded(self, features: dict[str, set[str]], level: str) -> str:
        feature = feature_of(level)
        known = features.get(feature)
        if known is None:
            if len(features) >= MOST_FEATURES:
                return ""
            known = features[feature] = set()
        if level in known:
            return level
        if len(known) >= MOST_LEVELS:
            return f"{feature}={OTHER}"
        known.add(level)
        return level
