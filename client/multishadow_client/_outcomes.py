"""Outcomes on their way to control, as labels: never in the application's way."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import struct_pb2

from multishadow.v1 import control_pb2, control_pb2_grpc

logger = logging.getLogger(__name__)

# Control takes them in runs of so many, each all or nothing.
BATCH = 500
CALL_SECONDS = 10.0
FIRST_RETRY = 0.2
LONGEST_RETRY = 30.0
# The label itself is at fault: sending it again will not help, and it must not hold up the others.
_REFUSING = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}
# The server failed on it, or on something else: only trying again tells.
_DOUBTFUL = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
DOUBTFUL_TRIES = 3
# The model is: it does not exist, or its answers are not kept to be labelled.
_REFUSING_ALL = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What the right answer to one request turned out to be.

    Args:
        model: whose request; empty for the only model there is.
        request_id: of the request.
        value: a class, a number, a text or an object, as the model answers.
    """

    model: str
    request_id: str
    value: struct_pb2.Value


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeCounts:
    """What became of tracked events since the provider began.

    Args:
        recorded: control has them.
        waiting: on their way.
        dropped: there was no room for them, or no time at the end.
        refused: control does not take them: the value does not fit the model, or its answers are not kept.
        ignored: events that say no request id, or no value.
    """

    recorded: int = 0
    waiting: int = 0
    dropped: int = 0
    refused: int = 0
    ignored: int = 0


class Outcomes:
    """A bounded queue of outcomes and the thread that sends them in batches; it begins with the first one.

    Args:
        channel: to control; it stays its owner's.
        most_waiting: most outcomes that wait; when full, the newest is dropped.
        flush_interval: longest time that one waits for its batch, in seconds.
        actor: who says so, for the record.
    """

    def __init__(self, channel: grpc.Channel, *, most_waiting: int, flush_interval: float, actor: str) -> None:
        self._stub = control_pb2_grpc.ControlServiceStub(channel)
        self._most_waiting = most_waiting
        self._flush_interval = flush_interval
        self._actor = actor
        self._changed = threading.Condition()
        self._waiting: deque[Outcome] = deque()
        self._sending = 0
        self._recorded = self._dropped = self._refused = 0
        self._ends_at: float | None = None
        self._call: Any = None
        self._thread: threading.Thread | None = None
        self._away = False

    def offer(self, outcome: Outcome) -> None:
        """Take it, or drop it when there is no room."""
        with self._changed:
            if self._ends_at is not None or len(self._waiting) + self._sending >= self._most_waiting:
                self._dropped += 1
                return
            self._waiting.append(outcome)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="multishadow-outcomes", daemon=True)
                self._thread.start()
            if len(self._waiting) in {1, BATCH}:
                self._changed.notify_all()

    def counts(self, *, ignored: int) -> OutcomeCounts:
        """What became of them so far."""
        with self._changed:
            return OutcomeCounts(
                recorded=self._recorded,
                waiting=len(self._waiting) + self._sending,
                dropped=self._dropped,
                refused=self._refused,
                ignored=ignored,
            )

    def close(self, *, within: float) -> None:
        """Send what waits, for so many seconds at most; the rest is dropped and counted."""
        with self._changed:
            self._ends_at = time.monotonic() + within
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            return
        thread.join(within)
        if thread.is_alive():
            with self._changed:
                if self._call is not None:
                    self._call.cancel()
            thread.join(CALL_SECONDS)

    def _run(self) -> None:
        pause, tries = FIRST_RETRY, 0
        while (batch := self._next_batch()) is not None:
            tries += 1
            unsent = self._send(batch, _REFUSING if tries < DOUBTFUL_TRIES else _REFUSING | _DOUBTFUL)
            with self._changed:
                self._sending = 0
                self._waiting.extendleft(reversed(unsent))
            if unsent:
                self._rest(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
                pause = min(2 * pause, LONGEST_RETRY)
            else:
                pause, tries = FIRST_RETRY, 0

    def _next_batch(self) -> list[Outcome] | None:
        """Outcomes of one model, once there are enough of them or one has waited long enough; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ends_at is not None)
            self._changed.wait_for(
                lambda: len(self._waiting) >= BATCH or self._ends_at is not None, self._flush_interval
            )
            if self._ends_at is not None and (not self._waiting or time.monotonic() >= self._ends_at):
                self._dropped += len(self._waiting)
                self._waiting.clear()
                return None
            model, batch, others = self._waiting[0].model, list[Outcome](), list[Outcome]()
            while self._waiting and len(batch) < BATCH:
                outcome = self._waiting.popleft()
                (batch if outcome.model == model else others).append(outcome)
            self._waiting.extendleft(reversed(others))
            self._sending = len(batch)
            return batch

    def _rest(self, seconds: float) -> None:
        with self._changed:
            ending = self._ends_at is not None
            limit = min(seconds, FIRST_RETRY) if ending else seconds
            self._changed.wait_for(lambda: self._ends_at is not None and not ending, limit)

    def _send(self, batch: Sequence[Outcome], refusing: Collection[grpc.StatusCode]) -> Sequence[Outcome]:
        """Send these; returns those that should be sent again."""
        code = self._import(batch)
        if code is grpc.StatusCode.OK:
            self._count(recorded=len(batch))
            return ()
        if code in _REFUSING_ALL or (code in refusing and len(batch) == 1):
            self._count(refused=len(batch))
            return ()
        if code in refusing:
            # One of them is; halving finds it.
            middle = len(batch) // 2
            unsent = self._send(batch[:middle], refusing)
            return [*unsent, *batch[middle:]] if unsent else self._send(batch[middle:], refusing)
        return batch

    def _import(self, batch: Sequence[Outcome]) -> grpc.StatusCode:
        requests = (
            control_pb2.ImportLabelsRequest(
                model=outcome.model, actor=self._actor, request_id=outcome.request_id, value=outcome.value
            )
            for outcome in batch
        )
        call: Any = self._stub.ImportLabels.future(requests, timeout=self._call_seconds())
        with self._changed:
            self._call = call
        try:
            call.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            self._note_failure(call)
            return call.code()  # type: ignore[no-any-return]
        finally:
            with self._changed:
                self._call = None
        self._away = False
        return grpc.StatusCode.OK

    def _call_seconds(self) -> float:
        with self._changed:
            if self._ends_at is None:
                return CALL_SECONDS
            return max(0.001, min(CALL_SECONDS, self._ends_at - time.monotonic()))

    def _count(self, *, recorded: int = 0, refused: int = 0) -> None:
        with self._changed:
            self._recorded += recorded
            self._refused += refused
            self._sending -= recorded + refused

    def _note_failure(self, call: Any) -> None:  # noqa: ANN401  a call and a future in one
        if not self._away:
            logger.warning("outcomes cannot be recorded: %s %s", call.code().name, call.details())
        self._away = True
