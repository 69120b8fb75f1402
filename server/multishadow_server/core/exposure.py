"""What of a process's setup lets somebody in who should stay out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

# Renewals are made weeks ahead; a certificate this old is one that nobody renews.
SHORT_LIFE = 7 * 86_400.0

_LOCAL = ("127.", "localhost:", "[::1]:", "unix:")


def is_local(address: str) -> bool:
    """Whether an address that is listened on, or called, is reached from this machine alone."""
    return address.startswith(_LOCAL)


def warnings(
    addresses: Sequence[str], *, tokens: bool, encrypted: bool, certificate_ends: float, now: float
) -> Iterator[str]:
    """What control should not be left like, in words.

    Args:
        addresses: that it listens on.
        tokens: whether it asks for one.
        encrypted: whether it speaks TLS.
        certificate_ends: seconds since the Unix epoch; infinite without one.
        now: likewise.
    """
    open_to = ", ".join(address for address in addresses if not is_local(address))
    if open_to and not tokens:
        yield (
            f"control listens on {open_to} and asks nobody for a token: whoever reaches it can promote, roll back, "
            "send requests elsewhere, and read those that were kept; set MULTISHADOW_AUTH=tokens"
        )
    if open_to and tokens and not encrypted:
        yield (
            f"control listens on {open_to} without TLS: tokens cross the network readable, unless a mesh encrypts "
            "them; set MULTISHADOW_TLS_CERT and MULTISHADOW_TLS_KEY"
        )
    if math.isfinite(certificate_ends) and certificate_ends - now < SHORT_LIFE:
        days = (certificate_ends - now) / 86_400
        when = f"expires in {days:.1f} days" if days > 0 else "has expired, and nobody can connect"
        yield f"the certificate in MULTISHADOW_TLS_CERT {when}; renewed files are taken up without a restart"
