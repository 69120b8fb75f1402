"""What the settings say of TLS, put together."""

from __future__ import annotations

from multishadow_server.adapters import tls
from multishadow_server.settings import Settings


def serving(settings: Settings) -> tls.ServingTls | None:
    """What the ports of this process serve with; None in the clear. Raises InvalidInput: it cannot be used."""
    files = tls.Files.of(
        "TLS", cert=settings.tls_cert, key=settings.tls_key, ca=settings.tls_client_ca, ca_name="CLIENT_CA"
    )
    return tls.ServingTls(files) if files.named else None


def calling(settings: Settings) -> tls.CallingTls:
    """What version servers at `tls://` addresses are called with. Raises InvalidInput: it cannot be used."""
    return tls.CallingTls(
        tls.Files.of("VERSIONS", cert=settings.versions_cert, key=settings.versions_key, ca=settings.versions_ca)
    )


def nats(settings: Settings) -> tls.ClientTls | None:
    """What a NATS server is called with; None leaves it to its URL. Raises InvalidInput: it cannot be used."""
    files = tls.Files.of("NATS", cert=settings.nats_cert, key=settings.nats_key, ca=settings.nats_ca)
    return tls.ClientTls(files) if files.named else None
