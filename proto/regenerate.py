"""Generate the Python modules and typed stubs beside the .proto files.

Run `python proto/regenerate.py` after changing a .proto file and commit what it writes; a test holds the committed
files against a fresh generation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

SOURCE = Path(__file__).resolve().parent


def generate(destination: Path) -> list[Path]:
    """Write the generated files of every .proto file below `destination`; return the .proto files.

    Raises:
        RuntimeError: protoc refused; its message is on standard error.
    """
    sources = sorted((SOURCE / "multishadow").rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"-I{SOURCE}",
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
            f"--python_out={destination}",
            f"--grpc_python_out={destination}",
            f"--mypy_out={destination}",
            f"--mypy_grpc_out={destination}",
            *(str(source) for source in sources),
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status}; its message is above")
    return sources


if __name__ == "__main__":
    for source in generate(SOURCE):
        print(f"generated {source.relative_to(SOURCE)}", file=sys.stderr)
