"""Posts webhooks over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import cached_property

import httpx

from multishadow_server.core.webhooks import KEPT_RESPONSE_BYTES, MOST_WEBHOOKS, Reply

USER_AGENT = "multishadow"


class HttpWebhookSender:
    """A WebhookSender.

    No redirect is followed: what is signed is for the receiver that somebody named, and nobody else's to lead
    elsewhere. Proxies and authorities are those of the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE).

    Args:
        limit: seconds that one attempt may take, with everything from resolving the name to reading the answer.
        of_each: most attempts at once to one receiver.
    """

    def __init__(self, *, limit: float, of_each: int) -> None:
        self._limit = limit
        self._of_each = of_each

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        # Made when the first webhook is due: reading the authorities costs a third of control's start, and most
        # have no webhook.
        return httpx.AsyncClient(
            follow_redirects=False,
            timeout=self._limit,
            # What hangs keeps its own connections only; nobody waits for a free one. A test may come between.
            limits=httpx.Limits(
                max_connections=MOST_WEBHOOKS * (self._of_each + 1), max_keepalive_connections=MOST_WEBHOOKS
            ),
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        )

    async def aclose(self) -> None:
        """Close its connections."""
        if "_client" in self.__dict__:
            await self._client.aclose()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Post once; never raises."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limit):
                status, answered, said = await self._post(url, headers, body)
        except TimeoutError:
            return Reply(detail=f"no answer within {self._limit:g} s", seconds=time.monotonic() - began)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # Words of the library, which name hosts and ports, not paths; some of its errors have none.
            detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return Reply(detail=detail[:KEPT_RESPONSE_BYTES], seconds=time.monotonic() - began)
        return Reply(
            status=status,
            detail=_detail(status),
            body=said.decode("utf-8", "replace"),
            retry_after=_seconds(answered.get("retry-after", "")),
            seconds=time.monotonic() - began,
        )

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, httpx.Headers, bytes]:
        async with self._client.stream("POST", url, headers=dict(headers), content=body) as response:
            said = b""
            # As it comes: what was compressed small may be anything when it is large.
            async for piece in response.aiter_raw(KEPT_RESPONSE_BYTES):
                said += piece
                if len(said) >= KEPT_RESPONSE_BYTES:
                    break
            return response.status_code, response.headers, said[:KEPT_RESPONSE_BYTES]


def _detail(status: int) -> str:
    if 300 <= status < 400:
        return "a redirect, which is not followed: give the webhook the URL that it leads to"
    return ""


def _seconds(retry_after: str) -> float | None:
    """RFC 9110, 10.2.3: seconds. Its other form, a date, depends on the receiver's clock and is passed over."""
    text = retry_after.strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None
