"""`shadowctl`: compare, promote and roll back from a terminal or a pipeline; it speaks only gRPC, to control."""

from multishadow_client.cli.program import main

__all__ = ["main"]
