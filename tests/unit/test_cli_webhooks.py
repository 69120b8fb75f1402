"""`shadowctl webhook`: what it asks, shows, and ends with."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from test_cli_commands import Shadowctl, shadowctl

import control_fixtures as reports
from control_fixtures import NOON, CannedControl, at
from multishadow.v1 import webhooks_pb2 as pb
from multishadow_client.cli import completion
from multishadow_server.core.webhooks import SUBSCRIBABLE

__all__ = ["shadowctl"]  # a fixture

CI = pb.Webhook(
    name="ci", origin="https://ci.example", created_at=at(NOON), created_by="ann", waiting=2, delivered=7, parked=1
)
LATE = pb.Delivery(
    id=4711, webhook="ci", message_id="msg_1", event="version.promoted", model="spam", state="parked", attempts=13,
    status=503, response="no", created_at=at(NOON), changed_at=at(NOON), body="{}",
)  # fmt: skip


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["GetWebhook"] = pb.GetWebhookResponse(webhook=CI)
        canned.answers["ListDeliveries"] = pb.ListDeliveriesResponse(deliveries=[LATE], next_before_id=4711)
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "140")
        yield canned


def test_a_webhook_is_made_and_its_secret_shown(
    control: CannedControl, shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.answers["CreateWebhook"] = pb.CreateWebhookResponse(webhook=CI, secret="whsec_abc")
    monkeypatch.setattr("sys.stdin", io.StringIO("https://ci.example/s3cret\n"))
    made = shadowctl("webhook", "create", "ci", "-", "--event", "alarm.raised", "-m", "spam")
    assert made.code == 0, made.err
    assert "whsec_abc" in made.out
    assert "the only time that it is shown" in made.out
    assert control.asked(pb.CreateWebhookRequest) == [
        pb.CreateWebhookRequest(
            name="ci", url="https://ci.example/s3cret", events=["alarm.raised"], models=["spam"], actor="ann"
        )
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert shadowctl("webhook", "create", "ci", "-").code == 2


def test_one_is_shown_with_what_was_sent_to_it_last(control: CannedControl, shadowctl: Shadowctl) -> None:
    shown = shadowctl("webhook", "show", "ci")
    assert "7 delivered, 2 wait, 1 parked" in shown.out
    assert "503" in shown.out
    listed = shadowctl("webhook", "deliveries", "ci", "--state", "parked")
    assert "version.promoted" in listed.out
    assert "--before 4711" in listed.err
    control.answers["ListWebhooks"] = pb.ListWebhooksResponse(webhooks=[CI])
    assert "everything" in shadowctl("webhook", "list").out


def test_a_test_that_fails_ends_with_1(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["TestWebhook"] = pb.TestWebhookResponse(detail="ConnectError: refused", seconds=0.25)
    tested = shadowctl("webhook", "test", "ci")
    assert (tested.code, tested.out) == (1, "ci: ConnectError: refused after 0.25 s\n")
    control.answers["TestWebhook"] = pb.TestWebhookResponse(delivered=True, status=204, seconds=0.25)
    assert shadowctl("webhook", "test", "ci").code == 0


def test_a_secret_is_rotated_with_or_without_grace(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["RotateWebhookSecret"] = pb.RotateWebhookSecretResponse(webhook=CI, secret="whsec_new")
    assert "whsec_new" in shadowctl("webhook", "rotate", "ci").out
    shadowctl("webhook", "rotate", "ci", "--now")
    assert [request.grace_seconds for request in control.asked(pb.RotateWebhookSecretRequest)] == [86_400, 0]


def test_deleting_asks_and_retrying_wants_to_know_which(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["DeleteWebhook"] = pb.DeleteWebhookResponse(waited=2)
    control.answers["RetryDeliveries"] = pb.RetryDeliveriesResponse(count=3)
    assert shadowctl("webhook", "delete", "ci").code == 2, "nobody is there to be asked"
    assert shadowctl("webhook", "delete", "ci", "--yes").out == "ci is deleted; 2 messages waited for it\n"
    assert shadowctl("webhook", "retry").code == 2
    assert shadowctl("webhook", "retry", "4711", "--all").code == 2
    assert shadowctl("webhook", "retry", "--all", "--webhook", "ci").out == "3 are sent again\n"


def test_what_can_be_told_is_completed() -> None:
    assert completion.events("") == list(SUBSCRIBABLE)
    assert completion.events("alarm.") == ["alarm.raised", "alarm.cleared"]
