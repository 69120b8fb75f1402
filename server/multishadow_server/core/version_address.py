"""Where a version server is, and whether it is called over TLS.

`host:port`, `unix:/path`, or `tls://host:port`. A certificate that is for another name than the host, as behind a
service's address, is asked for by `tls://10.0.0.7:9000?server_name=spam.models.internal`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEME = "tls://"
_HOST_AND_PORT = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})"
)
_UNIX_SOCKET = re.compile(r"unix:/[^\x00-\x20]+")
_SERVER_NAME = re.compile(r"server_name=(?P<name>[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionAddress:
    """An address that was read.

    Args:
        target: as gRPC takes it.
        tls: whether to call it over TLS.
        server_name: whose certificate it must show; empty for the host's.
    """

    target: str
    tls: bool = False
    server_name: str = ""


def parse(text: str) -> VersionAddress | None:
    """Read an address; None when it is none."""
    if not text.startswith(SCHEME):
        return VersionAddress(target=text) if _is_host_and_port(text) or _UNIX_SOCKET.fullmatch(text) else None
    target, asked, query = text.removeprefix(SCHEME).partition("?")
    named = _SERVER_NAME.fullmatch(query) if asked else None
    if not _is_host_and_port(target) or (asked and named is None):
        return None
    return VersionAddress(target=target, tls=True, server_name=named["name"] if named else "")


def _is_host_and_port(text: str) -> bool:
    match = _HOST_AND_PORT.fullmatch(text)
    return match is not None and 1 <= int(match["port"]) <= 65_535
