"""What control tells others by: webhooks, sent from an outbox, and the look for what has been proven."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.webhooks import PostgresWebhooks
from multishadow_server.adapters.webhook_sender import HttpWebhookSender
from multishadow_server.app import running
from multishadow_server.entrypoints.webhooks import WebhookServicer
from multishadow_server.service.proof_watch import ProofWatch
from multishadow_server.service.webhook_delivery import ATTEMPT_SECONDS, OF_EACH, WebhookDeliveries


@dataclass(frozen=True, kw_only=True, slots=True)
class Telling:
    """What goes on, and who answers for it."""

    servicer: WebhookServicer
    deliveries: WebhookDeliveries
    proofs: ProofWatch

    def counters(self) -> Mapping[str, int]:
        """Of both."""
        return {**self.deliveries.counters(), **self.proofs.counters()}


async def tell(database_url: str, stop: asyncio.Event, stack: AsyncExitStack) -> Telling:
    """Send what waits, and look for what is proven, until `stop`."""
    # Whoever tells must never have the connections that a rollback needs.
    engine = open_engine(database_url, pool_size=2)
    stack.push_async_callback(engine.dispose)
    sender = HttpWebhookSender(limit=ATTEMPT_SECONDS, of_each=OF_EACH)
    stack.push_async_callback(sender.aclose)
    store, webhooks = PostgresControl(engine), PostgresWebhooks(engine)
    deliveries = WebhookDeliveries(webhooks, sender, draw=random.random, clock=time.time)
    proofs = ProofWatch(store, webhooks, clock=time.time)
    await stack.enter_async_context(running.background(deliveries.run(stop)))
    await stack.enter_async_context(running.background(proofs.run(stop)))
    servicer = WebhookServicer(store=store, webhooks=webhooks, sender=sender)
    return Telling(servicer=servicer, deliveries=deliveries, proofs=proofs)
