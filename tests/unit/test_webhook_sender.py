"""The sender of webhooks, where its surroundings fail it."""

from __future__ import annotations

import pytest

from multishadow_server.adapters.webhook_sender import HttpWebhookSender


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SSL_CERT_FILE", "/no/such/authorities.pem", "FileNotFoundError"),
        ("HTTPS_PROXY", "gopher://127.0.0.1:70", "gopher"),
    ],
)
async def test_an_environment_that_cannot_be_used_fails_the_attempt_and_not_control(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    sender = HttpWebhookSender(limit=5.0, of_each=1)
    reply = await sender.send("https://127.0.0.1:9/hook", {}, b"{}")
    assert reply.status is None
    assert said in reply.detail
    await sender.aclose()
