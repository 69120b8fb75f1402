"""Which requests' ids may be told to whoever reads logs and traces, which are read by many and kept for long."""

from __future__ import annotations

import re

_OPAQUE = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def tellable(request_id: str) -> str:
    """The id where it is a UUID, as routers make them; empty otherwise: an id that a caller makes may say who it is."""
    return request_id if _OPAQUE.fullmatch(request_id) else ""
