"""Claims from a flag source of the operator's choice, through any OpenFeature provider.

A provider that evaluates in this process's memory is asked in the event loop. Any other may block for as long as its
server pleases, even in its async methods, so it is asked in threads, and no request waits longer than the time limit
for it (docs/decisions/foreign-flag-sources.md).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.provider import ProviderStatus
from openfeature.provider.no_op_provider import NoOpProvider

from multishadow_server.adapters.flag_provider import NamedProvider
from multishadow_server.adapters.openfeature_flags import evaluation_context
from multishadow_server.adapters.reading_threads import ReadingThreads
from multishadow_server.core.circuit import Circuit
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.known_claims import KnownClaims
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim, Claims
from multishadow_server.core.targeting import Context, context_of
from multishadow_server.errors import FailedPrecondition
from multishadow_server.service import ports

logger = logging.getLogger(__name__)

# Each holds one request's reading, of a few milliseconds when all is well; more would only fight over the interpreter.
THREADS = 16
SLOW_READINGS_TO_MOVE = 3
PATIENCE = 5.0
FIRST_RETRY, LONGEST_RETRY = 0.05, 1.0
DEFAULT_TEMPLATE = "{model}.{version}"

_EVENTS = (ProviderEvent.PROVIDER_READY, ProviderEvent.PROVIDER_STALE, ProviderEvent.PROVIDER_ERROR)
_ABOUT_THE_FLAG = {
    ErrorCode.FLAG_NOT_FOUND,
    ErrorCode.TYPE_MISMATCH,
    ErrorCode.PARSE_ERROR,
    ErrorCode.TARGETING_KEY_MISSING,
    ErrorCode.INVALID_CONTEXT,
}
_domains = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """How one model's flags are read: their keys at the source (None: it may not be read), and what is known."""

    flag_keys: tuple[str, ...]
    source_keys: tuple[str | None, ...]
    known: KnownClaims


class ProviderClaims(ports.ClaimReader):
    """Reads what versions claim through an OpenFeature client of its own domain, and never blocks the event loop.

    Made, the provider begins to initialize, in a thread of the SDK's.

    Args:
        named: the provider.
        key_template: a flag's key at the source; `{model}` and `{version}` stand for their names.
        limit: longest time that a request waits for its claims, in seconds.
        monotonic: a clock, in seconds.
    """

    def __init__(
        self,
        named: NamedProvider,
        *,
        key_template: str = DEFAULT_TEMPLATE,
        limit: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._named = named
        self._local = named.local
        self._key_template = key_template
        self._limit = limit
        self._monotonic = monotonic
        self._plans: Mapping[tuple[str, ...], _Plan] = {}
        self._models: Mapping[str, _Plan] = {}
        self._threads = ReadingThreads(THREADS, name="multishadow-flags")
        self._circuit = Circuit()
        self._counters: Counter[str] = Counter()
        self._slow_readings = 0
        self._unread_since: float | None = None
        self._lost_at: float | None = monotonic()
        self._told = True
        self._domain = f"multishadow-router-source-{next(_domains)}"
        self.client = api.get_client(self._domain)
        api.set_provider(named.provider, domain=self._domain)
        for event in _EVENTS:
            self.client.add_handler(event, self._hear)

    @property
    def source(self) -> str:
        """The provider's name, with its state unless that is READY."""
        status = self.client.get_provider_status()
        return self._named.name if status is ProviderStatus.READY else f"{self._named.name} ({status.value})"

    @property
    def age(self) -> float:
        """Seconds since the source was last known to be fine; 0 while it is ready and answers."""
        self._look()
        return 0.0 if self._lost_at is None else self._monotonic() - self._lost_at

    def counters(self) -> Mapping[str, int]:
        """Readings that did not get their own answer, by reason."""
        return self._counters

    def load(self, configuration: Configuration) -> None:
        """Read the flags of these models from now on."""
        keys = _source_keys(configuration.models.values(), self._key_template)
        self._models = {name: self._plan(model, keys) for name, model in configuration.models.items()}
        self._plans = {plan.flag_keys: plan for plan in self._models.values()}

    async def first_reading(self) -> None:
        """Wait until the source has answered for the models there are.

        Raises:
            FailedPrecondition: the provider says that it never will.
        """
        delay, told = FIRST_RETRY, False
        while not await self._speaks():
            if self.client.get_provider_status() is ProviderStatus.FATAL:
                raise FailedPrecondition(
                    f"the flag source {self._named.name} cannot be used and says that this will not heal "
                    "(PROVIDER_FATAL); see its configuration, and its own log above"
                )
            if not told:
                logger.warning("waiting for the flag source %s: no request is taken before it answers", self.source)
            told = True
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY)

    def read(self, keys: tuple[str, ...], context: Callable[[], Context]) -> Claims | Awaitable[Claims]:
        """What the flags say; see ports.ClaimReader."""
        plan = self._plans[keys]
        subject = evaluation_context(context())
        return self._read_here(plan, subject) if self._local else self._read_aside(plan, subject)

    def close(self) -> None:
        """Take the provider out of OpenFeature, which shuts it down in a thread of its own."""
        for event in _EVENTS:
            self.client.remove_handler(event, self._hear)
        api.set_provider_and_wait(NoOpProvider(), domain=self._domain)
        self._threads.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    def _read_here(self, plan: _Plan, subject: EvaluationContext) -> Claims:
        began = self._monotonic()
        read = self._evaluate(plan.source_keys, subject)
        self._note_here(plan, read)
        self._slow_readings = self._slow_readings + 1 if self._monotonic() - began > self._limit else 0
        if self._slow_readings == SLOW_READINGS_TO_MOVE:
            logger.error(
                "the flag source %s was said to evaluate locally, but took more than %g ms %d times in a row; it is "
                "asked in threads from now on",
                self._named.name,
                self._limit * 1e3,
                SLOW_READINGS_TO_MOVE,
            )
            self._local = False
        return self._took(plan, read)

    def _note_here(self, plan: _Plan, read: Sequence[Claim | None]) -> None:
        if _says_nothing(read):
            self._fail()
            return
        if None not in read:
            plan.known.note(tuple(claim or Claim.OFF for claim in read))
        if self._unread_since is not None:
            self._circuit.worked()
            self._unread_since = None
            self._look()

    async def _read_aside(self, plan: _Plan, subject: EvaluationContext) -> Claims:
        now = self._monotonic()
        if self._circuit.is_open:
            if self._circuit.takes_attempt(now):
                self._begin(plan, subject)
            return self._instead(plan, "flag_reads_skipped")
        reading = self._begin(plan, subject)
        if reading is None:
            return self._instead(plan, "flag_reads_refused")
        done, _ = await asyncio.wait((reading,), timeout=self._limit)
        if not done:
            self._fail()
            return self._instead(plan, "flag_reads_late")
        return self._took(plan, reading.result())

    def _begin(self, plan: _Plan, subject: EvaluationContext) -> asyncio.Future[list[Claim | None]] | None:
        """Evaluate in a thread. However late it ends, it tells how the source is and what it says."""
        reading = self._threads.run(partial(self._evaluate, plan.source_keys, subject))
        if reading is not None:
            reading.add_done_callback(partial(self._note_end, plan, self._monotonic()))
        return reading

    def _note_end(self, plan: _Plan, began: float, reading: asyncio.Future[list[Claim | None]]) -> None:
        if reading.cancelled():
            return
        read = reading.result()
        if None not in read:
            plan.known.note(tuple(claim or Claim.OFF for claim in read))
        if self._monotonic() - began > self._limit:
            return  # whoever waited has counted it as a failure
        if _says_nothing(read):
            self._fail()
        else:
            self._circuit.worked()
            self._unread_since = None
            self._look()

    def _evaluate(self, keys: Sequence[str | None], subject: EvaluationContext) -> list[Claim | None]:
        """One claim for each key; None where the source said nothing."""
        return [self._claim_at(key, subject) for key in keys]

    def _claim_at(self, key: str | None, subject: EvaluationContext) -> Claim | None:
        if key is None:
            return Claim.OFF
        try:
            details = self.client.get_string_details(key, Claim.OFF.value, subject)
        except Exception:
            # The SDK turns a provider's errors into a default, but not those of hooks that are told of errors.
            logger.exception("the flag %s cannot be read at %s", key, self._named.name)
            return None
        if details.error_code is None:
            return Claim.of(details.value)
        # Of a provider in memory, GENERAL too is about the flag: a rule that names a variant that it does not have.
        about_the_flag = details.error_code in _ABOUT_THE_FLAG or (
            self._local and details.error_code is ErrorCode.GENERAL
        )
        return Claim.OFF if about_the_flag else None

    def _took(self, plan: _Plan, read: Sequence[Claim | None]) -> Claims:
        """A reading that came in time, completed by what is known."""
        if _says_nothing(read):
            self._counters["flag_reads_failed"] += 1
        return plan.known.completed(read)

    def _instead(self, plan: _Plan, reason: str) -> Claims:
        self._counters[reason] += 1
        return plan.known.completed([None] * len(plan.flag_keys))

    async def _speaks(self) -> bool:
        """Whether the source answers for every model; what it says is where their readings begin."""
        if self.client.get_provider_status() is not ProviderStatus.READY:
            return False
        for name, plan in tuple(self._models.items()):
            subject = evaluation_context(context_of(model=name, request_id="", session_id="", attributes={}))
            reading = self._begin(plan, subject)
            if reading is None:
                return False
            done, _ = await asyncio.wait((reading,), timeout=PATIENCE)
            if not done or _says_nothing(reading.result()):
                return False
            if not plan.known.usual:
                logger.warning(
                    "the flag source %s says `live` of no version of %s (asked for: %s); until it does, our own flags "
                    "say who is live",
                    self._named.name,
                    name,
                    ", ".join(key for key in plan.source_keys if key is not None),
                )
        self._circuit.worked()
        self._unread_since = None
        return True

    # --- how the source is -----------------------------------------------------------------------------------------

    def _hear(self, _: EventDetails) -> None:
        # The SDK runs handlers in several threads, in no certain order: an event only says that it is time to look.
        self._look()

    def _fail(self) -> None:
        now = self._monotonic()
        self._circuit.failed(now)
        if self._unread_since is None:
            self._unread_since = now
        self._look()

    def _look(self) -> None:
        status = self.client.get_provider_status()
        if status is ProviderStatus.READY and self._unread_since is None:
            if self._told:
                logger.info("the flag source %s is ready", self.source)
            self._lost_at, self._told = None, False
            return
        if self._lost_at is None:
            self._lost_at = self._monotonic() if self._unread_since is None else self._unread_since
        # One late answer is not worth a line in the log.
        if not self._told and (status is not ProviderStatus.READY or self._circuit.is_open):
            logger.warning("the flag source %s is lost; what it usually said goes on", self.source)
            self._told = True

    def _plan(self, model: Model, keys: Mapping[str, str | None]) -> _Plan:
        flag_keys = tuple(version.flag_key for version in model.versions)
        source_keys = tuple(keys[key] for key in flag_keys)
        before = self._models.get(model.name)
        if before is not None and (before.flag_keys, before.source_keys) == (flag_keys, source_keys):
            return before
        grown = before is not None and before.flag_keys == flag_keys[: len(before.flag_keys)]
        usual = before.known.usual if before is not None and grown else ()
        return _Plan(flag_keys=flag_keys, source_keys=source_keys, known=KnownClaims(len(flag_keys), usual))


def _says_nothing(read: Sequence[Claim | None]) -> bool:
    return bool(read) and all(claim is None for claim in read)


def _registration(version: Version) -> tuple[float, int]:
    return (math.inf if version.created_at is None else version.created_at, version.ordinal)


def _source_keys(models: Iterable[Model], template: str) -> Mapping[str, str | None]:
    """Key at the source by our flag key.

    A template can give two versions one key (`{model}-{version}` for `a` + `b-c` and `a-b` + `c`). The one that was
    registered first keeps it, and the other is not read: sharing one, both would claim `live` at once.
    """
    keys: dict[str, str | None] = {}
    takers: dict[str, str] = {}
    versions = [version for model in models for version in model.versions]
    for version in sorted(versions, key=_registration):
        key = template.replace("{model}", version.model).replace("{version}", version.name)
        taker = takers.setdefault(key, version.flag_key)
        keys[version.flag_key] = key if taker == version.flag_key else None
        if taker != version.flag_key:
            logger.error(
                "%s counts as off: its flag at the source would be %s, which is the flag of %s; choose another "
                "MULTISHADOW_FLAG_KEY_TEMPLATE",
                version.flag_key,
                key,
                taker,
            )
    return keys
