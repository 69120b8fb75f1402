"""Shadowing, with a trace for each capture."""

from __future__ import annotations

from collections.abc import Collection

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from multishadow_server.core.capture import Capture, Metadata
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation
from multishadow_server.core.request_ids import tellable
from multishadow_server.core.shadow_counts import ShadowTally
from multishadow_server.service.in_flight import CallSlots
from multishadow_server.service.ports import Comparer, ModelGateway
from multishadow_server.service.shadowing import Shadowed, Shadowing
from multishadow_server.service.spans import linked, span
from multishadow_server.service.version_guard import VersionGuard


class TracedShadowing(Shadowing):
    """Shadowing with a trace for each capture, linked to its request's, and a span for each shadow in it.

    Args:
        tracer: makes the spans.
        gateway, comparer, slots, guard, tally: see Shadowing.
    """

    def __init__(
        self,
        *,
        tracer: Tracer,
        gateway: ModelGateway,
        comparer: Comparer,
        slots: CallSlots,
        guard: VersionGuard | None = None,
        tally: ShadowTally | None = None,
    ) -> None:
        super().__init__(gateway=gateway, comparer=comparer, slots=slots, guard=guard, tally=tally)
        self._tracer = tracer

    async def shadow(
        self, capture: Capture, configuration: Configuration, *, repeated: Collection[str] = ()
    ) -> Shadowed:
        """Call all shadows of the capture; see Shadowing."""
        attributes = {"multishadow.model": capture.model, "multishadow.live_version": capture.live}
        if request_id := tellable(capture.request_id):
            attributes["multishadow.request_id"] = request_id
        links = linked(capture.metadata)
        with span(
            self._tracer, "shadow", SpanKind.CONSUMER, attributes=attributes, parent=Context(), links=links
        ) as begun:
            shadowed = await super().shadow(capture, configuration, repeated=repeated)
            begun.set_attribute("multishadow.fate", shadowed.fate.value)
            return shadowed

    async def _observe(
        self, capture: Capture, epoch: Epoch, configuration: Configuration, name: str, metadata: Metadata
    ) -> Observation:
        attributes = {"multishadow.model": capture.model, "multishadow.version": name}
        with span(self._tracer, f"shadow {name}", SpanKind.INTERNAL, attributes=attributes) as begun:
            observation = await super()._observe(capture, epoch, configuration, name, metadata)
            begun.set_attribute("multishadow.outcome", observation.outcome.value)
            if observation.reason:
                begun.set_attribute("multishadow.reason", observation.reason)
            return observation
