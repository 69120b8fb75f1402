"""Making, testing, rotating and deleting webhooks, and looking at what became of what was sent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from multishadow_server.core import webhooks as rules
from multishadow_server.core.webhooks import DeliveryState, Event, EventType, Reply, Webhook
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import names
from multishadow_server.service.ports import (
    ControlStore,
    DeliveryLine,
    WebhookSender,
    WebhookStanding,
    WebhookStore,
)

MOST_LISTED = 1_000
DEFAULT_LISTED = 100


async def create(
    store: ControlStore,
    webhooks: WebhookStore,
    *,
    name: str,
    url: str,
    events: Sequence[str],
    models: Sequence[str],
    actor: str,
    clock: Callable[[], float],
) -> Webhook:
    """Make a webhook with a secret of its own.

    Args:
        store: knows the models.
        webhooks: where webhooks are.
        name: unique.
        url: where to post.
        events: what it is told of; none: everything.
        models: whose; none: all, those of later too.
        actor: who makes it.
        clock: the time, in seconds since the Unix epoch.

    Raises:
        InvalidInput: the name, the URL or an event is none.
        NotFound: there is no such model.
        Conflict: there is a webhook of that name.
        FailedPrecondition: there are too many.
        StoreUnavailable: the database is away.
    """
    rules.check_name(name)
    rules.check_url(url)
    rules.check_events(events)
    configuration = await store.read(experiments=False)
    for model in models:
        names.model_of(configuration, model)
    if len(await webhooks.webhooks()) >= rules.MOST_WEBHOOKS:
        raise FailedPrecondition(
            f"there are {rules.MOST_WEBHOOKS} webhooks, and no more are allowed; delete one, or let one receiver pass "
            "on what it is told"
        )
    webhook = Webhook(
        name=name,
        url=url,
        events=tuple(dict.fromkeys(events)),
        models=tuple(dict.fromkeys(models)),
        secret=_new_secret(),
        created_by=actor,
        created_at=clock(),
    )
    return await webhooks.create(webhook, actor=actor)


async def webhook(webhooks: WebhookStore, name: str) -> WebhookStanding:
    """The webhook of that name.

    Raises:
        NotFound: there is none.
        StoreUnavailable: the database is away.
    """
    known = await webhooks.webhooks()
    found = next((each for each in known if each.webhook.name == name), None)
    if found is None:
        raise _unknown(name, [each.webhook.name for each in known])
    return found


async def send_test(
    webhooks: WebhookStore, sender: WebhookSender, name: str, *, actor: str, clock: Callable[[], float]
) -> Reply:
    """Send it a `webhook.test`, signed like everything else, once; nothing of it is kept.

    Raises:
        NotFound: there is no such webhook.
        StoreUnavailable: the database is away.
    """
    receiver = (await webhook(webhooks, name)).webhook
    now = clock()
    event = Event(type=EventType.WEBHOOK_TEST, at=now, data={"webhook": name, "by": actor})
    body = event.body().encode()
    message_id = f"msg_{secrets.token_hex(16)}"
    headers = rules.headers(receiver.secrets(now), message_id=message_id, now=now, body=body)
    return await sender.send(receiver.url, headers, body)


async def rotate(webhooks: WebhookStore, name: str, *, grace: float, actor: str) -> Webhook:
    """Give it another secret; for `grace` seconds, what is sent is signed with the present one, too.

    Raises:
        InvalidInput: the grace is out of range.
        NotFound: there is no such webhook.
        StoreUnavailable: the database is away.
    """
    if not 0 <= grace <= rules.LONGEST_GRACE:
        raise InvalidInput(f"grace: {grace:g} s is out of range; allowed are 0 s to {rules.LONGEST_GRACE / 86_400:g} d")
    rotated = await webhooks.rotate(name, _new_secret(), grace=grace, actor=actor)
    if rotated is None:
        raise _unknown(name, [each.webhook.name for each in await webhooks.webhooks()])
    return rotated


async def delete(webhooks: WebhookStore, name: str, *, actor: str) -> int:
    """End it; returns how many deliveries waited, which nobody gets now.

    Raises:
        NotFound: there is no such webhook.
        StoreUnavailable: the database is away.
    """
    waited = await webhooks.delete(name, actor=actor)
    if waited is None:
        raise _unknown(name, [each.webhook.name for each in await webhooks.webhooks()])
    return waited


async def deliveries(
    webhooks: WebhookStore, *, name: str, state: str, before: int, size: int
) -> tuple[Sequence[DeliveryLine], int]:
    """A page of deliveries, newest first, and the id that the next one goes on before (0: there is none).

    Raises:
        InvalidInput: the state or the size is none.
        NotFound: there is no such webhook.
        StoreUnavailable: the database is away.
    """
    if not 0 <= size <= MOST_LISTED:
        raise InvalidInput(f"page_size: {size} is out of range; allowed are 1 to {MOST_LISTED}")
    try:
        wanted = DeliveryState(state) if state else None
    except ValueError:
        raise InvalidInput(f"state: {state!r} is none; allowed are {', '.join(DeliveryState)}") from None
    if name:
        await webhook(webhooks, name)
    most = size or DEFAULT_LISTED
    found = await webhooks.deliveries(name, state=wanted, before=before, most=most + 1)
    return found[:most], found[most - 1].id if len(found) > most else 0


async def retry(webhooks: WebhookStore, *, name: str, ids: Sequence[int], actor: str) -> int:
    """Have those sent again that were given up, by these ids or all; returns how many.

    Raises:
        NotFound: there is no such webhook, or none of these deliveries was given up.
        StoreUnavailable: the database is away.
    """
    if name:
        await webhook(webhooks, name)
    count = await webhooks.retry(name, ids, actor=actor)
    if ids and not count:
        raise NotFound("none of these deliveries is parked; see `shadowctl webhook deliveries --state parked`")
    return count


def _new_secret() -> str:
    return rules.secret_of(secrets.token_bytes(rules.SECRET_BYTES))


def _unknown(name: str, known: Sequence[str]) -> NotFound:
    there_is = names.listed(known) if known else "none yet; make one with `shadowctl webhook create NAME URL`"
    return NotFound(f"there is no webhook {name!r}; there is {there_is}")
