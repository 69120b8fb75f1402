"""Certificates and keys from files: checked when they are read, and read again when they change.

Whoever renews certificates writes files; nobody restarts anything. Files that cannot be used at the start end it with a
message that names the setting, the file and the reason. Later, they are logged, and what was read last goes on.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from multishadow_server.errors import InvalidInput

# A connection that was made and says nothing is closed after so long; it holds up nobody meanwhile.
HANDSHAKE_SECONDS = 10.0

_log = logging.getLogger(__name__)
Value = TypeVar("Value")
_EXPIRED, _NOT_YET_VALID = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where certificates are; the settings' names are for messages.

    Args:
        cert, key: chain and private key of this side; both or neither.
        ca: authorities of the other side.
        names: of the settings, by the field: {"cert": "MULTISHADOW_TLS_CERT", …}.
    """

    cert: Path | None
    key: Path | None
    ca: Path | None
    names: Mapping[str, str]

    @classmethod
    def of(cls, prefix: str, *, cert: Path | None, key: Path | None, ca: Path | None, ca_name: str = "CA") -> Files:
        """These files, which settings beginning with MULTISHADOW_ and `prefix` name."""
        start = f"MULTISHADOW_{prefix}"
        return cls(
            cert=cert,
            key=key,
            ca=ca,
            names={"cert": f"{start}_CERT", "key": f"{start}_KEY", "ca": f"{start}_{ca_name}"},
        )

    @property
    def named(self) -> bool:
        """Whether there are any."""
        return not (self.cert is None and self.key is None and self.ca is None)

    def stamp(self) -> tuple[Any, ...]:
        """Changes whenever a file does; also when a link to it is turned, as Kubernetes does it."""
        return tuple(_stamp(path) for path in (self.cert, self.key, self.ca))


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the files held, as PEM.

    Args:
        chain, key, ca: empty for files that were not named.
        ends_at: when the certificate expires, in seconds since the Unix epoch.
    """

    chain: bytes = b""
    key: bytes = b""
    ca: bytes = b""
    ends_at: float = math.inf


class Watched(Generic[Value]):
    """What files came to; made anew when one of them has changed. For any thread.

    Args:
        files: which.
        make: out of what they hold; may refuse it.

    Raises:
        InvalidInput: the files cannot be used.
    """

    def __init__(self, files: Files, make: Callable[[Files, Material], Value], *, serving: bool) -> None:
        self._files = files
        self._make = make
        self._serving = serving
        self._lock = threading.Lock()
        self._stamp = files.stamp()
        self._material = read(files, serving=serving)
        self._value = make(files, self._material)

    @property
    def material(self) -> Material:
        """What is in use."""
        return self._material

    def current(self) -> Value:
        """The value, of the files as they are now; of those before, while these cannot be used."""
        stamp = self._files.stamp()
        with self._lock:
            if stamp == self._stamp:
                return self._value
            self._stamp = stamp
            try:
                material = read(self._files, serving=self._serving)
                value = self._make(self._files, material)
            except InvalidInput as error:
                # Halfway through a renewal certificate and key need not match; the next look is at both.
                _log.warning("changed certificates are not taken up: %s", error)
                return self._value
            self._material, self._value = material, value
        _log.info("took up changed certificates from %s", self._files.cert or self._files.ca)
        return value


class ServingTls:
    """What a port that speaks TLS serves with.

    Args:
        files: a certificate and its key; with `ca`, whoever connects must show one of these authorities'.

    Raises:
        InvalidInput: they cannot be used.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._grpc = Watched(files, _grpc_configuration, serving=True)
        self._contexts = Watched(files, _serving_context, serving=True)

    @property
    def ends_at(self) -> float:
        """When the certificate in use expires, in seconds since the Unix epoch."""
        return self._grpc.material.ends_at

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. gRPC asks for changes before every handshake."""
        told = configuration = self._grpc.current()

        def changed() -> Any:  # noqa: ANN401  its class is gRPC's own
            nonlocal told
            before, told = told, self._grpc.current()
            return None if told is before else told

        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            configuration, changed, require_client_authentication=self._files.ca is not None
        )
        return credentials

    def ssl_context(self) -> ssl.SSLContext:
        """For asyncio's servers."""
        # What is made once is asked for the latest by every handshake: OpenSSL takes certificate, key and authorities
        # from the context that is put in its place. It is called whether or not the client names a server.
        front = _serving_context(self._files, self._contexts.material)

        def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._contexts.current()

        front.sni_callback = choose
        return front


@dataclass(slots=True)
class CallingTls:
    """What is called over TLS with; without files, public authorities are trusted and no certificate is shown.

    Args:
        files: `ca` of the servers; certificate and key to show to them.

    Raises:
        InvalidInput: they cannot be used.
    """

    files: Files
    _watched: Watched[grpc.ChannelCredentials] = field(init=False)

    def __post_init__(self) -> None:
        self._watched = Watched(self.files, _channel_credentials, serving=False)

    def credentials(self) -> grpc.ChannelCredentials:
        """For `secure_channel`: of the files as they are now."""
        return self._watched.current()


def read(files: Files, *, serving: bool) -> Material:
    """Read and check the files.

    Args:
        files: which.
        serving: whether the certificate is to be a server's.

    Raises:
        InvalidInput: which setting, which file, and why it cannot be used.
    """
    for given, other in (("cert", "key"), ("key", "cert")):
        if getattr(files, given) is not None and getattr(files, other) is None:
            raise InvalidInput(f"{files.names[given]} is set, and {files.names[other]} is not: they go together")
    if serving and files.ca is not None and files.cert is None:
        raise InvalidInput(f"{files.names['ca']} is set, and {files.names['cert']} is not: there is no TLS without it")
    chain, key, ca = (_content(files, name) for name in ("cert", "key", "ca"))
    if ca:
        _check_authorities(files, ca)
    ends_at = _check_certificate(files, chain, serving=serving) if files.cert is not None else math.inf
    return Material(chain=chain, key=key, ca=ca, ends_at=ends_at)


class ClientTls:
    """The same for clients that take a context of Python's.

    Args:
        files: as for CallingTls.

    Raises:
        InvalidInput: they cannot be used.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._stamp = files.stamp()
        read(files, serving=False)
        self.context = ssl.create_default_context(cafile=None if files.ca is None else str(files.ca))
        self._load_certificate()

    def refresh(self) -> None:
        """Take up files that have changed; who connects again calls it before."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            read(self._files, serving=False)
            if self._files.ca is not None:
                self.context.load_verify_locations(self._files.ca)
            self._load_certificate()
        except (InvalidInput, OSError) as error:
            _log.warning("changed certificates are not taken up: %s", error)

    def _load_certificate(self) -> None:
        if self._files.cert is not None and self._files.key is not None:
            self.context.load_cert_chain(self._files.cert, self._files.key, password=_no_password)


def _grpc_configuration(_: Files, material: Material) -> Any:  # noqa: ANN401  its class is gRPC's own
    return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.ca or None)


def _channel_credentials(_: Files, material: Material) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(material.ca or None, material.key or None, material.chain or None)


def _serving_context(files: Files, material: Material) -> ssl.SSLContext:
    assert files.cert is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        # They were fine when they were checked, an instant ago.
        raise InvalidInput(f"{files.names['cert']}: {files.cert} changed while it was read: {error}") from error
    if material.ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=_text(material.ca))
    return context


def _text(pem: bytes) -> str:
    # Comments between certificates may be in any language.
    return pem.decode("ascii", "replace")


def _no_password() -> str:
    raise ValueError("it is protected by a password, which nobody is there to type")


def _content(files: Files, name: str) -> bytes:
    path: Path | None = getattr(files, name)
    if path is None:
        return b""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{files.names[name]}: cannot read {path}: {error.strerror}") from error
    wanted = b"PRIVATE KEY-----" if name == "key" else b"-----BEGIN CERTIFICATE-----"
    if wanted not in content:
        what = "private key" if name == "key" else "certificate"
        raise InvalidInput(f"{files.names[name]}: {path} holds no {what} in PEM format")
    return content


def _check_authorities(files: Files, ca: bytes) -> None:
    where = f"{files.names['ca']}: {files.ca}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=_text(ca))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput(f"{where} holds a certificate that cannot be read: {error}") from error
    authorities = context.get_ca_certs()
    if not authorities:
        raise InvalidInput(f"{where} holds no authority's certificate; a server's or client's own is none")


def _check_certificate(files: Files, chain: bytes, *, serving: bool) -> float:
    """When the certificate expires. Raises InvalidInput: the key is another's, or a client would refuse it."""
    where = f"{files.names['cert']}: {files.cert}"
    assert files.cert is not None
    assert files.key is not None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(files.cert, files.key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidInput(f"{files.names['key']}: the key in {files.key} is not that of {files.cert}") from error
        raise InvalidInput(f"{where}, or its key {files.key}, cannot be read: {error}") from error
    except ValueError as error:
        raise InvalidInput(f"{files.names['key']}: {files.key} cannot be used: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{where}, or its key {files.key}, cannot be read: {error.strerror}") from error
    return _ends_at(where, server, _text(chain), serving=serving)


def _ends_at(where: str, server: ssl.SSLContext, chain: str, *, serving: bool) -> float:
    """Shake hands with ourselves: it is the check that clients make, and needs no parser of certificates."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate itself is trusted, whoever signed it, and only its own faults are found.
    client.verify_flags = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=chain)
    try:
        found = _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            raise InvalidInput(f"{where} has expired; renew it") from error
        if error.verify_code == _NOT_YET_VALID:
            raise InvalidInput(f"{where} is not valid yet; see that this machine's clock is right") from error
        if serving:
            raise InvalidInput(f"{where} is no server's certificate: {error.verify_message}") from error
        # One that is for clients only, as it should be.
        return math.inf
    except ssl.SSLError as error:
        raise InvalidInput(f"{where} cannot be used: {error}") from error
    return float(ssl.cert_time_to_seconds(str(found["notAfter"])))


def _shake_hands(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> Mapping[str, Any]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    pending = [client, server]
    while pending:
        side = pending.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pending.append(side)
    return client.getpeercert() or {}


def _stamp(path: Path | None) -> object:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return (found.st_ino, found.st_mtime_ns, found.st_size)
