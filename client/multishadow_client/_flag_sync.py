"""Following a server's flags over flagd.sync.v1, in a thread."""

from __future__ import annotations

import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from multishadow_client._flag_set import FlagSet

logger = logging.getLogger(__name__)

FIRST_RETRY = 0.1
LONGEST_RETRY = 5.0
# Whoever says one of these says it again until somebody changes a configuration or a release.
_HOPELESS = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Follower:
    """Whoever is told what becomes of the flags; always in the following thread, one call at a time.

    Args:
        take: these are the flags now.
        note_malformed: what was published cannot be used, for this reason; the flags of before are not current.
        note_failure: an attempt to follow failed or a stream ended, for this reason.
        note_hopeless: it will go on failing for this reason; True gives up for good.
        note_stale: the flags could not be followed for the grace period, for this reason.
    """

    take: Callable[[FlagSet], None]
    note_malformed: Callable[[str], None]
    note_failure: Callable[[str], None]
    note_hopeless: Callable[[str], bool]
    note_stale: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _News:
    """What a stream brought: a set, or its end."""

    stream: int
    published: sync_pb2.SyncFlagsResponse | None
    error: grpc.RpcError | None = None


class FlagSync:
    """Follows the flags until closed: reconnects with growing, jittered pauses, and never stands still.

    Two threads: one that decides, and for each stream one that reads it and hands on what comes. A thread that reads a
    gRPC stream cannot look at a clock.

    Args:
        channel: to the server; it stays its owner's.
        follower: whoever is told.
        selector: which set of flags; empty for the server's own choice.
        grace: seconds without a stream after which the flags count as stale.
        first_grace: the same from the start to the first set.
        first_set_within: seconds in which a new stream must bring a set, so that a server that accepts and then says
            nothing is not waited for without end.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        follower: Follower,
        *,
        selector: str,
        grace: float,
        first_grace: float,
        first_set_within: float,
    ) -> None:
        self._stub = sync_pb2_grpc.FlagSyncServiceStub(channel)
        self._follower = follower
        self._selector = selector
        self._grace = grace
        self._first_set_within = first_set_within
        self._news: queue.SimpleQueue[_News | None] = queue.SimpleQueue()
        self._streams = 0
        self._stale_at = time.monotonic() + first_grace
        self._reason = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="multishadow-flags", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self, *, within: float) -> None:
        """Stop following; the thread has ended when this returns, unless it takes longer than `within` seconds."""
        self._stopping.set()
        self._news.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(within)

    def _run(self) -> None:
        pause = FIRST_RETRY
        while not self._stopping.is_set():
            try:
                had_a_set, gives_up = self._follow_one_stream()
            except Exception:
                # Also somebody else's mistake, in a handler of ours, must not leave the flags behind for good.
                logger.exception("following the flags failed; it goes on")
                had_a_set, gives_up = False, False
            if gives_up:
                return
            pause = FIRST_RETRY if had_a_set else min(2 * pause, LONGEST_RETRY)
            # All clients lose a server at the same moment; they need not come back at the same moment.
            self._wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret

    def _follow_one_stream(self) -> tuple[bool, bool]:
        """Follow until the stream ends: whether it brought a set, and whether to give up."""
        self._streams += 1
        number = self._streams
        metadata: tuple[tuple[str, str | bytes], ...] = (("flagd-selector", self._selector),) if self._selector else ()
        request = sync_pb2.SyncFlagsRequest(selector=self._selector, provider_id="multishadow")
        stream = self._stub.SyncFlags(request, metadata=metadata)
        reader = threading.Thread(
            target=self._read, args=(number, stream), name="multishadow-flags-stream", daemon=True
        )
        reader.start()
        had_a_set = False
        try:
            until = time.monotonic() + self._first_set_within
            while not self._stopping.is_set():
                news = self._next(until)
                if news is None:
                    if self._stopping.is_set():
                        break
                    reason = f"no flags came within {self._first_set_within:g} s of asking for them"
                    return had_a_set, self._lost(reason, hopeless=False)
                if news.stream != number:
                    continue
                if news.published is None:
                    return had_a_set, self._ended(news.error)
                if self._take(news.published):
                    had_a_set = True
                until = math.inf
            return had_a_set, True
        finally:
            stream.cancel()
            reader.join()

    def _read(self, number: int, stream: Iterable[sync_pb2.SyncFlagsResponse]) -> None:
        error: grpc.RpcError | None = None
        try:
            for published in stream:
                self._news.put(_News(number, published))
        except grpc.RpcError as raised:
            error = raised
        except Exception:
            logger.exception("reading the flags' stream failed")
        self._news.put(_News(number, None, error))

    def _take(self, published: sync_pb2.SyncFlagsResponse) -> bool:
        try:
            flags = FlagSet.parse(published.flag_configuration, json_format.MessageToDict(published.sync_context))
        except (ValueError, json_format.Error) as error:
            logger.warning("the server published flags that cannot be used; the last ones stay: %s", error)
            self._follower.note_malformed(str(error))
            return False
        if self._reason:
            logger.info("flags are followed again")
        self._reason, self._stale_at = "", math.inf
        self._follower.take(flags)
        return True

    def _ended(self, error: Any) -> bool:  # noqa: ANN401  an RpcError is a Call, too, which its type does not say
        if error is None:
            # Servers end streams now and then so that clients spread over them anew.
            return self._lost("the server ended the stream", hopeless=False)
        code = error.code()
        return self._lost(f"{code.name}: {error.details()}", hopeless=code in _HOPELESS)

    def _lost(self, reason: str, *, hopeless: bool) -> bool:
        if not self._reason:
            logger.info("the flags' stream is lost: %s", reason)
            self._stale_at = time.monotonic() + self._grace
        self._reason = reason
        if hopeless:
            return self._follower.note_hopeless(reason)
        self._follower.note_failure(reason)
        return False

    def _next(self, until: float) -> _News | None:
        """What comes next; None when `until` has passed, or when all ends."""
        while True:
            now = time.monotonic()
            if now >= self._stale_at:
                self._stale_at = math.inf
                self._follower.note_stale(self._reason)
            if now >= until or self._stopping.is_set():
                return None
            left = min(until, self._stale_at) - now
            try:
                return self._news.get(timeout=None if math.isinf(left) else left)
            except queue.Empty:
                continue

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._next(until) is not None:
            """What a stream that has ended still says is nothing to anybody."""
