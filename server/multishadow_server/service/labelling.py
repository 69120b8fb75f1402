"""Recording labels: each counts once, in the time bucket of its request, whenever and however often it comes.

A label that comes before its request's answers waits for them, at most as long as answers are kept; a sweep counts it
when they are there. So what counts does not depend on who is first, and no worker has to look for labels.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from multishadow_server.core import labels as rules
from multishadow_server.core import redaction
from multishadow_server.core.labels import Answered
from multishadow_server.core.model import Model
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import Payloads, PrivacyTerms
from multishadow_server.core.rollup import Rollup
from multishadow_server.service import names
from multishadow_server.service.ports import ControlStore, LabelRecord, LabelStore

MOST_AT_ONCE = 500
# Of the labels that a run overruled, the audit log names so many.
MOST_NAMED = 20


class Reception(StrEnum):
    """What became of a label when it came."""

    COUNTED = "counted"
    WAITING = "waiting"
    DUPLICATE = "duplicate"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What the right answer to a request is said to be."""

    request_id: str
    value: Json


@dataclass(kw_only=True, slots=True)
class _Ledger:
    """What a run of labels of one model changes.

    Args:
        actor: who records them.
        answers: by request id.
        records: the labels as they are by now, by request id.
        changed: ids of those that differ from what is stored.
        rollups: counts to add.
        receptions: of each label, in order.
    """

    model: str
    actor: str
    answers: Mapping[str, Answered]
    records: dict[str, LabelRecord]
    changed: set[str] = field(default_factory=set)
    rollups: dict[tuple[int, int], Rollup] = field(default_factory=dict)
    receptions: list[Reception] = field(default_factory=list)

    def enter(self, label: Label) -> None:
        former = self.records.get(label.request_id)
        if former is not None and former.value == label.value:
            self.receptions.append(Reception.DUPLICATE)
            return
        if former is not None and former.marks:
            self._add(former, rules.negative(rules.contribution(former.marks)))
        self.settle(
            LabelRecord(model=self.model, request_id=label.request_id, value=label.value, recorded_by=self.actor)
        )
        arrived = self.records[label.request_id].epoch_id is not None
        first = Reception.COUNTED if arrived else Reception.WAITING
        self.receptions.append(first if former is None else Reception.CONTRADICTED)

    def settle(self, record: LabelRecord) -> None:
        """Count a label that does not count yet, if its request's answers are there."""
        request = self.answers.get(record.request_id)
        if request is not None:
            marks = rules.marks(record.value, request)
            record = replace(record, epoch_id=request.epoch.id, bucket_start=request.bucket_start, marks=marks)
            self._add(record, rules.contribution(marks))
        self.records[record.request_id] = record
        self.changed.add(record.request_id)

    def _add(self, record: LabelRecord, rollup: Rollup) -> None:
        if record.epoch_id is not None and record.bucket_start is not None:
            where = (record.epoch_id, record.bucket_start)
            self.rollups[where] = self.rollups.get(where, Rollup()) + rollup


async def record(
    store: ControlStore,
    labels: LabelStore,
    *,
    model: str,
    recorded: Sequence[Label],
    actor: str,
    clock: Callable[[], float],
) -> tuple[Model, list[Reception]]:
    """Record labels, in order; the model that they are of, and what became of each.

    The same label again has no effect. A different one for the same request replaces the former: its counts are taken
    back and the new one's added, in one transaction.

    Raises:
        InvalidInput: a label cannot be one.
        NotFound: there is no such model.
        FailedPrecondition: the model's answers are not kept.
        StoreUnavailable: the database is away; labels of the present run of 500 are not recorded.
    """
    owner = names.only_model(await store.read(), model)
    terms = names.label_terms(owner)
    for label in recorded:
        rules.check(label.request_id, label.value)
    recorded = await _storable(labels, owner.privacy, recorded)
    receptions: list[Reception] = []
    for run in _runs(recorded):
        async with labels.change(owner.name) as change:
            former = await change.claim({label.request_id: label.value for label in run}, actor=actor)
            answers = await change.answers(_news(run, former), since=clock() - terms.keep)
            ledger = _Ledger(model=owner.name, actor=actor, answers=answers, records=dict(former))
            # Long texts take milliseconds each, which the other calls must not wait for.
            await asyncio.to_thread(_enter, ledger, run)
            await change.put([ledger.records[request_id] for request_id in sorted(ledger.changed)])
            await change.add(ledger.rollups)
            await change.count(_tallied(ledger.receptions))
            if overruled := _overruled(run, ledger.receptions):
                # Labels are data, and keep their author themselves; one that is overruled would lose its own.
                detail = {"labels": len(overruled), "request_ids": overruled[:MOST_NAMED]}
                await change.audit("overrule_labels", detail, actor=actor)
        receptions += ledger.receptions
    return owner, receptions


async def _storable(labels: LabelStore, terms: PrivacyTerms, recorded: Sequence[Label]) -> Sequence[Label]:
    """The labels as they may be stored; the answers that they are held against are stored so, too."""
    if terms.payloads is Payloads.FULL:
        return recorded
    seal = await labels.seal()
    return [
        Label(
            request_id=redaction.stored_request_id(terms, seal, label.request_id),
            value=redaction.redact_label(terms, label.value),
        )
        for label in recorded
    ]


async def sweep(store: ControlStore, labels: LabelStore, *, clock: Callable[[], float]) -> int:
    """Count labels whose requests have come meanwhile, and forget those that are too old; returns how many counted.

    Several processes may do this at once. What waited for longer than answers are kept is counted as unknown.

    Raises:
        StoreUnavailable: the database is away.
    """
    counted = 0
    for model in (await store.read()).models.values():
        keep = model.labels.keep if model.labels else 0.0
        counted += await _count_arrived(labels, model.name, since=clock() - keep)
        async with labels.change(model.name) as change:
            unknown = await change.forget(before=clock() - keep)
            await change.count({"unknown": unknown} if unknown else {})
    return counted


async def _count_arrived(labels: LabelStore, model: str, *, since: float) -> int:
    async with labels.change(model) as change:
        arrived = await change.arrived(most=MOST_AT_ONCE)
        answers = await change.answers([record.request_id for record in arrived], since=since) if arrived else {}
        ledger = _Ledger(model=model, actor="", answers=answers, records={})
        await asyncio.to_thread(_settle, ledger, [record for record in arrived if record.request_id in answers])
        await change.put(list(ledger.records.values()))
        await change.add(ledger.rollups)
        await change.count(_tallied([Reception.COUNTED] * len(answers)))
    return len(answers)


async def tally(store: ControlStore, labels: LabelStore, *, model: str) -> tuple[Model, Mapping[str, int]]:
    """A model, and how many of its labels came to what since its first: see `Reception`, and "unknown".

    Raises:
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    owner = names.only_model(await store.read(), model)
    return owner, await labels.tally(owner.name)


def _news(run: Sequence[Label], former: Mapping[str, LabelRecord]) -> list[str]:
    """The requests whose answers are needed: those with a label that is not known already."""
    known = {request_id: record.value for request_id, record in former.items()}
    return [each.request_id for each in run if each.request_id not in known or known[each.request_id] != each.value]


def _enter(ledger: _Ledger, run: Sequence[Label]) -> None:
    for label in run:
        ledger.enter(label)


def _settle(ledger: _Ledger, records: Sequence[LabelRecord]) -> None:
    for record_ in records:
        ledger.settle(record_)


def _tallied(receptions: Sequence[Reception]) -> Mapping[str, int]:
    """What is added up for ever; who waits is counted by looking."""
    return Counter(reception.value for reception in receptions if reception is not Reception.WAITING)


def _overruled(run: Sequence[Label], receptions: Sequence[Reception]) -> list[str]:
    return [
        label.request_id
        for label, reception in zip(run, receptions, strict=True)
        if reception is Reception.CONTRADICTED
    ]


def _runs(recorded: Sequence[Label]) -> Iterator[Sequence[Label]]:
    for start in range(0, len(recorded), MOST_AT_ONCE):
        yield recorded[start : start + MOST_AT_ONCE]
