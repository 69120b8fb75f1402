"""Reading and setting versions' flags from code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import grpc
from google.protobuf.json_format import MessageToDict
from grpc import aio

from multishadow.v1 import control_pb2, control_pb2_grpc
from multishadow_client import _address, _prediction
from multishadow_client._aio import _AsyncConnection
from multishadow_client._connection import Connection
from multishadow_client._errors import NotFound, from_status
from multishadow_client._tls import Tls

Claim: TypeAlias = Literal["off", "shadow", "live"]
_CLAIMS: Mapping[str, control_pb2.Claim.ValueType] = {
    "off": control_pb2.CLAIM_OFF,
    "shadow": control_pb2.CLAIM_SHADOW,
    "live": control_pb2.CLAIM_LIVE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """What one version's flag says.

    Args:
        key: `<model>.<version>`.
        claim: in words: "off", "live", "shadow 25 %", "live 5 % (else shadow)", "targeting rule".
        definition: flagd's definition.
        revision: of all flags when this was read or written; `set(expected_revision=…)` takes it.
        changed_in: the revision that made it so.
        changed_at: when that was.
        changed_by, reason: who made it so, and why.
        warnings: what whoever wrote it should know, e.g. that some router reads its flags elsewhere.
    """

    key: str
    claim: str
    definition: Mapping[str, Any]
    revision: int
    changed_in: int
    changed_at: datetime
    changed_by: str
    reason: str
    warnings: tuple[str, ...] = ()


class Flags(Connection):
    """Reads and sets what versions claim. Safe to share between threads.

    Args:
        address: of control; a scheme may stand before it.
        timeout: seconds that a call may take.
        tls: connect over TLS.
        token: shown with every call, for a control that asks for one.

    Every method raises MultishadowError with the server's message.

    Example:
        >>> with Flags("127.0.0.1:50052") as flags:
        ...     flag = flags.get("spam", "A")
        ...     flags.set("spam", "A", "shadow", percent=25, reason="warming up", expected_revision=flag.revision)
    """

    def __init__(
        self,
        address: str = _address.CONTROL,
        *,
        timeout: float | None = 10.0,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        super().__init__(address, default=_address.CONTROL, timeout=timeout, tls=tls, token=token)
        self._stub = control_pb2_grpc.ControlServiceStub(self._channel)

    def list(self, model: str = "") -> dict[str, Flag]:
        """A model's flags by key, all of one revision; of all models when it is empty. Raises NotFound."""
        try:
            found = self._stub.ListFlags(control_pb2.ListFlagsRequest(model=model), timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._error(error) from error
        return _listed(found)

    def get(self, model: str, version: str) -> Flag:
        """One version's flag. Raises NotFound: there is no such model or version."""
        return _one(self.list(model), model, version)

    def set(
        self,
        model: str,
        version: str,
        claim: Claim,
        *,
        percent: float | None = None,
        reason: str = "",
        expected_revision: int | None = None,
        actor: str = "",
    ) -> Flag:
        """Set what a version claims.

        Args:
            model: the model's name.
            version: the version's name.
            claim: "off", "shadow" or "live". Who is live is changed by promotion and rollback; see `shadowctl promote`.
            percent: share of requests in (0, 100]; None is all.
            reason: why, for the record.
            expected_revision: write only if the flags are still at this revision; None writes whatever they are.
            actor: who; empty for the address that the call comes from.

        Raises:
            Conflict: somebody changed something since `expected_revision`; read again, and decide again.
            FailedPrecondition: it would change who is live.
            InvalidInput: the percent is out of range.
            NotFound: there is no such model or version.
            ValueError: the claim is none.
        """
        request = _set_request(
            model,
            version,
            claim,
            percent=percent,
            reason=reason,
            expected_revision=expected_revision,
            actor=actor,
        )
        try:
            return _written(self._stub.SetFlag(request, timeout=self._timeout))
        except grpc.RpcError as error:
            raise self._error(error) from error


class AsyncFlags(_AsyncConnection):
    """The same for asyncio; for the event loop that made it."""

    def __init__(
        self,
        address: str = _address.CONTROL,
        *,
        timeout: float | None = 10.0,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        super().__init__(address, default=_address.CONTROL, timeout=timeout, tls=tls, token=token)
        self._stub: Any = control_pb2_grpc.ControlServiceStub(self._channel)

    async def list(self, model: str = "") -> dict[str, Flag]:
        """See `Flags.list`."""
        return _listed(await self._call(self._stub.ListFlags, control_pb2.ListFlagsRequest(model=model)))

    async def get(self, model: str, version: str) -> Flag:
        """See `Flags.get`."""
        return _one(await self.list(model), model, version)

    async def set(
        self,
        model: str,
        version: str,
        claim: Claim,
        *,
        percent: float | None = None,
        reason: str = "",
        expected_revision: int | None = None,
        actor: str = "",
    ) -> Flag:
        """See `Flags.set`."""
        request = _set_request(
            model,
            version,
            claim,
            percent=percent,
            reason=reason,
            expected_revision=expected_revision,
            actor=actor,
        )
        return _written(await self._call(self._stub.SetFlag, request))

    async def _call(self, method: Any, request: object) -> Any:  # noqa: ANN401  the stubs' asyncio half has no types
        try:
            return await method(request, timeout=self._timeout)
        except aio.AioRpcError as error:
            trailing = _prediction.text_values(error.trailing_metadata())
            address = self._address.target
            raise from_status(error.code(), error.details() or "", address=address, trailing=trailing) from error


def _set_request(
    model: str,
    version: str,
    claim: str,
    *,
    percent: float | None,
    reason: str,
    expected_revision: int | None,
    actor: str,
) -> control_pb2.SetFlagRequest:
    if claim not in _CLAIMS:
        raise ValueError(f"{claim!r} is no claim; a version claims {', '.join(_CLAIMS)}")
    return control_pb2.SetFlagRequest(
        model=model,
        version=version,
        claim=_CLAIMS[claim],
        percent=percent,
        reason=reason,
        expected_revision=expected_revision,
        actor=actor,
    )


def _listed(found: control_pb2.ListFlagsResponse) -> dict[str, Flag]:
    return {flag.key: _flag(flag, found.revision) for flag in found.flags}


def _written(response: control_pb2.SetFlagResponse) -> Flag:
    return _flag(response.flag, response.revision, warnings=tuple(response.warnings))


def _flag(flag: control_pb2.Flag, revision: int, *, warnings: tuple[str, ...] = ()) -> Flag:
    return Flag(
        key=flag.key,
        claim=flag.claim,
        definition=MessageToDict(flag.definition),
        revision=revision,
        changed_in=flag.revision,
        changed_at=flag.changed_at.ToDatetime(tzinfo=UTC),
        changed_by=flag.changed_by,
        reason=flag.reason,
        warnings=warnings,
    )


def _one(flags: Mapping[str, Flag], model: str, version: str) -> Flag:
    flag = flags.get(f"{model}.{version}")
    if flag is None:
        known = ", ".join(flags) or "none"
        raise NotFound(
            f'the model "{model}" has no version "{version}"; its flags: {known}', code=grpc.StatusCode.NOT_FOUND
        )
    return flag
