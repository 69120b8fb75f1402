"""The tokens in memory: read every so often, and what was shown is noted."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping

from multishadow_server.core.access import Token
from multishadow_server.errors import MultishadowError, Unavailable
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import TokenStore

# A token that is not known may be a new one; looking is the same work for every guess, so it is done this seldom.
LOOK_AGAIN_SECONDS = 0.5
LOOK_PATIENCE_SECONDS = 2.0
# When a token was used is written down no more often.
USE_SECONDS = 60.0

_log = logging.getLogger(__name__)


class TokenWatch:
    """Knows the tokens as they were within the last seconds; while the store is away, as it knew them last.

    Args:
        store: where tokens are.
        check_interval: seconds between readings: how long a revoked token opens anything at most, while the store is
            there.
        stale_after: seconds after which tokens that could not be read again open nothing.
        clock: the time, in seconds since the Unix epoch.
        monotonic: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        check_interval: float,
        stale_after: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._check_interval = check_interval
        self._stale_after = stale_after
        self._clock = clock
        self._monotonic = monotonic
        self._tokens: Mapping[str, Token] = {}
        self._read_at = self._looked_at = -math.inf
        self._reading = asyncio.Lock()
        self._tick = asyncio.Event()
        self._used: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._lost = False

    @property
    def age(self) -> float:
        """Seconds since the tokens were read; infinite before the first time."""
        return self._monotonic() - self._read_at

    @property
    def is_stale(self) -> bool:
        """Whether they were read too long ago, or never."""
        return self.age > self._stale_after

    def find(self, token_id: str) -> Token | None:
        """The token of that id. Raises Unavailable: they could not be read for too long, or were not read yet."""
        if math.isinf(self.age):
            raise Unavailable("tokens cannot be checked: they could not be read from the database yet; try again")
        if self.is_stale:
            raise Unavailable("tokens cannot be checked: the database has been away for too long; try again later")
        return self._tokens.get(token_id)

    def note_use(self, token_id: str) -> None:
        """It was shown now."""
        self._used[token_id] = self._clock()

    async def look_again(self) -> bool:
        """Read the tokens anew, unless that was done a moment ago; whether they were read."""
        asked_at = self._monotonic()
        async with self._reading:
            if self._read_at >= asked_at:
                return True
            if asked_at - self._looked_at < LOOK_AGAIN_SECONDS:
                return False
            self._looked_at = asked_at
            return await self._read()

    async def note_change(self) -> None:
        """Somebody changed tokens here: whoever did it expects it to have happened."""
        async with self._reading:
            await self._read()

    async def next_tick(self) -> None:
        """Wait for the next round, whether or not it read anything."""
        await self._tick.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Make rounds until `stop` is set."""
        while not stop.is_set():
            async with self._reading:
                await self._read()
            await self._write_uses()
            self._tick.set()
            self._tick = asyncio.Event()
            await set_within(stop, self._check_interval)

    async def _read(self) -> bool:
        began = self._monotonic()
        try:
            async with asyncio.timeout(LOOK_PATIENCE_SECONDS):
                tokens = await self._store.current()
        except TimeoutError:
            self._note_loss(f"no answer in {LOOK_PATIENCE_SECONDS:g} s")
            return False
        except MultishadowError as error:
            self._note_loss(error)
            return False
        except Exception:  # noqa: BLE001  whatever it is, the tokens that are known go on being known
            _log.exception("tokens cannot be read")
            return False
        self._tokens = {token.id: token for token in tokens}
        self._read_at = began
        self._lost = False
        return True

    def _note_loss(self, reason: object) -> None:
        if not self._lost:
            _log.warning("tokens cannot be read; those that are known stay for %g s: %s", self._stale_after, reason)
        self._lost = True

    async def _write_uses(self) -> None:
        due = {token: at for token, at in self._used.items() if at - self._noted.get(token, -math.inf) >= USE_SECONDS}
        if not due or self._lost:
            return
        try:
            await self._store.note_use(due)
        except MultishadowError as error:
            _log.warning("when tokens were used cannot be noted: %s", error)
            return
        self._noted.update(due)
        for token, at in due.items():
            if self._used.get(token) == at:
                del self._used[token]
        # Of tokens that are gone nothing is kept.
        self._noted = {token: at for token, at in self._noted.items() if token in self._tokens}
