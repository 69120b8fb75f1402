"""A server of flagd.sync.v1 that publishes whatever a test tells it to, right or wrong."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import struct_pb2
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

# What control's server uses: readers may keep their connections alive.
OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 100),
    ("grpc.http2.max_ping_strikes", 0),
)


def flag_set(flags: Mapping[str, Any], *, revision: int = 1, evaluators: Mapping[str, Any] | None = None) -> str:
    """A set of flags as flagd publishes it; `evaluators` are the rules that flags refer to."""
    shared = {"$evaluators": evaluators} if evaluators else {}
    return json.dumps({"flags": flags, "metadata": {"flagSetId": "multishadow", "version": str(revision)}, **shared})


def text_flag(value: str, **more: Any) -> dict[str, Any]:
    """A flag that says `value` to everybody."""
    return {"state": "ENABLED", "variants": {"it": value, "other": "other"}, "defaultVariant": "it", **more}


class SyncServer(sync_pb2_grpc.FlagSyncServiceServicer):
    """Sends the present set on open, and every one that is published after it.

    Attributes:
        selectors: what streams were opened with, in order.
        status: when set, every stream ends with it at once.
        silent: streams are accepted and never get anything.
    """

    def __init__(self, published: str = "", address: str = "127.0.0.1:0") -> None:
        self._published = published
        self._number = 0
        self._news = threading.Condition()
        self._stopping = False
        self._listen = address
        self._server: grpc.Server | None = None
        self.context: Mapping[str, Any] = {"server": "test"}
        self.selectors: list[str] = []
        self.status: tuple[grpc.StatusCode, str] | None = None
        self.silent = False
        self.address = ""

    def publish(self, published: str) -> None:
        """Send this to every stream, and to those that come."""
        with self._news:
            self._published, self._number = published, self._number + 1
            self._news.notify_all()

    def start(self) -> SyncServer:
        """Serve; after a stop, at the same address."""
        self._stopping = False
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=OPTIONS)
        sync_pb2_grpc.add_FlagSyncServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self._listen)
        self._listen = self.address = f"127.0.0.1:{port}"
        self._server.start()
        return self

    def stop(self) -> None:
        """Go away."""
        with self._news:
            self._stopping = True
            self._news.notify_all()
        if self._server is not None:
            self._server.stop(grace=None).wait(10)

    def SyncFlags(self, request: Any, context: Any) -> Iterator[sync_pb2.SyncFlagsResponse]:  # noqa: N802  flagd's name
        self.selectors.append(request.selector)
        if self.status is not None:
            context.abort(*self.status)
        sent = -1
        while context.is_active() and not self._stopping:
            with self._news:
                # Looks up now and then, so that a stream whose reader has gone ends.
                self._news.wait_for(lambda: self._stopping or self._has_news(sent), timeout=0.5)  # noqa: B023  it is called at once
                if not self._has_news(sent):
                    continue
                sent, published = self._number, self._published
            sync_context = struct_pb2.Struct()
            sync_context.update(dict(self.context))
            yield sync_pb2.SyncFlagsResponse(flag_configuration=published, sync_context=sync_context)

    def _has_news(self, sent: int) -> bool:
        return not self.silent and self._number != sent

    def FetchAllFlags(self, request: Any, context: Any) -> sync_pb2.FetchAllFlagsResponse:  # noqa: N802  flagd's name
        return sync_pb2.FetchAllFlagsResponse(flag_configuration=self._published)

    def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  flagd's name
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "use sync_context")


@contextmanager
def publishing(published: str) -> Iterator[SyncServer]:
    """Such a server until the block ends."""
    server = SyncServer(published).start()
    try:
        yield server
    finally:
        server.stop()


def main() -> None:
    """Publish the set on standard input at the address that is the first argument, until killed."""
    server = SyncServer(sys.stdin.read(), address=sys.argv[1]).start()
    sys.stdout.write(f"{server.address}\n")
    sys.stdout.flush()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
