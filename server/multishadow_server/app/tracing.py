"""Traces, put together: nothing of them is there, nor imported, unless the OTEL_* variables ask for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from multishadow_server.core.shadow_counts import ShadowTally
from multishadow_server.entrypoints.door import Door
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service.in_flight import CallSlots
from multishadow_server.service.live_path import LivePath
from multishadow_server.service.ports import Comparer, ModelGateway
from multishadow_server.service.shadowing import Shadowing
from multishadow_server.service.version_guard import VersionGuard
from multishadow_server.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Untraced:
    """The parts of a role as they are."""

    def gateway(self, gateway: ModelGateway) -> ModelGateway:
        """Calls the live version."""
        return gateway

    def door(self, live_path: LivePath, *, max_message_bytes: int) -> Door:
        """Takes requests in."""
        return Door(live_path, max_message_bytes=max_message_bytes)

    def shadowing(
        self, *, gateway: ModelGateway, comparer: Comparer, slots: CallSlots, guard: VersionGuard, tally: ShadowTally
    ) -> Shadowing:
        """Sends captures to shadows."""
        return Shadowing(gateway=gateway, comparer=comparer, slots=slots, guard=guard, tally=tally)


class Traced(Untraced):
    """The same parts, with spans of this tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def gateway(self, gateway: ModelGateway) -> ModelGateway:
        """Calls the live version."""
        from multishadow_server.adapters.traced_calls import TracedGateway  # noqa: PLC0415  see the module's docstring

        return TracedGateway(gateway, self._tracer)

    def door(self, live_path: LivePath, *, max_message_bytes: int) -> Door:
        """Takes requests in."""
        from multishadow_server.entrypoints.traced_door import TracedDoor  # noqa: PLC0415  as above

        return TracedDoor(live_path, max_message_bytes=max_message_bytes, tracer=self._tracer)

    def shadowing(
        self, *, gateway: ModelGateway, comparer: Comparer, slots: CallSlots, guard: VersionGuard, tally: ShadowTally
    ) -> Shadowing:
        """Sends captures to shadows."""
        from multishadow_server.adapters.traced_calls import TracedComparer  # noqa: PLC0415  as above
        from multishadow_server.service.traced_shadowing import TracedShadowing  # noqa: PLC0415  as above

        return TracedShadowing(
            tracer=self._tracer,
            gateway=self.gateway(gateway),
            comparer=TracedComparer(comparer, self._tracer),
            slots=slots,
            guard=guard,
            tally=tally,
        )


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the OTEL_* variables ask for traces.

    Raises:
        InvalidInput: they ask for an exporter or a protocol that is not there.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return False
    if exporter not in ("", "otlp"):
        raise InvalidInput(f"OTEL_TRACES_EXPORTER={exporter}: traces leave by otlp alone; use that, or none")
    if not exporter and not any(environment.get(name) for name in _ENDPOINTS):
        return False
    for name in _PROTOCOLS:
        if environment.get(name, "grpc") not in ("", "grpc"):
            raise InvalidInput(f"{name}={environment[name]}: OTLP is spoken over grpc alone (usually at port 4317)")
    return True


def begin(role: str, settings: Settings, stack: AsyncExitStack) -> Untraced:
    """Trace what this role does until the stack ends, where that is wanted.

    Raises:
        InvalidInput: see `wanted`.
        FailedPrecondition: traces are wanted, and what makes them is not installed.
    """
    if not wanted(os.environ):
        return Untraced()
    try:
        from multishadow_server.adapters import tracing  # noqa: PLC0415  see the module's docstring
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and {error.name} is not installed: it comes with an extra, "
            "pip install 'multishadow[tracing]'. Or unset it, or set OTEL_TRACES_EXPORTER=none"
        ) from error
    provider = tracing.provider_of(role, settings.instance)
    stack.push_async_callback(tracing.end, provider)
    tracing.note_in_log()
    return Traced(provider.get_tracer("multishadow"))
