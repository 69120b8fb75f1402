"""Which shadow calls are tried again, when, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Self

import grpc
import pytest
from test_shadowing import AGREES, CAPTURE, a_configuration, an_epoch

from fakes import EqualBytes, KnownConfiguration, ScriptedGateway
from multishadow_server.core import dead_letter_policy, dead_letters, windows
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.dead_letters import DeadLetter, LetterState
from multishadow_server.core.model import Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.privacy import Payloads, PrivacyTerms
from multishadow_server.core.version_limits import Pause
from multishadow_server.core.writes import Writes
from multishadow_server.errors import InvalidInput, StoreUnavailable
from multishadow_server.service.configuration_in_hand import ConfigurationInHand
from multishadow_server.service.dead_letter_retries import OF_EACH, DeadLetterRetries, after
from multishadow_server.service.in_flight import CallSlots
from multishadow_server.service.ports import Answer, Attempt, ClaimedLetter
from multishadow_server.service.shadowing import Shadowing
from waiting import until

POLICY = DeadLetterPolicy(retries=2, first_backoff=1.0, longest_backoff=5.0)
AWAY = Answer(status_code=grpc.StatusCode.UNAVAILABLE.value[0], status_message="gone")


def seen(outcome: Outcome, reason: str = "") -> Observation:
    return Observation(version="A", outcome=outcome, reason=reason)


def letters(*observations: Observation, policy: DeadLetterPolicy | None = POLICY, size: int = 10) -> list[DeadLetter]:
    capture = replace(CAPTURE, request=bytes(size), metadata=(("x-plan", "pro"), ("authorization", "Bearer x")))
    return list(dead_letters.letters_of(capture, observations, policy, epoch_id=7, draw=lambda: 1.0))


# --- which calls --------------------------------------------------------------------------------------------------


def test_calls_that_may_be_mended_wait_and_others_leave_no_letter() -> None:
    found = letters(
        seen(Outcome.ERROR, "UNAVAILABLE"),
        seen(Outcome.TIMEOUT),
        seen(Outcome.ERROR, "INVALID_ARGUMENT"),
        seen(Outcome.DIVERGED),
        seen(Outcome.OK),
        seen(Outcome.DROPPED, "in_flight_limit"),
    )
    assert [(each.outcome, each.reason, each.state) for each in found] == [
        ("error", "UNAVAILABLE", "waiting"),
        ("timeout", "", "waiting"),
    ]
    assert [each.wait for each in found] == [1.0, 1.0]


def test_without_a_policy_only_our_own_failures_are_kept() -> None:
    found = letters(seen(Outcome.ERROR, "UNAVAILABLE"), seen(Outcome.DROPPED, "internal_error"), policy=None)
    assert [(each.reason, each.state) for each in found] == [("internal_error", "parked")]


def test_our_own_failures_are_parked_under_a_policy_too() -> None:
    (found,) = letters(seen(Outcome.DROPPED, "internal_error"))
    assert (found.state, found.most) == (LetterState.PARKED, dead_letters.OURS.most)


def test_no_credential_is_in_a_letter() -> None:
    (found,) = letters(seen(Outcome.TIMEOUT))
    assert found.capture is not None
    assert found.capture.metadata == (("x-plan", "pro"),)


def test_a_payload_that_is_too_large_is_cut_and_never_asked_again() -> None:
    (found,) = letters(seen(Outcome.TIMEOUT), size=2 * dead_letters.LARGEST_PAYLOAD)
    assert (found.state, found.cut) == (LetterState.PARKED, True)
    assert found.capture is not None
    assert len(found.capture.request) == dead_letters.LARGEST_PAYLOAD // 2


def test_a_message_that_nobody_can_read_is_parked_with_its_first_bytes() -> None:
    found = dead_letters.unreadable_letter("no batch", bytes(dead_letters.LARGEST_PAYLOAD + 1))
    assert (found.state, found.model, found.cut, len(found.raw)) == (
        LetterState.PARKED, "", True, dead_letters.LARGEST_PAYLOAD,
    )  # fmt: skip


def test_pauses_double_up_to_the_longest_and_are_spread_over_their_upper_half() -> None:
    def pauses(draw: float) -> list[float]:
        return [dead_letter_policy.backoff(POLICY, attempts=n, draw=draw) for n in (1, 2, 3, 4, 5000)]

    assert pauses(1.0) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert pauses(0.0) == [0.5, 1.0, 2.0, 2.5, 2.5]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (DeadLetterPolicy(retries=101), "retries"),
        (DeadLetterPolicy(first_backoff=9, longest_backoff=5), "backoff"),
        (DeadLetterPolicy(first_backoff=float("nan")), "backoff"),
        (DeadLetterPolicy(reasons=("INVALID_ARGUMENT",)), "for: 'INVALID_ARGUMENT'"),
        (DeadLetterPolicy(reasons=()), "for"),
        (DeadLetterPolicy(keep=1), "keep"),
        (DeadLetterPolicy(most=0), "max"),
    ],
)
def test_a_policy_that_cannot_be_kept_to_is_refused_by_its_field(policy: DeadLetterPolicy, said: str) -> None:
    with pytest.raises(InvalidInput, match=rf"dead_letters\.{said}"):
        dead_letter_policy.check(policy)


# --- what an attempt comes to -------------------------------------------------------------------------------------


def a_letter(number: int = 1, *, attempts: int = 1, asked: bool = False, version: str = "A") -> ClaimedLetter:
    return ClaimedLetter(
        id=number, claim="c", model="spam", version=version, epoch_id=1, attempts=attempts, asked=asked, capture=CAPTURE
    )


@pytest.mark.parametrize(
    ("found", "attempts", "asked", "state", "calls"),
    [
        (seen(Outcome.OK), 1, False, LetterState.ANSWERED, 2),
        (seen(Outcome.DIVERGED), 1, False, LetterState.ANSWERED, 2),
        (seen(Outcome.TIMEOUT), 1, False, LetterState.WAITING, 2),
        (seen(Outcome.TIMEOUT), 2, False, LetterState.PARKED, 3),
        (seen(Outcome.TIMEOUT), 1, True, LetterState.PARKED, 2),
        (seen(Outcome.ERROR, "INVALID_ARGUMENT"), 1, False, LetterState.PARKED, 2),
        (seen(Outcome.DROPPED, "in_flight_limit"), 1, False, LetterState.WAITING, 1),
        (seen(Outcome.DROPPED, "in_flight_limit"), 1, True, LetterState.WAITING, 1),
        (seen(Outcome.DROPPED, "internal_error"), 1, False, LetterState.PARKED, 2),
        (seen(Outcome.DROPPED, "paused"), 1, False, LetterState.WAITING, 1),
        (seen(Outcome.DROPPED, "too_large"), 1, False, LetterState.PARKED, 1),
        (seen(Outcome.DROPPED, "writes"), 1, True, LetterState.PARKED, 1),
    ],
)
def test_an_attempt_decides_what_becomes_of_a_letter(
    found: Observation, attempts: int, asked: bool, state: LetterState, calls: int
) -> None:
    attempt = after(a_letter(attempts=attempts, asked=asked), found, POLICY, draw=1.0)
    assert (attempt.state, attempt.attempts) == (state, calls)


def test_a_model_that_gave_its_policy_up_tries_nothing_again() -> None:
    assert after(a_letter(), seen(Outcome.TIMEOUT), None, draw=1.0).state is LetterState.PARKED


# --- a worker's retries -------------------------------------------------------------------------------------------


class MemoryQueue:
    """A LetterQueue that a test fills; `away` makes taking fail so many times."""

    def __init__(self, *waiting: ClaimedLetter) -> None:
        self.waiting = deque(waiting)
        self.settled: dict[int, Attempt] = {}
        self.given_back: list[int] = []
        self.away = 0

    async def claim(self, *, busy: Collection[str], of_each: int) -> Sequence[ClaimedLetter]:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        taken: Counter[str] = Counter()
        found = []
        for letter in list(self.waiting):
            key = f"{letter.model}.{letter.version}"
            if key not in busy and taken[key] < of_each:
                taken[key] += 1
                self.waiting.remove(letter)
                found.append(letter)
        return found

    async def settle(self, letter: ClaimedLetter, attempt: Attempt) -> bool:
        self.settled[letter.id] = attempt
        return True

    async def give_back(self, letters: Sequence[ClaimedLetter]) -> None:
        self.given_back += [letter.id for letter in letters]


class Retrying:
    """A worker's retries over a queue, with versions that answer as told."""

    def __init__(
        self,
        queue: MemoryQueue,
        answer: Callable[[str], Answer] = lambda _: AGREES,
        *,
        configuration: Configuration | None = None,
        drain_seconds: float = 5.0,
    ) -> None:
        configuration = configuration or a_configuration(an_epoch("A", "B"))
        models = {name: replace(model, dead_letters=POLICY) for name, model in configuration.models.items()}
        self.gateway = ScriptedGateway(answer)
        self.counters: Counter[str] = Counter()
        self._retries = DeadLetterRetries(
            queue,
            Shadowing(gateway=self.gateway, comparer=EqualBytes(), slots=CallSlots(), clock=lambda: 1000.0),
            ConfigurationInHand(KnownConfiguration(replace(configuration, models=models)), check_interval=60.0),
            counters=self.counters,
            draw=lambda: 1.0,
            interval=0.01,
            drain_seconds=drain_seconds,
        )
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._retries.run(self.stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await self._task


async def test_a_letter_that_is_answered_in_the_end_says_how() -> None:
    queue = MemoryQueue(a_letter())
    async with Retrying(queue) as retrying:
        await until(lambda: 1 in queue.settled)
    assert (queue.settled[1].state, queue.settled[1].outcome, queue.settled[1].similarity) == ("answered", "ok", 1.0)
    assert retrying.counters == Counter({"dead_letter_retries.answered": 1})


async def test_a_version_that_hangs_holds_up_its_own_letters_alone() -> None:
    queue = MemoryQueue(*(a_letter(number) for number in range(1, 9)))
    async with Retrying(queue) as retrying:
        retrying.gateway.open.clear()
        await until(lambda: len(retrying.gateway.calls) == OF_EACH)
        queue.waiting.append(a_letter(99, version="B"))
        await until(lambda: len(retrying.gateway.calls) == OF_EACH + 1)
        assert len(queue.waiting) == 4, "no more of A's letters are taken meanwhile"
        retrying.gateway.open.set()
        await until(lambda: len(queue.settled) == 9)


async def test_what_is_under_way_when_it_stops_is_finished_or_given_back() -> None:
    queue = MemoryQueue(a_letter(1))
    async with Retrying(queue) as retrying:
        retrying.gateway.open.clear()
        await until(lambda: retrying.gateway.calls)
        retrying.stop.set()
        retrying.gateway.open.set()
    assert (list(queue.settled), queue.given_back) == ([1], [])
    hasty = MemoryQueue(a_letter(2))
    async with Retrying(hasty, drain_seconds=0.05) as retrying:
        retrying.gateway.open.clear()
        await until(lambda: retrying.gateway.calls)
    assert (list(hasty.settled), hasty.given_back) == ([], [2])


async def test_a_queue_that_is_away_is_asked_again() -> None:
    queue = MemoryQueue(a_letter())
    queue.away = 3
    async with Retrying(queue):
        await until(lambda: 1 in queue.settled)


@pytest.mark.parametrize(
    ("letter", "configuration", "said"),
    [
        (a_letter(version="Z"), a_configuration(an_epoch("A")), "no version spam.Z"),
        (a_letter(), a_configuration(), "experiment is over"),
        (a_letter(), a_configuration(an_epoch("A", until=9)), "experiment is over"),
        (a_letter(), a_configuration(an_epoch("A", until=9), an_epoch("B", number=2, first=9)), "experiment is over"),
    ],
)
async def test_a_version_that_nobody_compares_any_more_is_not_asked(
    letter: ClaimedLetter, configuration: Configuration, said: str
) -> None:
    queue = MemoryQueue(letter)
    async with Retrying(queue, configuration=configuration) as retrying:
        await until(lambda: letter.id in queue.settled)
    assert queue.settled[letter.id].state is LetterState.PARKED
    assert said in queue.settled[letter.id].detail
    assert not retrying.gateway.calls


async def test_somebody_who_asks_for_it_may_have_it_tried_long_after() -> None:
    queue = MemoryQueue(a_letter(asked=True))
    async with Retrying(queue, lambda _: AWAY, configuration=a_configuration()) as retrying:
        await until(lambda: 1 in queue.settled)
    assert queue.settled[1].state is LetterState.PARKED
    assert [address for address, _, _ in retrying.gateway.calls] == ["at-A"]


async def retried(configuration: Configuration, letter: ClaimedLetter, **model: object) -> tuple[Attempt, Retrying]:
    """What became of a letter, whose model has these settings by now."""
    models = {name: replace(each, **model) for name, each in configuration.models.items()}  # type: ignore[arg-type]  # fields by name
    queue = MemoryQueue(letter)
    async with Retrying(queue, lambda _: AWAY, configuration=replace(configuration, models=models)) as retrying:
        await until(lambda: letter.id in queue.settled)
    return queue.settled[letter.id], retrying


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(
    ("settings", "reason"), [({"writes": Writes(all=True)}, "writes"), ({"max_request_bytes": 1}, "too_large")]
)
async def test_what_nobody_may_get_a_copy_of_by_now_is_not_sent_again_whoever_asks(
    settings: dict[str, object], reason: str, *, asked: bool
) -> None:
    attempt, retrying = await retried(a_configuration(an_epoch("A")), a_letter(asked=asked), **settings)
    assert (attempt.state, attempt.attempts, attempt.reason) == (LetterState.PARKED, 1, reason)
    assert not retrying.gateway.calls


async def test_a_letter_waits_while_its_version_is_paused() -> None:
    paused = Version(model="spam", name="A", address="at-A", timeout=2.0, pause=Pause(since=0.0, until=None, by="ann"))
    versions = (*a_configuration().models["spam"].versions[:1], paused)
    attempt, retrying = await retried(a_configuration(an_epoch("A")), a_letter(asked=True), versions=versions)
    assert (attempt.state, attempt.attempts, attempt.reason) == (LetterState.WAITING, 1, "paused")
    assert not retrying.gateway.calls


async def test_words_of_a_shadow_that_may_not_be_stored_any_more_are_not_stored_by_a_retry() -> None:
    full, _ = await retried(a_configuration(an_epoch("A")), a_letter(asked=True))
    assert full.detail == "gone"
    strict = PrivacyTerms(payloads=Payloads.HASHED)
    attempt, _ = await retried(a_configuration(an_epoch("A")), a_letter(asked=True), privacy=strict)
    assert (attempt.state, attempt.reason, attempt.detail) == (LetterState.PARKED, "UNAVAILABLE", "")


async def test_outside_its_experiments_windows_a_letter_is_postponed() -> None:
    epoch = replace(an_epoch("A"), windows=(windows.parse("12:00-13:00 UTC"),))
    queue = MemoryQueue(a_letter())
    async with Retrying(queue, configuration=a_configuration(epoch)) as retrying:
        await until(lambda: 1 in queue.settled)
    assert (queue.settled[1].state, queue.settled[1].attempts) == (LetterState.WAITING, 1)
    assert not retrying.gateway.calls
