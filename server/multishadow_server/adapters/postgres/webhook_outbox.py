"""The outbox: what receivers are told is written in the transaction of what happened, or not at all."""

from __future__ import annotations

import logging
import uuid

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, storable_text
from multishadow_server.core.webhooks import Event
from multishadow_server.errors import MultishadowError

logger = logging.getLogger(__name__)

# A rollback waits for no webhook that somebody is deleting.
_SHORT_LOCKS = text("SET LOCAL lock_timeout = '250ms'")
_USUAL_LOCKS = text("SET LOCAL lock_timeout TO DEFAULT")


async def tell(connection: AsyncConnection, event: Event) -> None:
    """The same for what must happen whether or not anybody can be told: what goes wrong is logged, and undone alone."""
    try:
        async with reaching(connection.engine, "telling webhooks"), connection.begin_nested():
            await connection.execute(_SHORT_LOCKS)
            await enqueue(connection, event)
            await connection.execute(_USUAL_LOCKS)
    except MultishadowError as error:
        logger.warning("webhooks do not hear of %s: %s", event.type, error)
    except Exception:
        # A right that is missing, a value that nobody foresaw: never a reason not to roll back.
        logger.exception("webhooks do not hear of %s", event.type)


async def enqueue(connection: AsyncConnection, event: Event) -> int:
    """Write a message for everybody who wants to know of it, within a transaction; returns how many do.

    Nothing is written where nobody does, or where an event of the same `once` was told before.
    """
    values = {
        "id": f"msg_{uuid.uuid4().hex}",
        "event": event.type,
        "model": event.model,
        "body": storable_text(event.body()),
        "once": event.once or None,
        "at": moment(event.at),
    }
    return (await connection.execute(_ENQUEUE, values)).rowcount


_ENQUEUE = text(
    """
    WITH wanted AS (
        SELECT id FROM webhook
        WHERE (events = '{}' OR :event = ANY(events)) AND (models = '{}' OR :model = '' OR :model = ANY(models))
    ), message AS (
        INSERT INTO webhook_message (id, event, model, body, created_at, once)
        SELECT :id, :event, :model, :body, :at, :once WHERE EXISTS (SELECT FROM wanted)
        ON CONFLICT (once) DO NOTHING
        RETURNING id
    )
    INSERT INTO webhook_delivery (webhook_id, message_id, state, attempts, detail, response, created_at, changed_at,
                                  next_attempt_at, claim)
    SELECT wanted.id, message.id, 'waiting', 0, '', '', clock_timestamp(), clock_timestamp(), clock_timestamp(), ''
    FROM wanted CROSS JOIN message
    """
)
