"""Webhooks in PostgreSQL: who is told, what waits to be sent, and what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres import audit, webhook_outbox
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import storable_text
from multishadow_server.adapters.postgres.tables import WebhookDeliveryRow, WebhookMessageRow, WebhookRow
from multishadow_server.core.webhooks import DeliveryState, Event, Fate, Reply, Webhook
from multishadow_server.errors import Conflict
from multishadow_server.service.ports import ClaimedDelivery, DeliveryLine, WebhookStanding


class PostgresWebhooks:
    """A WebhookStore and a WebhookQueue. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def webhooks(self) -> Sequence[WebhookStanding]:
        """All of them, by name."""
        async with reaching(self._engine, "reading webhooks"), AsyncSession(self._engine) as session:
            rows = (await session.exec(select(WebhookRow).order_by(col(WebhookRow.name)))).all()
            connection = await session.connection()
            counted = (await connection.execute(_COUNTS)).all()
        found: dict[int, dict[DeliveryState, int]] = {}
        last = {}
        for line in counted:
            found.setdefault(line.webhook_id, {})[DeliveryState(line.state)] = line.n
            if line.state == DeliveryState.DELIVERED:
                last[line.webhook_id] = line.changed_at.timestamp()
        return [
            WebhookStanding(
                webhook=_webhook_of(row), counts=found.get(_id(row), {}), last_delivered_at=last.get(_id(row))
            )
            for row in rows
        ]

    async def create(self, webhook: Webhook, *, actor: str) -> Webhook:
        """Keep it, created now."""
        values = {
            "name": webhook.name,
            "url": webhook.url,
            "events": list(webhook.events),
            "models": list(webhook.models),
            "secret": webhook.secret,
            "created_by": storable_text(actor),
            "created_at": func.clock_timestamp(),
            "former_secret": "",
        }
        new = insert(WebhookRow).values(values).on_conflict_do_nothing(index_elements=["name"]).returning(WebhookRow)
        detail = {"origin": webhook.origin, "events": list(webhook.events), "models": list(webhook.models)}
        async with reaching(self._engine, "making a webhook"), AsyncSession(self._engine) as session:
            row = (await session.exec(new)).scalar_one_or_none()
            if row is None:
                raise Conflict(f"there is a webhook {webhook.name} already; choose another name, or delete it first")
            made = _webhook_of(row)
            await audit.append(
                await session.connection(), actor=actor, action="create_webhook", subject=webhook.name, detail=detail
            )
            await session.commit()
        return made

    async def rotate(self, name: str, secret: str, *, grace: float, actor: str) -> Webhook | None:
        """Give it another secret."""
        until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, grace)
        former = {"former_secret": col(WebhookRow.secret), "former_until": until} if grace else _NO_FORMER
        changed = (
            update(WebhookRow).where(col(WebhookRow.name) == name).values(secret=secret, **former).returning(WebhookRow)
        )
        async with reaching(self._engine, "rotating a webhook's secret"), AsyncSession(self._engine) as session:
            row = (await session.exec(changed)).scalar_one_or_none()
            if row is None:
                return None
            rotated = _webhook_of(row)
            detail = {"grace_seconds": grace}
            await audit.append(
                await session.connection(), actor=actor, action="rotate_webhook", subject=name, detail=detail
            )
            await session.commit()
        return rotated

    async def delete(self, name: str, *, actor: str) -> int | None:
        """Delete it with its deliveries."""
        async with reaching(self._engine, "deleting a webhook"), self._engine.begin() as connection:
            waited = (await connection.execute(_WAITED, {"name": name})).scalar_one_or_none()
            if waited is None:
                return None
            # The lock on the revision first: a change that holds it wants the rows of webhooks after it.
            await audit.append(
                connection, actor=actor, action="delete_webhook", subject=name, detail={"waited": waited}
            )
            await connection.execute(delete(WebhookRow).where(col(WebhookRow.name) == name))
        return int(waited)

    async def deliveries(
        self, webhook: str, *, state: DeliveryState | None, before: int, most: int
    ) -> Sequence[DeliveryLine]:
        """The newest of them."""
        wanted = (
            select(WebhookDeliveryRow, WebhookMessageRow, WebhookRow.name)
            .join(WebhookMessageRow, col(WebhookMessageRow.id) == WebhookDeliveryRow.message_id)
            .join(WebhookRow, col(WebhookRow.id) == WebhookDeliveryRow.webhook_id)
            .order_by(col(WebhookDeliveryRow.id).desc())
            .limit(most)
        )
        if webhook:
            wanted = wanted.where(WebhookRow.name == webhook)
        if state is not None:
            wanted = wanted.where(WebhookDeliveryRow.state == state)
        if before:
            wanted = wanted.where(col(WebhookDeliveryRow.id) < before)
        async with reaching(self._engine, "listing deliveries"), AsyncSession(self._engine) as session:
            return [_line(*found) for found in await session.exec(wanted)]

    async def retry(self, webhook: str, ids: Sequence[int], *, actor: str) -> int:
        """Make parked ones due now."""
        now = func.clock_timestamp()
        due = (
            update(WebhookDeliveryRow)
            .where(col(WebhookDeliveryRow.state) == DeliveryState.PARKED)
            .values(state=DeliveryState.WAITING, attempts=0, next_attempt_at=now, changed_at=now, claim="")
        )
        if ids:
            due = due.where(col(WebhookDeliveryRow.id).in_(ids))
        if webhook:
            named = select(WebhookRow.id).where(WebhookRow.name == webhook)
            due = due.where(col(WebhookDeliveryRow.webhook_id).in_(named))
        async with reaching(self._engine, "retrying deliveries"), self._engine.begin() as connection:
            count = (await connection.execute(due)).rowcount
            if count:
                detail = {"ids": list(ids), "count": count}
                await audit.append(
                    connection, actor=actor, action="retry_deliveries", subject=webhook or "*", detail=detail
                )
        return count

    async def claim(self, *, busy: Collection[str], of_each: int, margin: float) -> Sequence[ClaimedDelivery]:
        """Take deliveries that are due; see WebhookQueue."""
        claim = uuid.uuid4().hex
        wanted = {"busy": sorted(busy), "of_each": of_each, "margin": margin, "claim": claim}
        async with reaching(self._engine, "taking deliveries"), AsyncSession(self._engine) as session:
            connection = await session.connection()
            taken = (await connection.execute(_CLAIM, wanted)).all()
            webhooks = {}
            if taken:
                rows = await session.exec(select(WebhookRow))
                webhooks = {_id(row): _webhook_of(row) for row in rows}
            await session.commit()
        return [
            ClaimedDelivery(
                id=row.id,
                claim=claim,
                webhook=webhooks[row.webhook_id],
                message_id=row.message_id,
                body=row.body,
                attempts=row.attempts,
            )
            for row in sorted(taken, key=lambda row: row.id)
            if row.webhook_id in webhooks
        ]

    async def settle(self, delivery: ClaimedDelivery, reply: Reply, fate: Fate) -> bool:
        """Write what an attempt came to."""
        now = func.clock_timestamp()
        due = None if fate.wait is None else now + func.make_interval(0, 0, 0, 0, 0, 0, fate.wait)
        settled = (
            update(WebhookDeliveryRow)
            .where(col(WebhookDeliveryRow.id) == delivery.id, col(WebhookDeliveryRow.claim) == delivery.claim)
            .values(
                state=fate.state,
                attempts=delivery.attempts + 1,
                status=reply.status,
                detail=storable_text(reply.detail),
                response=storable_text(reply.body),
                changed_at=now,
                next_attempt_at=due,
                claim="",
            )
        )
        async with reaching(self._engine, "settling a delivery"), self._engine.begin() as connection:
            return (await connection.execute(settled)).rowcount == 1

    async def forget(self, *, days: float) -> int:
        """Delete old messages with their deliveries."""
        old = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, days * 86_400)
        gone = delete(WebhookMessageRow).where(col(WebhookMessageRow.created_at) < old)
        async with reaching(self._engine, "forgetting deliveries"), self._engine.begin() as connection:
            return (await connection.execute(gone)).rowcount

    async def told(self, types: Collection[str]) -> bool:
        """Whether anybody wants to know of any of these types."""
        async with reaching(self._engine, "reading webhooks"), self._engine.connect() as connection:
            return bool((await connection.execute(_TOLD, {"types": sorted(types)})).scalar_one())

    async def enqueue(self, events: Sequence[Event]) -> int:
        """Tell of what happened outside of any change."""
        async with reaching(self._engine, "telling webhooks"), self._engine.begin() as connection:
            return sum([await webhook_outbox.enqueue(connection, event) for event in events])


def _id(row: WebhookRow) -> int:
    assert row.id is not None
    return row.id


def _webhook_of(row: WebhookRow) -> Webhook:
    return Webhook(
        name=row.name,
        url=row.url,
        events=tuple(row.events),
        models=tuple(row.models),
        secret=row.secret,
        created_by=row.created_by,
        created_at=row.created_at.timestamp(),
        former_secret=row.former_secret,
        former_until=row.former_until.timestamp() if row.former_until else None,
    )


def _line(row: WebhookDeliveryRow, message: WebhookMessageRow, webhook: str) -> DeliveryLine:
    assert row.id is not None
    return DeliveryLine(
        id=row.id,
        webhook=webhook,
        message_id=row.message_id,
        event=message.event,
        model=message.model,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        status=row.status,
        detail=row.detail,
        response=row.response,
        created_at=row.created_at.timestamp(),
        changed_at=row.changed_at.timestamp(),
        next_attempt_at=row.next_attempt_at.timestamp() if row.next_attempt_at else None,
        body=message.body,
    )


_NO_FORMER: dict[str, Any] = {"former_secret": "", "former_until": None}
_COUNTS = text(
    "SELECT webhook_id, state, count(*) AS n, max(changed_at) AS changed_at FROM webhook_delivery "
    "GROUP BY webhook_id, state"
)
_WAITED = text(
    "SELECT count(delivery.id) FROM webhook LEFT JOIN webhook_delivery AS delivery "
    "ON delivery.webhook_id = webhook.id AND delivery.state = 'waiting' WHERE webhook.name = :name GROUP BY webhook.id"
)
_TOLD = text("SELECT EXISTS (SELECT FROM webhook WHERE events = '{}' OR events && CAST(:types AS varchar[]))")
# By webhook, so that a thousand deliveries to a receiver that hangs do not hold up those to the others.
_CLAIM = text(
    """
    WITH due AS (
        SELECT delivery.id
        FROM webhook
        CROSS JOIN LATERAL (
            SELECT id
            FROM webhook_delivery
            WHERE webhook_id = webhook.id AND state = 'waiting' AND next_attempt_at <= clock_timestamp()
            ORDER BY next_attempt_at
            LIMIT :of_each
            FOR UPDATE SKIP LOCKED
        ) AS delivery
        WHERE NOT webhook.name = ANY(:busy)
    )
    UPDATE webhook_delivery AS taken
    SET claim = :claim, next_attempt_at = clock_timestamp() + make_interval(secs => :margin)
    FROM due, webhook_message AS message
    WHERE taken.id = due.id AND message.id = taken.message_id
    RETURNING taken.id, taken.webhook_id, taken.message_id, taken.attempts, message.body
    """
)
