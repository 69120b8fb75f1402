"""One loss of something that many wait for is said once, not once by each of them."""

from __future__ import annotations


class Outage:
    """Whether something is known to be away; shared by all who use it."""

    def __init__(self) -> None:
        self._under_way = False

    def begins(self) -> bool:
        """It was found away; True for the first who finds it since it was last there."""
        first = not self._under_way
        self._under_way = True
        return first

    def ends(self) -> bool:
        """It was found there; True for the first who finds it after it was away."""
        last = self._under_way
        self._under_way = False
        return last
