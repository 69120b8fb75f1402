"""What the live path knows of each model, ready to decide by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from multishadow_server.core import serving
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.live_counts import Share
from multishadow_server.core.model import Model
from multishadow_server.core.protocols import CALLED_BY, renaming
from multishadow_server.core.routing import Claims, Decision
from multishadow_server.core.writes import Writes
from multishadow_server.service import ports

MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A model, ready to decide: its versions and their flags in order of registration.

    `shares` is whose counts a request belongs to, by the version that was chosen. `writes` is None where no request
    writes. `caps` has the largest request that may be copied to a version, by its name, where there is such a limit.
    """

    model: Model
    names: tuple[str, ...]
    flag_keys: tuple[str, ...]
    addresses: Mapping[str, str]
    renamings: Mapping[str, bytes]
    shares: Mapping[str, Share]
    last_known_live: str | None
    revision: int
    decisions: dict[tuple[bool, Claims], Decision]
    writes: Writes | None
    caps: Mapping[str, int]


def route_of(model: Model, configuration: Configuration, before: Route | None) -> Route:
    """Who serves when a request finds no live claim: the version whose flag last said `live` to everybody.

    It is taken from flags alone, not from requests, so that all routers agree on it whatever traffic each one saw.
    """
    standing = serving.standing(model, configuration.flags)
    known = before.last_known_live if before else None
    return Route(
        model=model,
        names=tuple(version.name for version in model.versions),
        flag_keys=tuple(version.flag_key for version in model.versions),
        addresses={version.name: version.address for version in model.versions},
        renamings={version.name: renaming(version.served_name, version.served_version) for version in model.versions},
        shares={version.name: Share(model.name, version.name, configuration.revision) for version in model.versions},
        last_known_live=standing.name if standing else known,
        revision=configuration.revision,
        decisions={},
        writes=model.writes or None,
        caps=_caps(model),
    )


def _caps(model: Model) -> Mapping[str, int]:
    caps = {
        version.name: [cap for cap in (model.max_request_bytes, version.limits.max_request_bytes) if cap is not None]
        for version in model.versions
    }
    return {name: min(both) for name, both in caps.items() if both}


def explained(answer: ports.Answer, route: Route, version: str) -> ports.Answer:
    """A version that could not be reached has said nothing; then the message says who, where, and what to do."""
    if answer.reached:
        return answer
    where = f'the live version "{route.model.name}.{version}" at {route.addresses[version]}'
    what = "see that it runs and that its address is right (`shadowctl get versions`)"
    return replace(answer, status_message=f"{where} cannot be reached: {answer.status_message}; {what}")


def other_protocol(model: Model) -> str:
    """Why a model cannot be asked by the method that was called, and what to call."""
    return (
        f'the model "{model.name}" has `protocol: {model.protocol}`: call {CALLED_BY[model.protocol]}, or register it '
        "with another protocol"
    )


def listed(names: Iterable[str]) -> str:
    """Names for a message."""
    known = sorted(names)
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return ", ".join(known[:MOST_NAMED]) + more or "none yet (`shadowctl apply -f model.yaml` registers one)"
