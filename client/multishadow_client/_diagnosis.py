"""Why no connection came about, where TLS is the reason: gRPC does not say."""

from __future__ import annotations

import re
import socket
import ssl

from multishadow_client._address import Address
from multishadow_client._tls import Tls

_HOST_AND_PORT = re.compile(r"\[?(?P<host>[^\[\]/]+)\]?:(?P<port>\d+)")
_WRONG_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NOT_TRUSTED = {18, 19, 20, 21}  # self-signed, or no issuer that is known
_EXPIRED = 10


def diagnose(address: Address, *, within: float = 2.0) -> str:
    """Connect once more and look; what is wrong and what to do, or empty when it is nothing that this knows.

    Args:
        address: that was called, as it was.
        within: seconds for each of two connections at most.
    """
    match = _HOST_AND_PORT.fullmatch(address.target)
    if match is None:
        return ""
    where = (match["host"], int(match["port"]))
    try:
        if not address.encrypted:
            return _of_plain(address, where, within)
        return _of_tls(address.tls or Tls(), address, where, within)
    except ValueError as error:
        return str(error)
    except OSError:
        # Nobody is there, which was said already.
        return ""


def _of_plain(address: Address, where: tuple[str, int], within: float) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(context, where, where[0], within)
    except ssl.SSLError as error:
        # A server that refuses only us speaks TLS, too.
        if "ALERT" not in (error.reason or ""):
            return ""
    return f"{address.target} speaks TLS: use it, too (shadowctl: --tls, and --ca for an authority of your own)"


def _of_tls(tls: Tls, address: Address, where: tuple[str, int], within: float) -> str:
    try:
        _shake_hands(tls.context(), where, tls.server_name or where[0], within, then_read=True)
    except ssl.SSLCertVerificationError as error:
        return _of_certificate(error, tls, address, where, within)
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _of_a_refusal(tls, address)
        return f"{address.target} does not speak TLS: connect without it (shadowctl: leave out --tls)"
    except EOFError:
        # gRPC's servers hang up without a word when they do not like who connects.
        return _of_a_refusal(tls, address)
    except ConnectionResetError:
        return f"{address.target} does not speak TLS, or not with everybody: try without it"
    return ""


def _of_a_refusal(tls: Tls, address: Address) -> str:
    if tls.cert is None:
        return f"{address.target} asks who connects for a certificate: show one (shadowctl: --cert and --key)"
    return (
        f"{address.target} does not accept the certificate that was shown; its operator says which authority's it takes"
    )


def _of_certificate(
    error: ssl.SSLCertVerificationError, tls: Tls, address: Address, where: tuple[str, int], within: float
) -> str:
    wanted = tls.server_name or where[0]
    if error.verify_code in _WRONG_NAME:
        names = ", ".join(_names(tls, where, wanted, within)) or "nobody by name"
        return (
            f"the certificate of {address.target} is for {names}, not for {wanted}: connect by that name, or say whose "
            "it must be (shadowctl: --server-name)"
        )
    if error.verify_code in _NOT_TRUSTED:
        trusted = f"those in {tls.ca}" if tls.ca is not None else "the public ones"
        return (
            f"the certificate of {address.target} is of none of the authorities that are trusted here, {trusted}: name "
            "the file of its own (shadowctl: --ca)"
        )
    if error.verify_code == _EXPIRED:
        return f"the certificate of {address.target} has expired; its operator has to renew it"
    return f"the certificate of {address.target} is refused: {error.verify_message}"


def _names(tls: Tls, where: tuple[str, int], wanted: str, within: float) -> list[str]:
    """Whom the server's certificate is for; its authority was found to be right."""
    context = tls.context()
    context.check_hostname = False
    found = _shake_hands(context, where, wanted, within)
    entries = found.get("subjectAltName", ()) if found else ()
    return [str(entry[1]) for entry in entries]


def _shake_hands(
    context: ssl.SSLContext, where: tuple[str, int], name: str, within: float, *, then_read: bool = False
) -> ssl._PeerCertRetDictType | None:
    with (
        socket.create_connection(where, timeout=within) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        if then_read:
            # With TLS 1.3 a server says only after its handshake that it does not like ours. A gRPC server that does
            # speaks at once, too: its settings.
            try:
                said = connection.recv(1)
            except TimeoutError:
                return None
            except ConnectionResetError:
                said = b""
            if not said:
                raise EOFError
        return connection.getpeercert()
