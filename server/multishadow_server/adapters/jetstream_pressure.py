"""How full and how old the capture log is, as JetStream tells a router."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nats.errors

from multishadow_server.errors import LogUnavailable
from multishadow_server.service.ports import LogState

if TYPE_CHECKING:
    from nats.aio.client import Client

ANSWER_SECONDS = 1.0
# JetStream writes nanoseconds, and Python reads microseconds.
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


class JetStreamPressure:
    """A LogPressure over one stream.

    The client library reads neither the time of a stream's oldest message nor the server's own, so the server is asked
    without it: https://docs.nats.io/reference/reference-protocols/nats_api_reference

    Args:
        client: a connection to NATS, which reconnects by itself; the caller closes it.
        log_name: the stream's name.
    """

    def __init__(self, client: Client, log_name: str) -> None:
        self._client = client
        self._subject = f"$JS.API.STREAM.INFO.{log_name}"

    async def look(self) -> LogState:
        """The log as it is; see ports.LogPressure."""
        if not self._client.is_connected:
            raise LogUnavailable("no connection to NATS")
        try:
            reply = await self._client.request(self._subject, b"", timeout=ANSWER_SECONDS)
            return _state(json.loads(reply.data))
        except (nats.errors.Error, OSError, TimeoutError, ValueError, LookupError) as error:
            raise LogUnavailable(f"JetStream does not tell how the log is: {error!r}") from error


def _state(info: dict[str, Any]) -> LogState:
    """Raises LookupError when there is no such stream yet, ValueError when the answer is none."""
    state, most = info["state"], info["config"]["max_bytes"]
    now = _moment(info["ts"]) if "ts" in info else datetime.now(UTC)
    # An empty stream says the year 1.
    lag = (now - _moment(state["first_ts"])).total_seconds() if state["messages"] else 0.0
    size = state["bytes"]
    return LogState(lag=max(0.0, lag), fill=size / most if most > 0 else 0.0, messages=state["messages"], size=size)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(_FRACTION.sub(lambda found: f".{found[1]:0<6}", text))
