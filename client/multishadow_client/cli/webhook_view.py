"""Webhooks and their deliveries as people see them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1.webhooks_pb2 import Delivery, TestWebhookResponse, Webhook
from multishadow_client.cli import figures, listing_view


def listing(webhooks: Sequence[Webhook]) -> RenderableType:
    """A line each."""
    rows = (
        (
            webhook.name,
            webhook.origin,
            ", ".join(webhook.events) or "everything",
            ", ".join(webhook.models) or "all",
            figures.count(webhook.waiting),
            figures.count(webhook.parked),
            _last(webhook),
        )
        for webhook in webhooks
    )
    headers = ("name", "posts to", "told of", "models", "wait", "parked", "last delivered")
    return listing_view.table(headers, rows, nothing="no webhooks yet: shadowctl webhook create NAME URL")


def whole(webhook: Webhook, last: Sequence[Delivery]) -> RenderableType:
    """Everything about one."""
    lines = [
        ("posts to", f"{webhook.origin}/…"),
        ("told of", ", ".join(webhook.events) or "everything"),
        ("models", ", ".join(webhook.models) or "all"),
        ("made", f"{figures.moment(webhook.created_at)} by {webhook.created_by}"),
        ("former key", _former(webhook)),
        ("messages", f"{webhook.delivered:,} delivered, {webhook.waiting:,} wait, {webhook.parked:,} parked"),
        ("delivered", _last(webhook)),
    ]
    parts: list[RenderableType] = [Text(webhook.name, style="bold")]
    parts += [Text.assemble((f"  {name:<11}", "dim"), value) for name, value in lines if value]
    return Group(*parts, Text(), deliveries(last))


def deliveries(items: Sequence[Delivery]) -> RenderableType:
    """A line each."""
    rows = (
        (
            str(item.id),
            item.webhook,
            item.event,
            item.model,
            item.state,
            str(item.attempts),
            _reply(item.status, item.detail),
            figures.moment(item.created_at),
            figures.moment(item.next_attempt_at) if item.HasField("next_attempt_at") else "",
        )
        for item in items
    )
    headers = ("id", "webhook", "event", "model", "state", "attempts", "last answer", "written", "next")
    return listing_view.table(headers, rows, nothing="nothing was sent yet")


def tested(name: str, response: TestWebhookResponse) -> RenderableType:
    """What came back of a test."""
    style = "green" if response.delivered else "bold red"
    said = Text.assemble(
        (name, "bold"), ": ", (_reply(response.status, response.detail), style), f" after {response.seconds:.2f} s"
    )
    return Group(said, Text(response.response, style="dim")) if response.response else said


def secret(webhook: Webhook, text: str) -> RenderableType:
    """A webhook with its secret."""
    said = Text.assemble((webhook.name, "bold"), f" posts to {webhook.origin}/…")
    if former := _former(webhook):
        said.append(f"; the secret before signs {former}, too")
    said.append(f"\n{text}", style="bold")
    return said.append("\nThis is the only time that it is shown: its receiver checks signatures with it.", style="dim")


def _former(webhook: Webhook) -> str:
    return f"until {figures.moment(webhook.former_secret_until)}" if webhook.HasField("former_secret_until") else ""


def _last(webhook: Webhook) -> str:
    return figures.moment(webhook.last_delivered_at) if webhook.HasField("last_delivered_at") else figures.NONE


def _reply(status: int, detail: str) -> str:
    if not status:
        return detail or figures.NONE
    return f"{status}: {detail}" if detail else str(status)
