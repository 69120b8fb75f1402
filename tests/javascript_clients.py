"""The JavaScript server SDK with its stock providers, in a Node.js process that is told what to do line by line."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from multishadow_server.adapters.embedded import dies_with_parent
from serving_flags import Answer, Serving
from waiting import PATIENCE

SOURCE = Path(__file__).with_name("javascript")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multishadow-tests"
QUICKLY: Mapping[str, Any] = {"deadlineMs": int(1_000 * PATIENCE), "retryBackoffMs": 50, "retryBackoffMaxMs": 50}
MODES = ("rpc", "in-process", "ofrep")


def installed_packages() -> Path:
    """Folder with the pinned packages, installed once and kept. Skips the test where that cannot be done."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")
    manifest = (SOURCE / "package.json").read_bytes()
    folder = CACHE / f"javascript-{hashlib.sha256(manifest).hexdigest()[:12]}"
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
        (Path(fresh) / "package.json").write_bytes(manifest)
        install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(install, cwd=fresh, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm cannot install the JavaScript clients: {done.stderr.strip()[-300:]}")
        try:
            Path(fresh).rename(folder)
        except OSError:
            # Another run was quicker.
            assert folder.exists()
        else:
            Path(fresh).mkdir()
    return folder


class Node:
    """A Node.js process that reads flags."""

    def __init__(self, packages: Path) -> None:
        shutil.copy(SOURCE / "reader.mjs", packages / "reader.mjs")
        self._process = subprocess.Popen(
            ["node", "reader.mjs"],
            cwd=packages,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=dies_with_parent(),  # noqa: PLW1509  one system call, looked up before the fork
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def tell(self, **command: Any) -> Mapping[str, Any]:
        """Let it do something; what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: Mapping[str, Any] = json.loads(self._answers.get(timeout=PATIENCE))
        assert "failed" not in answer, answer["failed"]
        return answer

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            # It waits for an event that does not come: the test has failed already.
            self._process.kill()
            self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)


class JavaScriptReader:
    """One stock provider in it."""

    def __init__(self, node: Node, control: Serving, mode: str, **options: Any) -> None:
        self._node = node
        self._name = f"{mode}-{control.port}"
        quickly = {} if mode == "ofrep" else {**QUICKLY, "cache": "disabled"}
        node.tell(
            op="open", name=self._name, mode=mode, port=control.port, url=control.url, options={**quickly, **options}
        )

    def read(self, kind: str, key: str, default: Any, context: Mapping[str, Any]) -> Answer:
        found = self._node.tell(op="read", name=self._name, kind=kind, key=key, fallback=default, context=context)
        return Answer(**found)

    def event(self, name: str) -> Mapping[str, Any]:
        """The next event of that name; others before it are passed over."""
        return self._node.tell(op="next", name=self._name, event=name)


@contextmanager
def node() -> Iterator[Node]:
    """A process that ends with the block. Skips the test where there is no Node.js."""
    process = Node(installed_packages())
    try:
        yield process
    finally:
        process.end()
