"""Who answers a request, and who shadows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Claim(StrEnum):
    """What a version's flag says for one request."""

    OFF = "off"
    SHADOW = "shadow"
    LIVE = "live"

    @classmethod
    def of(cls, value: object) -> Claim:
        """Read a flag's value; whatever is no claim counts as `off`, so that a broken flag never serves."""
        return _CLAIMS.get(value, cls.OFF) if isinstance(value, str) else cls.OFF


Claims = tuple[Claim, ...]
"""What a model's flags say for one request, in the order of its versions."""


_CLAIMS: dict[object, Claim] = {claim.value: claim for claim in Claim}


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """For one request: who serves it, who shadows it, and which flags said so.

    Args:
        live: name of the version that serves.
        fallbacks: older versions that claim `live` too, newest first; they answer when `live` is unreachable.
        shadows: names of the versions that get a copy, newest first.
        revision: the flags' revision.
    """

    live: str
    fallbacks: tuple[str, ...]
    shadows: tuple[str, ...]
    revision: int


def decide(
    claims: Sequence[tuple[str, Claim]], *, last_known_live: str | None, revision: int, shadowing: bool = True
) -> Decision | None:
    """Newest live claim wins, base last.

    Args:
        claims: (version, claim) in order of registration: base first, newest last.
        last_known_live: who serves when nobody claims `live`; the base when None.
        revision: the flags' revision, carried into the decision.
        shadowing: False stops all shadowing (the flag source is lost).

    Returns:
        The decision, or None when the model has no version.

    Losing live claims shadow too, so that a rollout keeps being compared after the flip.
    """
    if not claims:
        return None
    live_claims = [name for name, claim in reversed(claims) if claim is Claim.LIVE]
    names = {name for name, _ in claims}
    if live_claims:
        live = live_claims[0]
    elif last_known_live in names:
        live = str(last_known_live)
    else:
        live = claims[0][0]
    shadows = tuple(name for name, claim in reversed(claims) if claim is not Claim.OFF and name != live)
    return Decision(
        live=live,
        fallbacks=tuple(name for name in live_claims if name != live),
        shadows=shadows if shadowing else (),
        revision=revision,
    )
