"""What the clients for threads have in common: a channel, and its errors as ours."""

from __future__ import annotations

from types import TracebackType
from typing import Self, cast

import grpc

from multishadow_client import _address, _prediction
from multishadow_client._errors import MultishadowError, Unreachable, from_status
from multishadow_client._tls import Tls


class Connection:
    """A channel that is closed with its owner, and turns gRPC's errors into ours."""

    def __init__(
        self, address: str, *, default: str, timeout: float | None, tls: Tls | None = None, token: str = ""
    ) -> None:
        self._address = _address.Address.parse(address, default=default, tls=tls, token=token)
        self._timeout = timeout
        self._channel = self._address.open()

    def close(self) -> None:
        """Close the connection; calls under way end as cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where it connects to, as gRPC names it."""
        return self._address.target

    def _error(self, error: grpc.RpcError) -> MultishadowError:
        # The error of a unary call is its call, too, which its declared type does not say.
        call = cast("grpc.Call", error)
        trailing = _prediction.text_values(call.trailing_metadata())
        found = from_status(call.code(), call.details() or "", address=self.address, trailing=trailing)
        if isinstance(found, Unreachable):
            found.address = self._address
        return found
