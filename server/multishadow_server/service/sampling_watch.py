"""A router looks how its captures fare, and samples less while workers do not keep up.

It asks nobody but the log, in the background: neither a request nor the database has a part in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from multishadow_server.core import sampling_share
from multishadow_server.core.sampling_share import Bounds, Pressure
from multishadow_server.errors import MultishadowError
from multishadow_server.service.capture_buffer import CaptureBuffer
from multishadow_server.service.ports import LogPressure, LogState

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Sampling:
    """The share of what flags sample that is captured now, in (0, 1]. The live path reads it, the watch writes it."""

    share: float = 1.0


class SamplingWatch:
    """Keeps a router's sampling in step with the log.

    Args:
        log: says how it is.
        buffer: the router's own.
        sampling: is written.
        bounds: what is taken for too much.
        interval: seconds between looks.

    Attributes:
        log: how the log was at the last look; None when it did not tell.
    """

    def __init__(
        self, log: LogPressure, buffer: CaptureBuffer, sampling: Sampling, *, bounds: Bounds, interval: float
    ) -> None:
        self._pressure = log
        self.log: LogState | None = None
        self._buffer = buffer
        self._sampling = sampling
        self._bounds = bounds
        self._interval = interval
        self._puzzled = False

    def counters(self) -> Mapping[str, int]:
        """The share in thousandths, while it is not all."""
        share = self._sampling.share
        return {} if share >= 1 else {sampling_share.COUNTER: max(1, round(1000 * share))}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Look once."""
        state: LogState | None = None
        try:
            state = await self._pressure.look()
        except MultishadowError:
            # What appends to it says so already, and what the log does not take shows in the buffer.
            pass
        except Exception:
            # Whatever it is, a router that answers callers does not end because of it.
            if not self._puzzled:
                _logger.exception("how the log is cannot be read; the sampling goes by the buffer alone")
            self._puzzled = True
        self.log = state
        lag, fill = (None, None) if state is None else (state.lag, state.fill)
        pressure = Pressure(lag=lag, fill=fill, buffer=self._buffer.fill, refused=self._buffer.refused)
        before, self._sampling.share = (
            self._sampling.share,
            sampling_share.following(self._sampling.share, pressure, self._bounds),
        )
        self._say(before, pressure)

    def _say(self, before: float, pressure: Pressure) -> None:
        share = self._sampling.share
        if before == 1 > share:
            _logger.warning(
                "sampling less than flags say, %.3g %% of it: the oldest capture waits for %s, the log is %s full, the "
                "buffer %.0f %%; start more workers, or shadow fewer requests",
                100 * share,
                "an unknown time" if pressure.lag is None else f"{pressure.lag:.0f} s",
                "not known how" if pressure.fill is None else f"{100 * pressure.fill:.0f} %",
                100 * pressure.buffer,
            )
        elif before < 1 == share:
            _logger.info("sampling what flags say again")
