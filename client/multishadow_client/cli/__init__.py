"""`shadowctl`: compare, promote and roll back from a terminal or a pipeline; it speaks only gRPC, to control."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit; see `program.main`."""
    # All commands take a third of a second to load, which who only writes figures as they do need not wait for.
    from multishadow_client.cli import program  # noqa: PLC0415

    program.main(arguments)
