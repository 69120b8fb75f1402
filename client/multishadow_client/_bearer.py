"""Showing a token with every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from grpc import aio

AUTHORIZATION = "authorization"


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """For channels of threads.

    gRPC's own call credentials would do the same, but only over TLS; control on this machine need not speak it.
    """

    def __init__(self, token: str) -> None:
        self._header = (AUTHORIZATION, f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:  # noqa: ANN401  gRPC's signature
        """Add it."""
        return continuation(self._with_header(client_call_details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:  # noqa: ANN401  as above
        """Add it."""
        return continuation(self._with_header(client_call_details), request)

    def intercept_stream_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: Any,  # noqa: ANN401  as above
        request_iterator: Any,  # noqa: ANN401  as above
    ) -> Any:  # noqa: ANN401  as above
        """Add it."""
        return continuation(self._with_header(client_call_details), request_iterator)

    def _with_header(self, details: Any) -> _Details:  # noqa: ANN401  as above
        return _Details(
            details.method,
            details.timeout,
            (*(details.metadata or ()), self._header),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class AsyncBearer(aio.UnaryUnaryClientInterceptor):
    """For channels of an event loop."""

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    async def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: aio.ClientCallDetails,
        request: Any,  # noqa: ANN401  gRPC's signature
    ) -> Any:  # noqa: ANN401  as above
        """Add it."""
        metadata = aio.Metadata(*(client_call_details.metadata or ()))
        metadata.add(AUTHORIZATION, self._value)
        details = client_call_details
        shown = aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
        return await continuation(shown, request)
