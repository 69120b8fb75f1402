"""Where webhooks are kept, and how what is sent to them leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.webhooks import DeliveryState, Event, Fate, Reply, Webhook


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookStanding:
    """A webhook with how many of its deliveries are in which state, and when the last was delivered."""

    webhook: Webhook
    counts: Mapping[DeliveryState, int]
    last_delivered_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedDelivery:
    """A delivery that this process is to send.

    Args:
        id, claim: what it is settled by.
        webhook: where to, with its secrets.
        message_id: the same for every receiver and attempt.
        body: what is sent.
        attempts: made so far.
    """

    id: int
    claim: str
    webhook: Webhook
    message_id: str
    body: str
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryLine:
    """A delivery as people look at it; points in time are seconds since the Unix epoch."""

    id: int
    webhook: str
    message_id: str
    event: str
    model: str
    state: DeliveryState
    attempts: int
    status: int | None
    detail: str
    response: str
    created_at: float
    changed_at: float
    next_attempt_at: float | None
    body: str


class WebhookStore(Protocol):
    """Where webhooks and their deliveries are. Every method raises StoreUnavailable."""

    async def webhooks(self) -> Sequence[WebhookStanding]:
        """All of them, by name."""
        ...

    async def create(self, webhook: Webhook, *, actor: str) -> Webhook:
        """Keep it, created now. Raises Conflict: there is one of that name."""
        ...

    async def rotate(self, name: str, secret: str, *, grace: float, actor: str) -> Webhook | None:
        """Give it another secret; the present one signs too for `grace` seconds. None: there is none of the name."""
        ...

    async def delete(self, name: str, *, actor: str) -> int | None:
        """Delete it with its deliveries; how many waited, or None when there is none of the name."""
        ...

    async def deliveries(
        self, webhook: str, *, state: DeliveryState | None, before: int, most: int
    ) -> Sequence[DeliveryLine]:
        """The newest whose id is below `before` (0: of all), newest first; of all webhooks when none is named."""
        ...

    async def retry(self, webhook: str, ids: Sequence[int], *, actor: str) -> int:
        """Make parked ones due now, as if they were new; how many. Without ids, all; without a name, of all."""
        ...


class WebhookQueue(Protocol):
    """The deliveries that wait. Several processes take from it. Every method raises StoreUnavailable."""

    async def claim(self, *, busy: Collection[str], of_each: int, margin: float) -> Sequence[ClaimedDelivery]:
        """Take deliveries that are due, the longest due first.

        Args:
            busy: names of webhooks to take none of.
            of_each: at most so many of each webhook.
            margin: seconds after which one that was not settled falls due again.
        """
        ...

    async def settle(self, delivery: ClaimedDelivery, reply: Reply, fate: Fate) -> bool:
        """Write what an attempt came to; False when the claim was lost meanwhile, and nothing was written."""
        ...

    async def forget(self, *, days: float) -> int:
        """Delete messages older than this with their deliveries; how many."""
        ...

    async def told(self, types: Collection[str]) -> bool:
        """Whether anybody wants to know of any of these types."""
        ...

    async def enqueue(self, events: Sequence[Event]) -> int:
        """Tell of what happened outside of any change, in one transaction; how many deliveries that makes."""
        ...


class WebhookSender(Protocol):
    """Posts to receivers."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Post once, and say what came back within the time limit. Never raises: what fails is a Reply, too."""
        ...
