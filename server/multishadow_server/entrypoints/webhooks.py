"""The part of the control API that is about webhooks."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import Sequence

import grpc.aio

from multishadow.v1 import webhooks_pb2 as pb
from multishadow.v1 import webhooks_pb2_grpc
from multishadow_server.core.webhooks import DeliveryState, Webhook
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.entrypoints.moments import moment
from multishadow_server.service import webhooks
from multishadow_server.service.ports import (
    ControlStore,
    DeliveryLine,
    WebhookSender,
    WebhookStanding,
    WebhookStore,
)

SERVICE = pb.DESCRIPTOR.services_by_name["WebhookService"].full_name


class WebhookServicer(webhooks_pb2_grpc.WebhookServiceServicer):
    """Answers WebhookService.

    Args:
        store: knows the models.
        webhooks: where webhooks are.
        sender: sends tests.
    """

    def __init__(self, *, store: ControlStore, webhooks: WebhookStore, sender: WebhookSender) -> None:
        self._store = store
        self._webhooks = webhooks
        self._sender = sender

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        webhooks_pb2_grpc.add_WebhookServiceServicer_to_server(self, server)

    async def CreateWebhook(self, request: pb.CreateWebhookRequest, context: Context) -> pb.CreateWebhookResponse:
        """Make one."""
        async with answering(context):
            made = await webhooks.create(
                self._store,
                self._webhooks,
                name=request.name,
                url=request.url,
                events=request.events,
                models=request.models,
                actor=actor_of(request.actor, context),
                clock=time.time,
            )
        return pb.CreateWebhookResponse(webhook=_webhook(made), secret=made.secret)

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, context: Context) -> pb.ListWebhooksResponse:
        """All of them."""
        del request
        async with answering(context):
            known = await self._webhooks.webhooks()
        return pb.ListWebhooksResponse(webhooks=[_standing(each) for each in known])

    async def GetWebhook(self, request: pb.GetWebhookRequest, context: Context) -> pb.GetWebhookResponse:
        """One."""
        async with answering(context):
            found = await webhooks.webhook(self._webhooks, request.name)
        return pb.GetWebhookResponse(webhook=_standing(found))

    async def TestWebhook(self, request: pb.TestWebhookRequest, context: Context) -> pb.TestWebhookResponse:
        """Send it a test."""
        async with answering(context):
            actor = actor_of(request.actor, context)
            reply = await webhooks.send_test(self._webhooks, self._sender, request.name, actor=actor, clock=time.time)
        return pb.TestWebhookResponse(
            delivered=reply.delivered,
            status=reply.status or 0,
            detail=reply.detail,
            response=reply.body,
            seconds=reply.seconds,
        )

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, context: Context
    ) -> pb.RotateWebhookSecretResponse:
        """Give it another secret."""
        async with answering(context):
            rotated = await webhooks.rotate(
                self._webhooks, request.name, grace=request.grace_seconds, actor=actor_of(request.actor, context)
            )
        return pb.RotateWebhookSecretResponse(webhook=_webhook(rotated), secret=rotated.secret)

    async def DeleteWebhook(self, request: pb.DeleteWebhookRequest, context: Context) -> pb.DeleteWebhookResponse:
        """End one."""
        async with answering(context):
            waited = await webhooks.delete(self._webhooks, request.name, actor=actor_of(request.actor, context))
        return pb.DeleteWebhookResponse(waited=waited)

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Context) -> pb.ListDeliveriesResponse:
        """A page of them."""
        async with answering(context):
            lines, before = await webhooks.deliveries(
                self._webhooks,
                name=request.webhook,
                state=request.state,
                before=request.before_id,
                size=request.page_size,
            )
        return pb.ListDeliveriesResponse(deliveries=[_delivery(line) for line in lines], next_before_id=before)

    async def RetryDeliveries(self, request: pb.RetryDeliveriesRequest, context: Context) -> pb.RetryDeliveriesResponse:
        """Send some again."""
        async with answering(context):
            count = await webhooks.retry(
                self._webhooks, name=request.webhook, ids=request.ids, actor=actor_of(request.actor, context)
            )
        return pb.RetryDeliveriesResponse(count=count)


def _webhook(webhook: Webhook) -> pb.Webhook:
    return pb.Webhook(
        name=webhook.name,
        origin=webhook.origin,
        events=webhook.events,
        models=webhook.models,
        created_at=moment(webhook.created_at),
        created_by=webhook.created_by,
        former_secret_until=moment(webhook.former_until),
    )


def _standing(standing: WebhookStanding) -> pb.Webhook:
    message = _webhook(standing.webhook)
    message.waiting = standing.counts.get(DeliveryState.WAITING, 0)
    message.delivered = standing.counts.get(DeliveryState.DELIVERED, 0)
    message.parked = standing.counts.get(DeliveryState.PARKED, 0)
    last = moment(standing.last_delivered_at)
    if last is not None:
        message.last_delivered_at.CopyFrom(last)
    return message


def _delivery(line: DeliveryLine) -> pb.Delivery:
    return pb.Delivery(
        id=line.id,
        webhook=line.webhook,
        message_id=line.message_id,
        event=line.event,
        model=line.model,
        state=line.state,
        attempts=line.attempts,
        status=line.status or 0,
        detail=line.detail,
        response=line.response,
        created_at=moment(line.created_at),
        changed_at=moment(line.changed_at),
        next_attempt_at=moment(line.next_attempt_at),
        body=line.body,
    )
