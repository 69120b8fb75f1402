"""Authorities and certificates of every kind of wrongness, in files."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import trustme

HOST = "localhost"
YEAR = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate's files."""

    cert: Path
    key: Path


class Authority:
    """An authority, with its certificate in a file; issues others, in files, too.

    Args:
        folder: where the files are.
        name: of the files.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *identities: str, expired: bool = False) -> Pair:
        """A certificate; for this machine unless others are named."""
        now = dt.datetime.now(dt.UTC)
        issued = self._authority.issue_cert(
            *(identities or (HOST, "127.0.0.1")),
            not_before=now - 2 * YEAR if expired else None,
            not_after=now - YEAR if expired else None,
        )
        cert, key = self._folder / f"{name}.cert.pem", self._folder / f"{name}.key.pem"
        for path, content in (
            (cert, b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
            (key, issued.private_key_pem.bytes()),
        ):
            # As whoever renews certificates does it: the name means the old file or the new one, never half of one.
            beside = path.with_suffix(".new")
            beside.write_bytes(content)
            beside.replace(path)
        return Pair(cert, key)
