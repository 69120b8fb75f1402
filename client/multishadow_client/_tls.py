"""TLS as a client speaks it."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import grpc

Path = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """Connect over TLS. Without anything else, the server must show a certificate of a public authority.

    Args:
        ca: file of the authorities to trust instead, PEM.
        cert, key: files of the certificate to show and of its private key, PEM; for servers that ask for one.
        server_name: whose certificate the server must show, where it is not the address's host.

    Example:
        >>> Client("router.internal:50051", tls=Tls(ca="ca.pem"))
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC needs; the files are read now. Raises ValueError: one cannot be used; says which, and why."""
        # gRPC takes whatever it is given, and says nothing better than that no connection came about.
        self.context()
        ca, key, cert = (_content(path) for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)

    def context(self) -> ssl.SSLContext:
        """The same for Python's ssl. Raises ValueError."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("a certificate to show and its private key go together: give both, or neither")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"{self.ca} holds no authority's certificate that can be read: {_why(error)}") from error
        if self.cert is not None and self.key is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=_no_password)
            except (ssl.SSLError, OSError) as error:
                if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
                    raise ValueError(f"the key in {self.key} is not that of {self.cert}") from error
                raise ValueError(f"{self.cert} and its key {self.key} cannot be read: {_why(error)}") from error
        context.set_alpn_protocols(["h2"])
        return context

    @property
    def options(self) -> list[tuple[str, str]]:
        """Channel options."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:  # noqa: PTH123  it need not be a Path
        return file.read()


def _no_password() -> str:
    raise OSError("the key is protected by a password")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
