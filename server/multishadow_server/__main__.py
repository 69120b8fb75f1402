"""The `multishadow` command, also as `python -m multishadow_server`.

The package also comes without what only the server needs; the command then says so, in place of a traceback.
"""

from __future__ import annotations

import sys

from multishadow_server.loading import loading


def main() -> None:
    """Run the command of the command line."""
    try:
        with loading():
            from multishadow_server.entrypoints import cli  # noqa: PLC0415  it may not be possible
    except ModuleNotFoundError as error:
        if (error.name or "multishadow").partition(".")[0] in ("multishadow", "multishadow_server"):
            raise
        sys.exit(
            f"multishadow: the server needs {error.name}, which comes with its extra: pip install 'multishadow[server]'"
        )
    cli.main()


if __name__ == "__main__":
    main()
