"""Leaving a version in peace that fails, and finding out with few calls when it works again.

closed ── fails in a row, or too large a share of the last calls ──▶ open ── a pause is over ──▶ one call (half-open)
  ▲                                                                    ▲                              │
  └────────────── that call worked ────────────────────────────────────┼──────────────────────────────┤
                                                                       └── it failed: a longer pause ─┘

Only that one call decides while it is open: calls that were under way when it opened say how the version was before.
`circuit.Circuit` does the same for a source that is asked anew by everybody; here each call has its end reported.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from multishadow_server.core.version_limits import CircuitTerms

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
# Calls that a share is of.
WINDOW = 100

# gRPC statuses by which a version says that it cannot, whoever asks; the others are answers to this request, like a
# refusal of its arguments. https://grpc.io/docs/guides/status-codes/
UNABLE = frozenset({2, 4, 8, 12, 13, 14, 15})


class Way(Enum):
    """How a call goes: with the others, or alone to see whether the version works again."""

    USUAL = "usual"
    PROBE = "probe"


class ShadowCircuit:
    """The circuit of one version. Points in time are seconds on any monotonic clock.

    Args:
        terms: when it opens.
    """

    def __init__(self, terms: CircuitTerms) -> None:
        self._terms = terms
        self._in_a_row = 0
        self._last: deque[bool] = deque(maxlen=WINDOW)
        self._open = False
        self._probing = False
        self._pause = FIRST_PAUSE
        self._try_at = 0.0
        self.opened = 0

    @property
    def is_open(self) -> bool:
        """Whether the version is left in peace."""
        return self._open

    def way(self, now: float) -> Way | None:
        """How to call now; None: not at all. Every way has to be reported with `ended`, or given back."""
        if not self._open:
            return Way.USUAL
        if self._probing or now < self._try_at:
            return None
        self._probing = True
        return Way.PROBE

    def give_back(self, way: Way) -> None:
        """The call was not made, or nobody knows how it ended."""
        if way is Way.PROBE:
            self._probing = False

    def ended(self, way: Way, *, worked: bool, now: float) -> None:
        """A call ended."""
        if way is Way.PROBE:
            self._probing = False
            if worked:
                self._close()
            else:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                self._try_at = now + self._pause
        elif not self._open:
            self._note(worked=worked, now=now)

    def _note(self, *, worked: bool, now: float) -> None:
        self._in_a_row = 0 if worked else self._in_a_row + 1
        self._last.append(not worked)
        too_many = len(self._last) == WINDOW and sum(self._last) >= self._terms.share * WINDOW
        if self._in_a_row >= self._terms.failures or too_many:
            self._open, self._pause, self._try_at = True, FIRST_PAUSE, now + FIRST_PAUSE
            self.opened += 1

    def _close(self) -> None:
        self._open = False
        self._in_a_row = 0
        self._last.clear()
