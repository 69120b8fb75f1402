"""Who was refused lately: bounded, however many come."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

MOST_PEERS = 1_024
WINDOW_SECONDS = 60.0
MOST_IN_A_WINDOW = 30


@dataclass(slots=True)
class _Window:
    began: float
    count: int = 0


class Refusals:
    """Counts refusals by peer.

    A peer that is refused too often is told so without a second look, and no more of it is logged. It is never locked
    out: a valid token from the same place (a proxy, a cluster's gateway) is admitted as ever. Guessing 256 random bits
    needs no lock to be hopeless, and a lock would let anybody keep others out.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def note(self, peer: str, *, now: float) -> int:
        """Another refusal; how many there were of this peer in its window, this one among them.

        Args:
            peer: see `place_of`.
            now: seconds of a clock that only goes forward.
        """
        window = self._windows.get(peer)
        if window is None or now - window.began >= WINDOW_SECONDS:
            window = self._windows[peer] = _Window(now)
        self._windows.move_to_end(peer)
        if len(self._windows) > MOST_PEERS:
            self._windows.popitem(last=False)
        window.count += 1
        return window.count


def place_of(peer: str) -> str:
    """Where somebody comes from, without their port; of IPv6 the network (/64), all of which one host may have.

    Args:
        peer: as gRPC says it (`ipv4:10.0.0.7:40112`, `ipv6:%5B::1%5D:40112`, `unix:`), or a bare address.
    """
    text = peer.removeprefix("ipv4:").removeprefix("ipv6:").replace("%5B", "[").replace("%5D", "]")
    host = text.partition("]")[0].lstrip("[") if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return peer[:100]
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
