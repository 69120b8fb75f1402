"""What a flag source last said of a model's versions, for when it says nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from multishadow_server.core.routing import Claim, Claims

KEPT_READINGS = 127
"""More would follow a flip too slowly; fewer could let a rollout of some percent pass for the rule by chance."""


class KnownClaims:
    """The claims that most of the last readings of a model came to.

    A single reading belongs to one request, and in a rollout at 5 % every twentieth says that the new version is live.
    Had the last one before the source was lost the say, a router could send everybody there. Most of the last readings
    say what holds for most callers; after a flip for everybody it takes half of KEPT_READINGS to follow.

    Args:
        versions: how many the model has.
        usual: what was known of its first versions before it got more.
    """

    def __init__(self, versions: int, usual: Sequence[Claim] = ()) -> None:
        self._versions = versions
        self._readings: deque[Claims] = deque(maxlen=KEPT_READINGS)
        self._counts: Counter[Claims] = Counter()
        self._usual: Claims = ()
        if Claim.LIVE in usual[:versions]:
            self.note((*usual[:versions], *(Claim.OFF,) * (versions - len(usual))))

    @property
    def usual(self) -> Claims:
        """One claim for each version, in order of registration; empty before the first reading."""
        return self._usual

    def note(self, claims: Claims) -> None:
        """Remember a whole reading. One that nobody is live by says nothing about who serves."""
        if Claim.LIVE not in claims:
            return
        if len(self._readings) == KEPT_READINGS:
            self._counts[self._readings[0]] -= 1
        self._readings.append(claims)
        self._counts[claims] += 1
        if claims != self._usual and self._counts[claims] >= self._counts[self._usual]:
            self._usual = claims
            # Rules that look at single users could make as many combinations as there are readings, and no more.
            self._counts += Counter()

    def completed(self, read: Sequence[Claim | None]) -> Claims:
        """A reading with what it lacks.

        A flag that could not be read (None) says what it usually does, and `off` when that is not known. When nobody
        claims `live`, whoever was live last goes on: a source that lost its flags must not move the callers.
        """
        usual = self._usual or (Claim.OFF,) * self._versions
        claims = tuple(known if claim is None else claim for claim, known in zip(read, usual, strict=True))
        if Claim.LIVE in claims or Claim.LIVE not in usual:
            return claims
        live = max(place for place, claim in enumerate(usual) if claim is Claim.LIVE)
        return (*claims[:live], Claim.LIVE, *claims[live + 1 :])
