"""One request through a router and a worker, as a collector sees it over OTLP."""

from __future__ import annotations

import pytest

from collector import collecting
from multishadow_server.core.routing import Claim
from multishadow_server.settings import Settings
from routers import a_request, register, router, saying, version
from running_control import asked, control_address
from shadowed_traffic import working
from version_servers import labelled
from waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
PREDICT = "multishadow.v1.PredictionService/Predict"


async def test_a_request_is_followed_from_its_caller_to_what_its_shadow_made_of_it(
    database_url: str, nats_url: str, log_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = saying(labelled("yes").SerializeToString())
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        settings = Settings(
            database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=1, worker_linger=0.05
        )
        async with version(answer) as live, version(answer) as shadow:
            await register(database_url, {"base": live.address, "A": shadow.address}, {"base": Claim.LIVE})
            async with control_address(database_url) as control, asked(control) as ask:
                await ask.start("A", percent=100)
            async with router(database_url, nats_url, log_name) as caller, working(settings):
                for text, sampled in (("one", "00"), ("two", "01")):
                    await caller.predict(
                        a_request(text=text), metadata=(("traceparent", f"00-{TRACE}-{CALLER}-{sampled}"),)
                    )
                await until(lambda: collector.named("multishadow-worker", "shadow"))
                await until(lambda: len(shadow.metadata) == 2)
    # Of the request that its caller did not sample nothing is told.
    (server,) = collector.named("multishadow-router", PREDICT)[-1:]
    (asked_live,) = [each for each in collector.spans if each.parent == server.id]
    assert server.trace == asked_live.trace == bytes.fromhex(TRACE)
    assert server.parent == bytes.fromhex(CALLER)
    assert server.attributes["multishadow.version"] == "base"
    assert live.metadata[1]["traceparent"] == f"00-{TRACE}-{asked_live.id.hex()}-01"

    (work,) = collector.named("multishadow-worker", "shadow")
    assert work.links == ((server.trace, server.id),)
    assert work.trace != server.trace
    (observed,) = [each for each in collector.spans if each.parent == work.id]
    assert (observed.name, observed.attributes["multishadow.outcome"]) == ("shadow A", "ok")
    (called, compared) = [each for each in collector.spans if each.parent == observed.id]
    assert (called.name, compared.name) == (PREDICT, "compare")
    # Sampled (1), by an id that is random (2).
    told = [each["traceparent"] for each in shadow.metadata]
    assert f"00-{work.trace.hex()}-{called.id.hex()}-03" in told
    assert len(collector.spans) == 6
