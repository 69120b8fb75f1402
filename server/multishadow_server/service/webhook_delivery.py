"""Control sends what waits in the outbox, at least once, and holds up nothing else by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from multishadow_server.core import webhooks as rules
from multishadow_server.core.webhooks import DeliveryState
from multishadow_server.errors import MultishadowError, StoreUnavailable
from multishadow_server.service.ending import INNER_PATIENCE_SECONDS, end
from multishadow_server.service.outage import Outage
from multishadow_server.service.ports import ClaimedDelivery, WebhookQueue, WebhookSender

# To one receiver at once: one that hangs holds these, and no others.
OF_EACH = 4
ATTEMPT_SECONDS = 10.0
# What was taken and not settled falls due again: its attempt may last so long, and be written down.
CLAIM_SECONDS = ATTEMPT_SECONDS + 20.0
INTERVAL = 1.0
DRAIN_SECONDS = 2.0
KEEP_DAYS = 40.0
"""Longer than any experiment: what is told once in an epoch is told once."""
FORGET_SECONDS = 3_600.0

_logger = logging.getLogger(__name__)


class WebhookDeliveries:
    """One control process's share of what is sent; several take from one outbox.

    Args:
        queue: the deliveries that wait.
        sender: posts them.
        draw: uniform in [0, 1), for the jitter of retries.
        clock: the time, in seconds since the Unix epoch.
        interval: seconds between looks at the outbox.
    """

    def __init__(
        self,
        queue: WebhookQueue,
        sender: WebhookSender,
        *,
        draw: Callable[[], float],
        clock: Callable[[], float],
        interval: float = INTERVAL,
    ) -> None:
        self._queue = queue
        self._sender = sender
        self._draw = draw
        self._clock = clock
        self._interval = interval
        self._outage = Outage()
        # By name of the webhook.
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._forgotten_at = 0.0
        self._delivered = 0
        self._failed = 0
        self._undelivered = 0

    def counters(self) -> Mapping[str, int]:
        """What was done since the start; `webhook_undelivered` are deliveries that were given up."""
        return {
            "webhooks.delivered": self._delivered,
            "webhooks.failed_attempts": self._failed,
            "webhook_undelivered": self._undelivered,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Send what falls due until `stop` is set. What is under way then is finished, or falls due again later."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._round_safely()
                # A receiver that is quick gets its next ones at once.
                await asyncio.wait(
                    {stopping, *self._under_way.values()},
                    timeout=self._interval,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if self._under_way:
                await asyncio.wait(self._under_way.values(), timeout=DRAIN_SECONDS)
        finally:
            await end(stopping, *self._under_way.values(), patience=INNER_PATIENCE_SECONDS)

    async def _round_safely(self) -> None:
        try:
            await self._take()
            await self._forget()
        except StoreUnavailable as error:
            if self._outage.begins():
                _logger.warning("webhooks wait until the store is back: %s", error)
        except MultishadowError as error:
            _logger.warning("webhooks wait: %s", error)
        except Exception:
            # Control that ended because of one odd delivery could roll nothing back.
            _logger.exception("a round of webhooks failed")
        else:
            self._outage.ends()

    async def _take(self) -> None:
        self._under_way = {name: task for name, task in self._under_way.items() if not task.done()}
        claimed = await self._queue.claim(busy=self._under_way.keys(), of_each=OF_EACH, margin=CLAIM_SECONDS)
        by_webhook: dict[str, list[ClaimedDelivery]] = {}
        for delivery in claimed:
            by_webhook.setdefault(delivery.webhook.name, []).append(delivery)
        for name, deliveries in by_webhook.items():
            self._under_way[name] = asyncio.create_task(self._send_all(deliveries))

    async def _forget(self) -> None:
        now = self._clock()
        if now - self._forgotten_at >= FORGET_SECONDS:
            await self._queue.forget(days=KEEP_DAYS)
            self._forgotten_at = now

    async def _send_all(self, deliveries: Sequence[ClaimedDelivery]) -> None:
        await asyncio.gather(*(self._send_safely(delivery) for delivery in deliveries))

    async def _send_safely(self, delivery: ClaimedDelivery) -> None:
        try:
            await self._send(delivery)
        except MultishadowError as error:
            # It falls due again when its claim is over, and is sent once more: at least once is what is promised.
            _logger.warning("what became of delivery %d could not be written: %s", delivery.id, error)
        except Exception:
            _logger.exception("delivery %d could not be sent", delivery.id)

    async def _send(self, delivery: ClaimedDelivery) -> None:
        now, body = self._clock(), delivery.body.encode()
        headers = rules.headers(delivery.webhook.secrets(now), message_id=delivery.message_id, now=now, body=body)
        reply = await self._sender.send(delivery.webhook.url, headers, body)
        fate = rules.fate(reply, attempts=delivery.attempts + 1, draw=self._draw())
        if not await self._queue.settle(delivery, reply, fate):
            return
        self._delivered += reply.delivered
        self._failed += not reply.delivered
        if fate.state is DeliveryState.PARKED:
            self._undelivered += 1
            said = reply.detail or f"status {reply.status}"
            _logger.warning("webhook %s: delivery %d is given up: %s", delivery.webhook.name, delivery.id, said)
