"""What a worker commits, as its models' privacy terms let it be stored."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from multishadow_server.core import redaction
from multishadow_server.core.capture import Capture
from multishadow_server.core.dead_letters import DeadLetter, LetterState
from multishadow_server.core.model import Model
from multishadow_server.core.observation import Observation
from multishadow_server.core.privacy import Payloads, PrivacyTerms
from multishadow_server.core.redaction import PayloadRewriter, Policy, Seal
from multishadow_server.service.ports import Flush, KeptAnswers, SealSource, StoredComparison

_Stored = tuple[Capture, Sequence[Observation], Payloads]

_logger = logging.getLogger(__name__)


class Concealing:
    """Conceals what is stored, one for all partitions of a process.

    Args:
        seals: where the key of hashes is.
        rewriter: of the wire format.
        counters: the process's; `privacy.failed` are items that were stored without their payloads because our own code
            failed on them.
    """

    def __init__(self, seals: SealSource, rewriter: PayloadRewriter, counters: Counter[str]) -> None:
        self._seals = seals
        self._rewriter = rewriter
        self._counters = counters
        self._seal: Seal | None = None

    async def prepare(self) -> None:
        """Have the key, once. Raises StoreUnavailable, FailedPrecondition."""
        if self._seal is None:
            self._seal = await self._seals.seal()

    def fingerprint(self, capture: Capture) -> bytes:
        """The capture's fingerprint, keyed: what the store keeps of inputs that were seen tells nobody which."""
        return self._prepared.fingerprint(capture.fingerprint)

    async def concealed(self, flush: Flush, models: Mapping[str, Model]) -> Flush:
        """The flush with its comparisons and answers as they may be stored, by the models' present terms.

        What is small is redacted at once, the rest in a thread. Never raises: what our own code fails on is stored
        without its payloads.
        """
        captures = [*(item.capture for item in flush.comparisons), *(item.capture for item in flush.answers)]
        flush = replace(flush, dead_letters=tuple(self._letter(letter, models) for letter in flush.dead_letters))
        if all(_terms(models, capture).payloads is Payloads.FULL for capture in captures):
            return flush
        comparisons = [await self._comparison(item, _terms(models, item.capture)) for item in flush.comparisons]
        answers = [await self._answers(item, _terms(models, item.capture)) for item in flush.answers]
        return replace(flush, comparisons=comparisons, answers=[item for item in answers if item is not None])

    def _letter(self, letter: DeadLetter, models: Mapping[str, Model]) -> DeadLetter:
        """Only what is stored as it came can be asked again; nobody knows whose a message is that cannot be read."""
        if letter.capture is None:
            known = all(model.privacy.payloads is Payloads.FULL for model in models.values())
            return letter if known else replace(letter, raw=b"", cut=True)
        terms = _terms(models, letter.capture)
        if terms.payloads is Payloads.FULL:
            return letter
        capture, _, _ = _concealed(self._policy(terms), letter.capture, ())
        return replace(letter, capture=capture, detail="", state=LetterState.PARKED, cut=True)

    async def _comparison(self, item: StoredComparison, terms: PrivacyTerms) -> StoredComparison:
        capture, observations, payloads = await self._safely(item.capture, item.observations, terms)
        return replace(item, capture=capture, observations=observations, payloads=payloads)

    async def _answers(self, item: KeptAnswers, terms: PrivacyTerms) -> KeptAnswers | None:
        """None where labels could not be held against what would be kept."""
        if not terms.payloads.readable:
            return None
        # Of the request, nothing is stored with answers; redacting it would be for nothing.
        stored = replace(item.capture, request=b"", attributes={}, metadata=())
        capture, observations, payloads = await self._safely(stored, item.observations, terms)
        if not payloads.readable:
            return None
        # Of another protocol, or too large to be redacted: a label held against a hash would call everybody wrong.
        if any(map(redaction.is_sealed, (capture.response, *(seen.response for seen in observations)))):
            return None
        return replace(item, capture=capture, observations=observations, payloads=payloads)

    async def _safely(self, capture: Capture, observations: Sequence[Observation], terms: PrivacyTerms) -> _Stored:
        if terms.payloads is Payloads.FULL:
            return capture, observations, Payloads.FULL
        size = len(capture.request) + len(capture.response) + sum(len(seen.response) for seen in observations)
        policy = self._policy(terms)
        try:
            if size <= redaction.LIGHT_BYTES:
                return _concealed(policy, capture, observations)
            return await asyncio.to_thread(_concealed, policy, capture, observations)
        except Exception as error:  # noqa: BLE001  one odd request must not stop its partition, nor be stored as it is
            # Its message may repeat what it failed on.
            _logger.error("a request to %s is stored without payloads: %s", capture.model, type(error).__name__)  # noqa: TRY400
            self._counters["privacy.failed"] += 1
            return _concealed(self._policy(replace(terms, payloads=Payloads.NONE)), capture, observations)

    def _policy(self, terms: PrivacyTerms) -> Policy:
        return Policy(terms=terms, seal=self._prepared, rewriter=self._rewriter)

    @property
    def _prepared(self) -> Seal:
        assert self._seal is not None, "prepare() comes first"
        return self._seal


def _terms(models: Mapping[str, Model], capture: Capture) -> PrivacyTerms:
    model = models.get(capture.model)
    # A model that is gone: nobody says what may be kept.
    return model.privacy if model else PrivacyTerms(payloads=Payloads.NONE)


def _concealed(policy: Policy, capture: Capture, observations: Sequence[Observation]) -> _Stored:
    method = capture.method
    stored = [redaction.redact_observation(policy, seen, method=method) for seen in observations]
    return redaction.redact_capture(policy, capture), stored, policy.terms.payloads
