"""How large the capture log may be, so that the disk which it shares with the database never fills up."""

from __future__ import annotations

from multishadow_server.errors import FailedPrecondition

MEBIBYTE = 1 << 20
# What the log leaves free: PostgreSQL's own write-ahead log may take a gigabyte in bursts, and everything else breaks
# in ways of its own on a full disk.
RESERVE_BYTES = 1024 * MEBIBYTE
# With less, one slow minute of the workers would fill it.
LEAST_BYTES = 64 * MEBIBYTE
# nats-server refuses a stream whose largest size is the whole of its storage.
STORE_MARGIN_BYTES = 16 * MEBIBYTE


def fitting(wanted: int, *, free: int, held: int, folder: str) -> int:
    """The log's largest size in bytes: what is wanted, or less where the disk has less.

    Args:
        wanted: by the settings.
        free: bytes of the disk that nobody has.
        held: bytes that the log has on it already.
        folder: where, for the message.

    Raises:
        FailedPrecondition: there is no room for a log of use.
    """
    room = free + held - RESERVE_BYTES - STORE_MARGIN_BYTES
    if min(wanted, LEAST_BYTES) > room:
        raise FailedPrecondition(
            f"the disk of {folder} has {free / MEBIBYTE:,.0f} MiB free: too little for a capture log of "
            f"{min(wanted, LEAST_BYTES) / MEBIBYTE:,.0f} MiB that leaves {RESERVE_BYTES / MEBIBYTE:,.0f} MiB for "
            "everything else. Free some, choose another folder with --data-dir, or name a NATS server with --nats-url"
        )
    return min(wanted, room)
