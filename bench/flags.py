"""What reading four flags costs a request: the stock SDK and core, and the router's ways.

    python bench/flags.py

Four versions of one model, as during an experiment with a rollout: one static flag, two shadows at a share, one
targeting rule. Every way reads the same flags for the same requests, in turns, and must come to the same claims. The
router's own way: 20 microseconds at most. Ways of a foreign source are shown for what they cost. All of it is
processor time of this process, with all its threads, so that a busy machine does not decide.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

from openfeature import api
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from rich.console import Console
from rich.table import Table

from multishadow_server.adapters.flag_provider import NamedProvider
from multishadow_server.adapters.openfeature_flags import (
    ConfigurationProvider,
    OpenFeatureClaims,
    evaluation_context,
)
from multishadow_server.adapters.provider_claims import ProviderClaims
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting import Context, context_of

ROUNDS = 15
REQUESTS = 2_000
GOAL_MICROSECONDS = 20.0
NAMES = ("base", "A", "B", "C")
BETA = {"if": [{"==": [{"var": "group"}, "beta"]}, "live", "shadow"]}
CONFIGURATION = Configuration(
    revision=1,
    models={"spam": Model(name="spam", versions=tuple(Version(model="spam", name=n, address="a") for n in NAMES))},
    flags={
        "spam.base": claim_definition("spam", Claim.LIVE),
        "spam.A": claim_definition("spam", Claim.SHADOW, 25),
        "spam.B": claim_definition("spam", Claim.SHADOW, 5),
        "spam.C": {**claim_definition("spam", Claim.OFF), "targeting": BETA},
    },
)
KEYS = tuple(CONFIGURATION.flags)
Reading = Callable[[Callable[[], Context]], Sequence[str]]


def context(number: int) -> Context:
    """One request's."""
    group = "beta" if number % 7 == 0 else "all"
    return context_of(
        model="spam",
        request_id=f"request-{number}",
        session_id=f"session-{number % 500}",
        attributes={"group": group, "country": "NO", "age": 41.0},
    )


def stock_core() -> Reading:
    """flagd-core without the SDK."""
    core = FlagdCore()
    core.set_flags({"flags": {key: dict(flag) for key, flag in CONFIGURATION.flags.items()}})

    def read(make: Callable[[], Context]) -> Sequence[str]:
        subject = evaluation_context(make())
        return [core.resolve_string_value(key, "off", subject).value for key in KEYS]

    return read


def stock_sdk() -> Reading:
    """The SDK's client over flagd-core: what any application does."""
    provider = ConfigurationProvider()
    provider.load(CONFIGURATION)
    api.set_provider_and_wait(provider, domain="stock")
    client = api.get_client("stock")

    def read(make: Callable[[], Context]) -> Sequence[str]:
        subject: EvaluationContext = evaluation_context(make())
        return [client.get_string_value(key, "off", subject) for key in KEYS]

    return read


def own() -> Reading:
    """The router's, over our own flags."""
    claims = OpenFeatureClaims(ConfigurationProvider())
    claims.load(CONFIGURATION)
    return lambda make: claims.read(KEYS, make)


def foreign(*, local: bool) -> tuple[ProviderClaims, Callable[[Callable[[], Context]], Awaitable[Sequence[str]]]]:
    """The router's, over somebody else's provider."""
    provider = ConfigurationProvider()
    provider.load(CONFIGURATION)
    claims = ProviderClaims(NamedProvider(name="foreign", provider=provider, local=local), limit=1.0)
    claims.load(CONFIGURATION)

    async def read(make: Callable[[], Context]) -> Sequence[str]:
        found = claims.read(KEYS, make)
        return found if isinstance(found, Sequence) else await found

    return claims, read


async def measure() -> None:
    """Read in turns, and print."""
    ways: dict[str, Reading] = {
        "stock SDK and core": stock_sdk(),
        "stock core alone": stock_core(),
        "router, own flags": own(),
    }
    here, in_loop = foreign(local=True)
    aside, in_threads = foreign(local=False)
    await asyncio.gather(here.first_reading(), aside.first_reading())
    awaited = {"router, foreign provider in memory": in_loop, "router, foreign provider in threads": in_threads}
    makers = [lambda number=number: context(number) for number in range(REQUESTS)]
    expected = [tuple(ways["stock SDK and core"](make)) for make in makers]
    times: dict[str, list[float]] = {name: [] for name in (*ways, *awaited)}
    for _ in range(ROUNDS):
        for name, read in ways.items():
            began = time.process_time()
            found = [read(make) for make in makers]
            times[name].append((time.process_time() - began) / REQUESTS * 1e6)
            assert [tuple(claims) for claims in found] == expected, name
        for name, read_async in awaited.items():
            began = time.process_time()
            found = [await read_async(make) for make in makers]
            times[name].append((time.process_time() - began) / REQUESTS * 1e6)
            assert [tuple(claims) for claims in found] == expected, name
    show(times)
    here.close()
    aside.close()
    api.shutdown()


def show(times: dict[str, list[float]]) -> None:
    """Print medians, and each way's ratio to the stock one of the same round."""
    table = Table(title=f"four flags per request, {REQUESTS} requests, {ROUNDS} rounds in turns")
    table.add_column("way")
    for column in ("CPU µs, median", "CPU µs, best", "of stock"):
        table.add_column(column, justify="right")
    stock = times["stock SDK and core"]
    for name, taken in times.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(taken, stock, strict=True))
        table.add_row(name, f"{statistics.median(taken):.1f}", f"{min(taken):.1f}", f"{ratio:.2f}")
    console = Console(width=100)
    console.print(table)
    reached = statistics.median(times["router, own flags"])
    console.print(f"goal: at most {GOAL_MICROSECONDS:g} µs by the router's own way; measured {reached:.1f}")


def main() -> None:
    """Measure."""
    gc.freeze()
    asyncio.run(measure())


if __name__ == "__main__":
    main()
