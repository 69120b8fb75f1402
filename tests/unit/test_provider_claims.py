"""Claims from a foreign flag source: whatever becomes of it, no request waits longer than the limit for it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, FlagNotFoundError, GeneralError, ProviderFatalError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

from multishadow_server.adapters.flag_provider import NamedProvider
from multishadow_server.adapters.provider_claims import THREADS, ProviderClaims
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting import Context, context_of
from multishadow_server.errors import FailedPrecondition
from waiting import PATIENCE, until

LIMIT = 0.05


class Vendor(AbstractProvider):
    """A flag source in a test's hands, asked for text flags only."""

    def __init__(self, says: dict[str, str]) -> None:
        super().__init__()
        self.says = says
        self.answering = threading.Event()
        self.answering.set()
        self.error: Exception | None = None
        self.start_error: Exception | None = None
        self.seconds = 0.0
        self.asked: list[tuple[str, str | None]] = []

    def initialize(self, evaluation_context: Any) -> None:
        if self.start_error is not None:
            raise self.start_error

    def shutdown(self) -> None:
        self.answering.set()

    def get_metadata(self) -> Metadata:
        return Metadata(name="Vendor")

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: Any = None
    ) -> FlagResolutionDetails[str]:
        self.asked.append((flag_key, evaluation_context.targeting_key))
        self.answering.wait()
        if self.seconds:
            time.sleep(self.seconds)  # a provider that takes its time
        if self.error is not None:
            raise self.error
        if flag_key not in self.says:
            raise FlagNotFoundError
        return FlagResolutionDetails(self.says[flag_key], reason=Reason.TARGETING_MATCH)

    def _not_text(self, *_: Any) -> Any:
        raise AssertionError("claims are text")

    resolve_boolean_details: Any = _not_text
    resolve_integer_details: Any = _not_text
    resolve_float_details: Any = _not_text
    resolve_object_details: Any = _not_text


def models(*names: str, model: str = "spam") -> Configuration:
    versions = tuple(
        Version(model=model, name=name, address="a", ordinal=n, created_at=float(n)) for n, name in enumerate(names)
    )
    return Configuration(revision=3, models={model: Model(name=model, versions=versions)})


TWO = models("base", "A")
KEYS = ("spam.base", "spam.A")
BASE_LIVE = {"spam.base": "live", "spam.A": "shadow"}


@asynccontextmanager
async def reading(vendor: Vendor, *, local: bool = False, **more: Any) -> AsyncIterator[ProviderClaims]:
    """Claims from this vendor, after the first reading."""
    named = NamedProvider(name="Vendor", provider=vendor, local=local)
    claims = ProviderClaims(named, **{"limit": LIMIT, **more})
    claims.load(TWO)
    try:
        await claims.first_reading()
        yield claims
    finally:
        vendor.answering.set()
        claims.close()


def request() -> Context:
    return context_of(model="spam", request_id="r", session_id="s", attributes={"group": "beta"})


async def read(claims: ProviderClaims, context: Callable[[], Context] = request) -> str:
    found = claims.read(KEYS, context)
    return " ".join(found if isinstance(found, Sequence) else await found)


async def timed(claims: ProviderClaims) -> tuple[str, float]:
    began = time.monotonic()
    found = await read(claims)
    return found, time.monotonic() - began


async def test_a_provider_in_memory_is_read_at_once_and_any_other_is_awaited() -> None:
    async with reading(Vendor(BASE_LIVE), local=True) as claims:
        assert claims.read(KEYS, request) == (Claim.LIVE, Claim.SHADOW)
    async with reading(Vendor(BASE_LIVE)) as claims:
        awaitable = claims.read(KEYS, request)
        assert not isinstance(awaitable, Sequence)
        assert await awaitable == (Claim.LIVE, Claim.SHADOW)


async def test_the_source_gets_what_our_own_rules_would() -> None:
    vendor = Vendor(BASE_LIVE)
    async with reading(vendor) as claims:
        vendor.asked.clear()
        await read(claims)
        assert vendor.asked == [("spam.base", "s"), ("spam.A", "s")]


async def test_an_unknown_flag_and_an_unknown_value_are_off() -> None:
    async with reading(Vendor({"spam.base": "live", "spam.A": "sometimes"})) as claims:
        assert await read(claims) == "live off"
    async with reading(Vendor({"spam.A": "live"}), local=True) as claims:
        assert await read(claims) == "off live"


async def test_a_hung_source_delays_few_requests_by_the_limit_and_then_none() -> None:
    vendor = Vendor(BASE_LIVE)
    async with reading(vendor, limit=0.05) as claims:
        vendor.answering.clear()
        delays = []
        for _ in range(12):
            found, delay = await timed(claims)
            assert found == "live shadow"
            delays.append(delay)
        assert [delay >= 0.04 for delay in delays[:3]] == [True] * 3
        # The rest does not ask at all. Asking would take the limit, each time.
        assert sum(delays[3:]) < 0.05 * 9 / 2
        assert claims.counters() == {"flag_reads_late": 3, "flag_reads_skipped": 9}
        assert claims.age > 0


async def test_the_event_loop_runs_on_while_the_source_hangs() -> None:
    vendor = Vendor(BASE_LIVE)
    async with reading(vendor, limit=0.2) as claims:
        vendor.answering.clear()
        asked = asyncio.ensure_future(read(claims))
        turns = 0
        while not asked.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100
        assert asked.result() == "live shadow"


async def test_more_readings_than_threads_are_not_queued_before_a_hung_source() -> None:
    vendor = Vendor(BASE_LIVE)
    async with reading(vendor, limit=600.0) as claims:
        vendor.answering.clear()
        waiting = [asyncio.ensure_future(read(claims)) for _ in range(THREADS)]
        await until(lambda: len(vendor.asked) >= THREADS)
        assert await asyncio.wait_for(read(claims), PATIENCE) == "live shadow"
        assert claims.counters()["flag_reads_refused"] == 1
        vendor.answering.set()
        assert set(await asyncio.gather(*waiting)) == {"live shadow"}


async def test_a_source_that_comes_back_is_read_again_and_what_changed_meanwhile_counts() -> None:
    vendor = Vendor(dict(BASE_LIVE))
    async with reading(vendor) as claims:
        vendor.answering.clear()
        for _ in range(3):
            await read(claims)
        vendor.says = {"spam.base": "live", "spam.A": "live"}
        vendor.answering.set()

        async def promoted() -> bool:
            return await read(claims) == "live live" and claims.age == 0

        await until(promoted)
        assert claims.source == "Vendor"


async def test_a_source_that_is_always_too_slow_is_still_followed_from_afar() -> None:
    vendor = Vendor(dict(BASE_LIVE))
    vendor.seconds = 0.02
    async with reading(vendor, limit=0.01) as claims:
        vendor.says = {"spam.base": "live", "spam.A": "live"}

        async def promoted() -> bool:
            return await read(claims) == "live live"

        await until(promoted)
        assert claims.age > 0


async def test_errors_of_the_source_keep_what_it_usually_said() -> None:
    vendor = Vendor(dict(BASE_LIVE))
    async with reading(vendor) as claims:
        for error in (GeneralError("UNAVAILABLE"), ConnectionError("reset"), ProviderFatalError()):
            vendor.error = error
            assert await read(claims) == "live shadow"
        assert claims.counters()["flag_reads_failed"] >= 1
        assert claims.age > 0


async def test_of_a_provider_in_memory_a_broken_flag_is_off() -> None:
    vendor = Vendor(dict(BASE_LIVE))
    async with reading(vendor, local=True) as claims:
        vendor.error = GeneralError("Resolved variant x not in variants config.")
        # All of them at once, so that nobody would be live: then the last known live version goes on.
        assert await read(claims) == "live off"
        assert claims.age == 0


async def test_flags_that_vanish_at_the_source_do_not_move_the_callers() -> None:
    vendor = Vendor({"spam.base": "live", "spam.A": "live"})
    async with reading(vendor) as claims:
        vendor.says = {}
        assert await read(claims) == "off live"


async def test_a_stale_source_is_read_on_and_its_age_is_told() -> None:
    now = [100.0]
    vendor = Vendor(dict(BASE_LIVE))
    async with reading(vendor, local=True, monotonic=lambda: now[0]) as claims:
        assert claims.age == 0
        vendor.emit_provider_stale(ProviderEventDetails(message="away"))
        assert claims.source == "Vendor (STALE)"
        await until(lambda: claims.age == 0 and claims.source == "Vendor (STALE)")
        now[0] += 7
        assert claims.age == 7
        vendor.says["spam.A"] = "off"
        assert await read(claims) == "live off"
        vendor.emit_provider_error(ProviderEventDetails(error_code=ErrorCode.GENERAL))
        assert claims.source == "Vendor (ERROR)"
        assert claims.age == 7
        vendor.emit_provider_ready(ProviderEventDetails())
        assert (claims.age, claims.source) == (0, "Vendor")


async def test_a_source_that_ends_for_good_leaves_what_it_usually_said() -> None:
    vendor = Vendor(dict(BASE_LIVE))
    async with reading(vendor, local=True) as claims:
        await read(claims)
        vendor.emit_provider_error(ProviderEventDetails(error_code=ErrorCode.PROVIDER_FATAL))
        assert await read(claims) == "live shadow"
        assert claims.source == "Vendor (FATAL)"
        assert claims.age > 0


async def test_a_source_that_can_never_be_used_ends_the_start() -> None:
    vendor = Vendor(BASE_LIVE)
    vendor.start_error = ProviderFatalError("the key was revoked")
    with pytest.raises(FailedPrecondition, match="Vendor cannot be used and says that this will not heal"):
        async with reading(vendor):
            pass


async def test_the_start_waits_for_a_source_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    vendor = Vendor(BASE_LIVE)
    vendor.error = GeneralError("connection refused")
    claims = ProviderClaims(NamedProvider(name="Vendor", provider=vendor, local=False), limit=LIMIT)
    claims.load(TWO)
    starting = asyncio.create_task(claims.first_reading())
    await until(lambda: "waiting for the flag source Vendor" in caplog.text)
    assert not starting.done()
    vendor.error = None
    await asyncio.wait_for(starting, PATIENCE)
    assert claims.age == 0
    claims.close()


async def test_a_provider_that_only_says_that_it_is_local_is_moved_to_threads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vendor = Vendor(BASE_LIVE)
    async with reading(vendor, local=True, limit=0.01) as claims:
        vendor.seconds = 0.01
        for _ in range(3):
            assert isinstance(claims.read(KEYS, request), Sequence)
        assert "is asked in threads from now on" in " ".join(caplog.text.split())
        awaitable = claims.read(KEYS, request)
        assert not isinstance(awaitable, Sequence)
        assert await awaitable == (Claim.LIVE, Claim.SHADOW)


async def test_keys_follow_the_template_and_no_two_versions_share_one(caplog: pytest.LogCaptureFixture) -> None:
    vendor = Vendor({"a-b-c": "live"})
    claims = ProviderClaims(
        NamedProvider(name="Vendor", provider=vendor, local=True), key_template="{model}-{version}", limit=LIMIT
    )
    first, second = models("c", model="a-b").models["a-b"], models("base", "b-c", model="a").models["a"]
    claims.load(Configuration(models={"a": second, "a-b": first}))
    await claims.first_reading()
    assert claims.read(("a-b.c",), request) == (Claim.LIVE,)
    assert claims.read(("a.base", "a.b-c"), request) == (Claim.OFF, Claim.OFF)
    assert "a.b-c counts as off: its flag at the source would be a-b-c, which is the flag of a-b.c" in caplog.text
    claims.close()


async def test_a_new_version_and_a_new_model_are_read_from_the_next_request_on() -> None:
    vendor = Vendor({**BASE_LIVE, "spam.B": "shadow", "ham.one": "live"})
    async with reading(vendor, local=True) as claims:
        grown = models("base", "A", "B").models
        claims.load(Configuration(models={**grown, **models("one", model="ham").models}))
        assert claims.read((*KEYS, "spam.B"), request) == (Claim.LIVE, Claim.SHADOW, Claim.SHADOW)
        assert claims.read(("ham.one",), request) == (Claim.LIVE,)
        vendor.emit_provider_error(ProviderEventDetails(error_code=ErrorCode.PROVIDER_FATAL))
        claims.load(Configuration(models=models("base", "A", "B", "C").models))
        assert claims.read((*KEYS, "spam.B", "spam.C"), request) == (Claim.LIVE, Claim.SHADOW, Claim.SHADOW, Claim.OFF)


async def test_no_thread_is_left_when_it_is_closed() -> None:
    async with reading(Vendor(BASE_LIVE)) as claims:
        await read(claims)
        own = {thread for thread in threading.enumerate() if thread.name.startswith("multishadow-flags")}
        assert own
    await until(lambda: not [thread for thread in own if thread.is_alive()])


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
