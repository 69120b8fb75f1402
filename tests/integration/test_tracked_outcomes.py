"""What applications track becomes labels in control, and never gets in the application's way."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.track import TrackingEventDetails

from control_fixtures import CannedControl, serving
from flagd_sync_server import SyncServer, flag_set, publishing
from multishadow.v1 import control_pb2 as pb
from multishadow_client import _outcomes
from multishadow_client.openfeature import MultishadowProvider, OutcomeCounts, Tracking
from running_control import Control, asked, control_address
from waiting import until, until_sync


@pytest.fixture
def flags() -> Iterator[SyncServer]:
    with publishing(flag_set({})) as server:
        yield server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def application(flags: SyncServer, control: str, **tracking: Any) -> Iterator[tuple[OpenFeatureClient, Any]]:
    """An application that tracks, and its provider."""
    domain = f"tracking-{time.monotonic_ns()}"
    terms = Tracking(control=control, **{"model": "spam", "flush_interval": 0.05, "flush_at_end": 5.0, **tracking})
    provider = MultishadowProvider(flags.address, tracking=terms)
    api.set_provider_and_wait(provider, domain=domain)
    try:
        yield api.get_client(domain), provider
    finally:
        provider.shutdown()
        api.clear_providers()


async def labelled(address: str, stack: AsyncExitStack) -> Control:
    """The control there, with a model whose answers are kept to be labelled, and one whose are not."""
    control = await stack.enter_async_context(asked(address))
    terms = pb.LabelTerms(delay_seconds=60, keep_seconds=3600)
    await control.apply("base", labels=terms)
    await control.apply("base", model="unlabelled")
    return control


async def tally(control: Control) -> pb.GetLabelTallyResponse:
    found: pb.GetLabelTallyResponse = await control.stub.GetLabelTally(pb.GetLabelTallyRequest(model="spam"))
    return found


def outcome(request_id: str, **attributes: Any) -> TrackingEventDetails:
    return TrackingEventDetails(attributes={"request_id": request_id, **attributes})


async def test_a_tracked_outcome_is_a_label_of_its_request(
    database_url: str, flags: SyncServer, stack: AsyncExitStack
) -> None:
    address = await stack.enter_async_context(control_address(database_url))
    control = await labelled(address, stack)
    with application(flags, address, actor="shop") as (client, provider):
        client.track("outcome", tracking_event_details=outcome("r-1", label="spam"))
        client.track("outcome", EvaluationContext("user-1", {"request_id": "r-2"}), TrackingEventDetails(value=0.5))
        client.track("outcome", tracking_event_details=outcome("r-3", label={"class": "spam", "sure": True}))
        # Of a request that was labelled already the last one counts, and control sorts that out.
        client.track("outcome", tracking_event_details=outcome("r-1", label="ham"))
        await until(lambda: provider.outcomes == OutcomeCounts(recorded=4))
    assert (await tally(control)).waiting == 3


async def test_what_waits_is_sent_when_the_application_ends(
    database_url: str, flags: SyncServer, stack: AsyncExitStack
) -> None:
    address = await stack.enter_async_context(control_address(database_url))
    control = await labelled(address, stack)
    with application(flags, address, flush_interval=3600.0) as (client, provider):
        for n in range(1_200):
            client.track("outcome", tracking_event_details=outcome(f"r-{n}", label="spam"))
        await asyncio.to_thread(provider.shutdown)
        assert provider.outcomes == OutcomeCounts(recorded=1_200)
    assert (await tally(control)).waiting == 1_200


async def test_what_control_refuses_is_counted_and_holds_up_nothing_else(
    database_url: str, flags: SyncServer, stack: AsyncExitStack
) -> None:
    address = await stack.enter_async_context(control_address(database_url))
    control = await labelled(address, stack)
    with application(flags, address, flush_interval=0.5) as (client, provider):
        for n in range(50):
            label = math.nan if n == 17 else "spam"
            client.track("outcome", tracking_event_details=outcome(f"r-{n}", label=label))
        client.track("outcome", tracking_event_details=outcome("r-1", label="spam", model="unlabelled"))
        client.track("outcome", tracking_event_details=outcome("r-1", label="spam", model="nowhere"))
        await until(lambda: provider.outcomes == OutcomeCounts(recorded=49, refused=3))
    assert (await tally(control)).waiting == 49


async def test_a_label_that_control_itself_fails_on_is_given_up_alone(flags: SyncServer) -> None:
    def fails_on_seventeen(requests: Any) -> pb.ImportLabelsResponse:
        if "r-17" in [request.request_id for request in requests]:
            raise RuntimeError("a mistake of the server's")
        return pb.ImportLabelsResponse()

    with ExitStack() as stack:
        canned = stack.enter_context(serving(CannedControl(answers={"ImportLabels": fails_on_seventeen})))
        client, provider = stack.enter_context(application(flags, canned.address, flush_interval=0.5))
        for n in range(40):
            client.track("outcome", tracking_event_details=outcome(f"r-{n}", label="spam"))
        await until(lambda: provider.outcomes == OutcomeCounts(recorded=39, refused=1))


async def test_while_control_is_away_outcomes_wait_within_bounds_and_none_is_told_twice(
    database_url: str, flags: SyncServer, stack: AsyncExitStack, free_port: int
) -> None:
    address = f"127.0.0.1:{free_port}"
    with application(flags, address, most_waiting=700) as (client, provider):
        began = time.monotonic()
        for n in range(5_000):
            client.track("outcome", tracking_event_details=outcome(f"r-{n}", label="spam"))
        assert time.monotonic() - began < 10.0
        assert provider.outcomes == OutcomeCounts(waiting=700, dropped=4_300)
        running = await stack.enter_async_context(control_address(database_url, control_listen=address))
        control = await labelled(running, stack)
        # Those that came before the model was there are refused, and they are counted, too.
        await until(lambda: provider.outcomes.waiting == 0)
        assert provider.outcomes.recorded + provider.outcomes.refused == 700
        assert (await tally(control)).waiting == provider.outcomes.recorded


def test_a_control_that_hangs_delays_neither_the_application_nor_its_end(flags: SyncServer) -> None:
    with ExitStack() as stack:
        # It accepts connections, and never says a word.
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        client, provider = stack.enter_context(application(flags, address, flush_at_end=0.2))
        client.track("outcome", tracking_event_details=outcome("r-1", label="spam"))
        until_sync(lambda: [thread for thread in threading.enumerate() if thread.name == "multishadow-outcomes"])
        began = time.monotonic()
        provider.shutdown()
        assert time.monotonic() - began < 10.0, "as long as a call may take"
        assert provider.outcomes == OutcomeCounts(dropped=1)
        assert not [thread for thread in threading.enumerate() if thread.name == "multishadow-outcomes"]


# The last two are no events that the SDK's types allow. Applications send them all the same.
@pytest.mark.parametrize(
    ("context", "details"),
    [
        (None, None),
        (None, TrackingEventDetails(value=1.0)),
        (EvaluationContext("u", {"request_id": "r"}), TrackingEventDetails()),
        (EvaluationContext("u", {"request_id": 7}), TrackingEventDetails(value=1.0)),
        (None, TrackingEventDetails(attributes={"request_id": "", "label": "spam"})),
        (None, TrackingEventDetails(attributes={"request_id": "r", "label": object()})),  # type: ignore[dict-item]
        (None, TrackingEventDetails(attributes=7)),  # type: ignore[arg-type]
    ],
)
def test_an_event_that_is_no_outcome_is_ignored(
    flags: SyncServer, context: EvaluationContext | None, details: TrackingEventDetails | None
) -> None:
    with application(flags, "127.0.0.1:1") as (client, provider):
        client.track("checkout", context, details)
        assert provider.outcomes == OutcomeCounts(ignored=1)


def test_only_events_that_are_said_to_be_outcomes_are_taken(flags: SyncServer) -> None:
    with application(flags, "127.0.0.1:1", events={"outcome"}, flush_at_end=0.0) as (client, provider):
        client.track("click", tracking_event_details=outcome("r-1", label="spam"))
        assert provider.outcomes == OutcomeCounts()
        client.track("outcome", tracking_event_details=outcome("r-1", label="spam"))
        assert provider.outcomes == OutcomeCounts(waiting=1)


def test_the_batches_are_those_that_control_takes_whole() -> None:
    from multishadow_server.service import labelling  # noqa: PLC0415  the client itself must not know it

    assert _outcomes.BATCH == labelling.MOST_AT_ONCE
