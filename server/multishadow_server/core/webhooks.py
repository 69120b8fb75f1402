"""Webhooks: who is told of what, how that is signed, and when what failed is sent again.

What is sent follows Standard Webhooks (https://www.standardwebhooks.com, specification 1.0.0): the signature is
HMAC-SHA-256 over `id.timestamp.body`, its key what stands behind `whsec_` in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit

from multishadow_server.errors import InvalidInput

SECRET_PREFIX = "whsec_"  # noqa: S105  what every secret begins with
SECRET_BYTES = 32
MOST_WEBHOOKS = 50
LONGEST_URL = 2_000
LONGEST_GRACE = 7 * 86_400
KEPT_RESPONSE_BYTES = 1_024
"""Of an answer, its beginning is kept: enough to see what a receiver complains of."""

FIRST_WAIT = 10.0
LONGEST_WAIT = 4 * 3_600.0
GROWTH = 3.0
MOST_ATTEMPTS = 13
"""The waits between them add up to 23 hours, give or take the jitter: a receiver may be broken for a day."""
JITTER = 0.2

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_GONE = 410


class EventType(StrEnum):
    """What is told; these words are part of the API."""

    WINNER_PROVEN = "winner.proven"
    VERSION_PROMOTED = "version.promoted"
    VERSION_ROLLED_BACK = "version.rolled_back"
    EXPERIMENT_ENDED = "experiment.ended"
    GATE_FAILED = "gate.failed"
    ALARM_RAISED = "alarm.raised"
    ALARM_CLEARED = "alarm.cleared"
    ROLLOUT_HELD = "rollout.held"
    ROLLOUT_FINISHED = "rollout.finished"
    REPORT_STORED = "report.stored"
    WEBHOOK_TEST = "webhook.test"


SUBSCRIBABLE = tuple(kind for kind in EventType if kind is not EventType.WEBHOOK_TEST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened.

    Args:
        type: what.
        at: when, seconds since the Unix epoch.
        model: whose; empty where it is of no model.
        data: JSON-like values, without `model`. No payload of a request is ever among them.
        once: an event that has the same words here is told once only; empty: every time.
    """

    type: EventType
    at: float
    model: str = ""
    data: Mapping[str, Any]
    once: str = ""

    def body(self) -> str:
        """What is sent, in JSON: the same bytes at every attempt, since they are signed."""
        moment = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"type": self.type, "timestamp": moment, "data": {"model": self.model, **self.data}}
        return json.dumps(said, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """One receiver.

    Args:
        name: unique.
        url: where to.
        events: what it is told of; none: everything.
        models: whose; none: all. What is of no model it is told in any case.
        secret: what is signed with, `whsec_…`.
        created_by, created_at: who made it, and when (seconds since the Unix epoch, as all times here).
        former_secret: the one before it, which signs too until `former_until`; empty and None when there is none.
    """

    name: str
    url: str
    events: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    secret: str
    created_by: str
    created_at: float
    former_secret: str = ""
    former_until: float | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown. The path of many a receiver's URL is all that protects it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def secrets(self, now: float) -> tuple[str, ...]:
        """Those that sign what is sent now."""
        if self.former_until is not None and now < self.former_until:
            return (self.secret, self.former_secret)
        return (self.secret,)


class DeliveryState(StrEnum):
    """`parked`: given up; nothing sends it again unless somebody asks for it."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    PARKED = "parked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back of one attempt.

    Args:
        status: the HTTP status; None when none came.
        detail: why none came, in words; or why a status is no success.
        body: its beginning, as text.
        retry_after: seconds that the receiver asks to be left alone for; None when it does not.
        seconds: how long it took.
    """

    status: int | None = None
    detail: str = ""
    body: str = ""
    retry_after: float | None = None
    seconds: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it: any status of success. A redirect is none: nobody signed for its target."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more of it, ever: 410, as Standard Webhooks has it."""
        return self.status == _GONE


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """What becomes of a delivery after an attempt; `wait` is seconds until the next one, while it waits."""

    state: DeliveryState
    wait: float | None = None


def fate(reply: Reply, *, attempts: int, draw: float) -> Fate:
    """What becomes of a delivery.

    Args:
        reply: what came back.
        attempts: those made by now, this one among them.
        draw: uniform in [0, 1), for the jitter.
    """
    if reply.delivered:
        return Fate(state=DeliveryState.DELIVERED)
    if reply.gone or attempts >= MOST_ATTEMPTS:
        return Fate(state=DeliveryState.PARKED)
    wait = max(backoff(attempts, draw=draw), min(reply.retry_after or 0.0, LONGEST_WAIT))
    return Fate(state=DeliveryState.WAITING, wait=wait)


def backoff(attempts: int, *, draw: float) -> float:
    """Seconds until the next attempt: exponential, bounded, with jitter so that receivers are not all met at once."""
    wait = min(LONGEST_WAIT, FIRST_WAIT * GROWTH ** (attempts - 1))
    return wait * (1 - JITTER + 2 * JITTER * draw)


def signature(secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1,…` for each secret, newest first."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_mac(secret, signed)}" for secret in secrets)


def headers(secrets: Sequence[str], *, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """The headers of one attempt; the timestamp is the attempt's, so that receivers can refuse old ones."""
    timestamp = int(now)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secrets, message_id=message_id, timestamp=timestamp, body=body),
    }


def secret_of(random: bytes) -> str:
    """A secret of these random bytes."""
    return SECRET_PREFIX + base64.b64encode(random).decode()


def check_name(name: str) -> None:
    """Raise InvalidInput unless it is a name."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"name: {name[:80]!r} is no name for a webhook; allowed are 1 to 63 letters, digits, `-`, `_` and `.`, "
            "beginning with a letter or digit"
        )


def check_url(url: str) -> None:
    """Raise InvalidInput unless it can be posted to. The message does not repeat the URL: it may be a secret."""
    parts = _parts(url)
    if parts is None or len(url) > LONGEST_URL or not url.isascii() or any(char <= " " for char in url):
        raise InvalidInput(
            f"url: this is no URL that can be posted to; write `https://host/path` (or `http://`, in a network that "
            f"you trust), at most {LONGEST_URL} ASCII characters without blanks"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "url: leave out user and password; its receiver knows this control by the signature (`whsec_…`)"
        )


def check_events(events: Sequence[str]) -> None:
    """Raise InvalidInput unless each is something that can be told."""
    if strange := sorted(set(events) - set(SUBSCRIBABLE)):
        raise InvalidInput(f"events: {', '.join(map(repr, strange))}: not known; allowed are {', '.join(SUBSCRIBABLE)}")


def _parts(url: str) -> SplitResult | None:
    """Its parts; None when nothing can be posted to them. A port that is no number is a ValueError, too."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _mac(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
