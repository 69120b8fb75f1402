"""Webhooks: what may be one, how it is signed, when it is sent again, and what is told of what happened."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import webhook_events, webhooks
from multishadow_server.core.alarms import AlarmKey, AlarmKind, Finding
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.rollout import Decision, Move, Rollout, RolloutState, Terms
from multishadow_server.core.webhooks import DeliveryState, Event, EventType, Reply, Webhook
from multishadow_server.errors import InvalidInput

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOUR = 3_600.0
DOCS = Path(__file__).parents[2] / "docs"


def test_a_signature_is_that_of_the_specification() -> None:
    # The example of the Standard Webhooks specification and of its reference libraries' tests.
    signed = webhooks.signature(
        [SECRET],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_former_secret_signs_too_until_its_time_is_over() -> None:
    webhook = Webhook(
        name="ci",
        url="https://ci.example/x",
        secret=SECRET,
        created_by="ada",
        created_at=0,
        former_secret=webhooks.secret_of(b"f" * 32),
        former_until=100.0,
    )
    assert webhook.secrets(99.9) == (SECRET, webhook.former_secret)
    assert webhook.secrets(100.0) == (SECRET,)
    both = webhooks.headers(webhook.secrets(0), message_id="msg_1", now=12.9, body=b"{}")
    assert both["webhook-timestamp"] == "12"
    assert [part[:3] for part in both["webhook-signature"].split(" ")] == ["v1,", "v1,"]


def test_what_is_shown_of_a_url_is_its_origin() -> None:
    webhook = Webhook(
        name="chat", url="https://hooks.example:8443/T0/s3cret?key=1", secret=SECRET, created_by="", created_at=0
    )
    assert webhook.origin == "https://hooks.example:8443"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example/x",
        "ftp://hooks.example/s3cret",
        "https:///s3cret",
        "https://hooks.example:nine/s3cret",
        "https://hooks.example:0/s3cret",
        "https://[::1/s3cret",
        "https://ada:s3cret@hooks.example/",
        "https://hooks.example/s3cret\r\nx: y",
        "https://hooks.example/s3cret ü",
        "https://hooks.example/s3cret" + "a" * webhooks.LONGEST_URL,
    ],
)
def test_what_cannot_be_posted_to_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url: ") as refused:
        webhooks.check_url(url)
    assert "s3cret" not in str(refused.value)


def test_a_url_may_name_a_port_an_address_and_no_path() -> None:
    for url in ("https://hooks.example", "http://127.0.0.1:9/x?y=z", "http://[::1]:80/"):
        webhooks.check_url(url)


def test_what_is_not_told_cannot_be_asked_for() -> None:
    webhooks.check_events([EventType.VERSION_PROMOTED, EventType.ALARM_RAISED])
    with pytest.raises(InvalidInput, match=r"'version\.lost': not known; allowed are winner\.proven, "):
        webhooks.check_events(["version.lost"])
    with pytest.raises(InvalidInput, match=r"'webhook\.test'"):
        webhooks.check_events([EventType.WEBHOOK_TEST])
    with pytest.raises(InvalidInput, match="is no name"):
        webhooks.check_name("a b")


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_a_receiver_may_be_broken_for_about_a_day(draw: float) -> None:
    waits = []
    for attempts in range(1, webhooks.MOST_ATTEMPTS + 1):
        fate = webhooks.fate(Reply(status=503), attempts=attempts, draw=draw)
        if fate.wait is None:
            break
        waits.append(fate.wait)
    assert fate.state is DeliveryState.PARKED
    assert len(waits) == webhooks.MOST_ATTEMPTS - 1
    assert 18 * HOUR < sum(waits) < 28 * HOUR
    assert all(later > earlier * 1.5 for earlier, later in itertools.pairwise(waits[:7])), "exponential"
    assert max(waits) <= webhooks.LONGEST_WAIT * (1 + webhooks.JITTER)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_any_success_delivers(status: int) -> None:
    assert webhooks.fate(Reply(status=status), attempts=1, draw=0).state is DeliveryState.DELIVERED


@pytest.mark.parametrize("status", [None, 301, 308, 400, 404, 429, 500, 503])
def test_whatever_else_comes_is_tried_again(status: int | None) -> None:
    assert webhooks.fate(Reply(status=status), attempts=1, draw=0).state is DeliveryState.WAITING


def test_a_receiver_that_is_gone_is_left_alone_at_once() -> None:
    assert webhooks.fate(Reply(status=410), attempts=1, draw=0).state is DeliveryState.PARKED


def test_a_receiver_may_ask_to_be_left_alone_but_not_for_ever() -> None:
    assert webhooks.fate(Reply(status=429, retry_after=120), attempts=1, draw=0.5).wait == 120
    assert webhooks.fate(Reply(status=429, retry_after=1), attempts=1, draw=0.5).wait == webhooks.FIRST_WAIT
    assert webhooks.fate(Reply(status=429, retry_after=1e9), attempts=1, draw=0.5).wait == webhooks.LONGEST_WAIT


def test_a_body_says_what_happened_when_and_to_which_model() -> None:
    event = Event(type=EventType.VERSION_PROMOTED, at=1_795_435_200.25, model="spam", data={"version": "Ä"})
    assert json.loads(event.body()) == {
        "type": "version.promoted",
        "timestamp": "2026-11-23T12:00:00.250Z",
        "data": {"model": "spam", "version": "Ä"},
    }


def test_an_alarm_is_told_with_its_remedy_and_an_experiment_with_its_end() -> None:
    finding = Finding(key=AlarmKey(AlarmKind.LAG, "", "worker-1"), detail="90 s behind")
    raised = webhook_events.alarm_raised(finding, at=1)
    assert (raised.type, raised.data["alarm"], raised.data["detail"]) == (EventType.ALARM_RAISED, "lag", "90 s behind")
    assert "run more workers" in raised.data["remedy"]
    experiment = Experiment(
        id=7,
        model="spam",
        candidates=("A",),
        percent=25,
        bucket_seconds=3600,
        started_at=0,
        ends_at=1,
        started_by="ada",
    )
    ended = webhook_events.experiment_ended(experiment, reason="time box of 1 s ended", at=1)
    assert ended.data == {"experiment": 7, "candidates": ["A"], "reason": "time box of 1 s ended"}


def test_the_check_of_the_documentation_takes_what_is_signed_and_nothing_else() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "webhooks.md").read_text(), flags=re.DOTALL)
    page: dict[str, Any] = {}
    exec(program, page)
    body = b'{"type": "webhook.test"}'
    sent = webhooks.headers([webhooks.secret_of(b"n" * 32), SECRET], message_id="msg_1", now=1_000, body=body)
    assert page["is_genuine"](sent, body, SECRET, now=1_200)
    assert not page["is_genuine"](sent, body + b" ", SECRET, now=1_200)
    assert not page["is_genuine"](sent, body, webhooks.secret_of(b"x" * 32), now=1_200)
    assert not page["is_genuine"](sent, body, SECRET, now=2_000), "recorded, and sent again"
    assert not page["is_genuine"](sent | {"webhook-id": "msg_2"}, body, SECRET, now=1_200)


def test_the_documentation_names_every_event() -> None:
    page = (DOCS / "webhooks.md").read_text()
    assert not [kind for kind in EventType if f"`{kind}`" not in page]


def rollout(**more: Any) -> Rollout:
    values: dict[str, Any] = {
        "id": 3, "model": "spam", "version": "A", "previous": "base", "address": "", "terms": Terms(stages=(5, 100)),
        "state": RolloutState.RUNNING, "stage": 0, "first_revision": 1, "stage_revision": 1, "entered_at": 0.0,
        "setbacks": 0, "turn": 1, "baseline": {}, "started_at": 0.0, "started_by": "ada", "reason": "",
        "changed_by": "ada", "note": "", "ended_at": None, "plan": "custom",
    }  # fmt: skip
    return Rollout(**(values | more))


@pytest.mark.parametrize(
    ("move", "state", "told"),
    [
        (Move.PAUSE, RolloutState.PAUSED, EventType.ROLLOUT_HELD),
        (Move.SET_BACK, RolloutState.RUNNING, EventType.ROLLOUT_HELD),
        (Move.COMPLETE, RolloutState.COMPLETED, EventType.ROLLOUT_FINISHED),
        (Move.ABORT, RolloutState.ABORTED, EventType.ROLLOUT_FINISHED),
        (Move.ROLL_BACK, RolloutState.ROLLED_BACK, EventType.ROLLOUT_FINISHED),
        (Move.ADVANCE, RolloutState.RUNNING, None),
        (Move.RESUME, RolloutState.RUNNING, None),
    ],
)
def test_a_rollout_is_told_when_it_is_held_and_when_it_is_finished(
    move: Move, state: RolloutState, told: EventType | None
) -> None:
    decision = Decision(move=move, stage=0, why="p99 is too high")
    event = webhook_events.rollout_moved(rollout(state=state), decision, percent=5, by="control", at=1)
    assert (event.type if event else None) == told
    if event is not None:
        assert (event.model, event.data["why"], event.data["state"]) == ("spam", "p99 is too high", state)
