"""Certificates and keys from files: bad ones are named, changed ones are taken up."""

from __future__ import annotations

import logging
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from authorities import Authority, Pair
from multishadow_server.adapters.tls import CallingTls, ClientTls, Files, ServingTls, read
from multishadow_server.errors import InvalidInput

Make = Callable[[Authority, Path], Files]


def files(cert: Path | None, key: Path | None, ca: Path | None = None) -> Files:
    return Files.of("TLS", cert=cert, key=key, ca=ca, ca_name="CLIENT_CA")


def of(pair: Pair, ca: Path | None = None) -> Files:
    return files(pair.cert, pair.key, ca)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def missing(authority: Authority, folder: Path) -> Files:
    return files(folder / "nowhere.pem", authority.issue("a").key)


def of_somebody_else(authority: Authority, _: Path) -> Files:
    return files(authority.issue("a").cert, authority.issue("b").key)


def expired(authority: Authority, _: Path) -> Files:
    return of(authority.issue("a", expired=True))


def swapped(authority: Authority, _: Path) -> Files:
    pair = authority.issue("a")
    return files(pair.key, pair.cert)


def garbage(authority: Authority, folder: Path) -> Files:
    (folder / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return files(folder / "bad.pem", authority.issue("a").key)


def truncated(authority: Authority, folder: Path) -> Files:
    pair = authority.issue("a")
    pair.cert.write_bytes(pair.cert.read_bytes()[:300])
    return of(pair)


def a_folder(authority: Authority, folder: Path) -> Files:
    return files(folder, authority.issue("a").key)


def a_key_alone(authority: Authority, _: Path) -> Files:
    return files(None, authority.issue("a").key)


def clients_without_a_certificate(authority: Authority, _: Path) -> Files:
    return files(None, None, authority.file)


def clients_of_no_authority(authority: Authority, _: Path) -> Files:
    return of(authority.issue("a"), authority.issue("b").cert)


def clients_of_garbage(authority: Authority, folder: Path) -> Files:
    return of(authority.issue("a"), garbage(authority, folder).cert)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (missing, r"MULTISHADOW_TLS_CERT: cannot read .*nowhere.pem: No such file"),
        (of_somebody_else, r"MULTISHADOW_TLS_KEY: the key in .*b.key.pem is not that of .*a.cert.pem"),
        (expired, r"MULTISHADOW_TLS_CERT: .*a.cert.pem has expired; renew it"),
        (swapped, r"MULTISHADOW_TLS_CERT: .*a.key.pem holds no certificate in PEM format"),
        (garbage, r"MULTISHADOW_TLS_CERT: .*bad.pem, or its key .*, cannot be read"),
        (truncated, r"MULTISHADOW_TLS_CERT: .*a.cert.pem, or its key .*, cannot be read"),
        (a_folder, r"MULTISHADOW_TLS_CERT: cannot read .*: Is a directory"),
        (a_key_alone, r"MULTISHADOW_TLS_KEY is set, and MULTISHADOW_TLS_CERT is not"),
        (clients_without_a_certificate, r"MULTISHADOW_TLS_CLIENT_CA is set, and MULTISHADOW_TLS_CERT is not"),
        (clients_of_no_authority, r"MULTISHADOW_TLS_CLIENT_CA: .*b.cert.pem holds no authority's certificate"),
        (clients_of_garbage, r"MULTISHADOW_TLS_CLIENT_CA: .*bad.pem holds a certificate that cannot be read"),
    ],
)
def test_files_that_cannot_be_used_are_named_with_their_setting_and_the_reason(
    make: Make, said: str, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=said):
        ServingTls(make(authority, tmp_path))


def test_a_key_with_a_password_is_refused_at_once_and_asks_nobody(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  trustme brings it

    pair = authority.issue("a")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidInput, match=r"MULTISHADOW_TLS_KEY: .* protected by a password"):
        ServingTls(of(pair))


def test_good_files_say_when_they_end(authority: Authority) -> None:
    tls = ServingTls(of(authority.issue("a"), authority.file))
    assert tls.ends_at > time.time() + 86_400


def test_no_files_at_all_trust_public_authorities() -> None:
    none = files(None, None)
    assert not none.named
    assert CallingTls(none).credentials() is not None
    assert ClientTls(none).context.verify_mode is ssl.CERT_REQUIRED


def test_changed_files_are_taken_up_and_half_a_renewal_is_not(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("a")
    tls = CallingTls(of(pair))
    first = tls.credentials()
    assert tls.credentials() is first
    other = authority.issue("b")
    shutil.copy(other.cert, pair.cert)
    with caplog.at_level(logging.WARNING):
        assert tls.credentials() is first
        assert tls.credentials() is first
    assert [record.getMessage() for record in caplog.records] == [
        f"changed certificates are not taken up: MULTISHADOW_TLS_KEY: the key in {pair.key} is not that of {pair.cert}"
    ]
    shutil.copy(other.key, pair.key)
    renewed = tls.credentials()
    assert renewed is not first
    pair.cert.unlink()
    assert tls.credentials() is renewed


def test_what_is_renewed_with_an_expired_certificate_is_not_taken_up(authority: Authority) -> None:
    pair = authority.issue("a")
    tls = ServingTls(of(pair))
    ends_at = tls.ends_at
    authority.issue("a", expired=True)
    tls.grpc_credentials()
    assert tls.ends_at == ends_at


def test_the_certificate_of_a_client_need_not_be_a_servers(authority: Authority) -> None:
    assert read(of(authority.issue("me", "ann@example.org")), serving=False).ends_at > time.time()
