"""Triton's stock client for Python, in an interpreter of its own: it asks for another protobuf than ours."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import pytest

PINNED = "tritonclient[grpc]==2.73.0"
CALLER = Path(__file__).with_name("triton_caller.py")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multishadow-tests"


def interpreter() -> Path:
    """A Python that has the client, installed once and kept. Skips the test where that cannot be done."""
    folder = CACHE / f"triton-{hashlib.sha256(f'{PINNED} {sys.version}'.encode()).hexdigest()[:12]}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
            _install(Path(fresh))
            try:
                Path(fresh).rename(folder)
            except OSError:
                # Another run was quicker.
                assert folder.exists()
            else:
                Path(fresh).mkdir()
    return folder / "bin" / "python"


def _install(folder: Path) -> None:
    venv.create(folder)
    # The pip of the interpreter that ours was made from: a venv without one of its own can still be installed into.
    base = Path(sys.base_prefix) / "bin" / "python3"
    python = folder / "bin" / "python"
    install = [str(base), "-m", "pip", "--python", str(python), "install", "--quiet", PINNED]
    done = subprocess.run(install, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot install Triton's client: {done.stderr.strip()[-300:]}")


async def call(address: str, requests: int) -> dict[str, Any]:
    """What the client got for so many requests, with what it was told of the server and the model."""
    process = await asyncio.create_subprocess_exec(
        await asyncio.to_thread(interpreter),
        *(CALLER, address, str(requests)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )
    out, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    found: dict[str, Any] = json.loads(out)
    return found
