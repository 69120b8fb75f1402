"""The two ends of a call, compiled from wire.c: a version server and callers that cost next to nothing themselves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stations import MODEL, PREDICT, Station

from multishadow.v1 import prediction_pb2

SOURCE = Path(__file__).with_name("wire.c")
# In a request, where each call gets a number of its own.
MARK = "#" * 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """The program, and the folder that it lies in with what it sends."""

    program: Path

    @classmethod
    def compiled(cls, folder: Path) -> Wire:
        """Compile it into the folder. Ends the program when something is missing, and says what to install."""
        if shutil.which("gcc") is None:
            raise SystemExit("there is no C compiler: apt-get install gcc libc6-dev libnghttp2-dev")
        program = folder / "wire"
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE), "-lnghttp2"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(f"wire.c does not compile: apt-get install libc6-dev libnghttp2-dev\n{result.stderr}")
        return cls(program=program)

    @contextmanager
    def version(self, label: str) -> Iterator[Station]:
        """A version server that answers at once, with this label, until the block ends."""
        response = prediction_pb2.PredictResponse(
            classification=prediction_pb2.Classification(label=label, confidence=0.9)
        ).SerializeToString()
        path = self.program.with_name(f"response-{label}")
        path.write_bytes(response)
        process = subprocess.Popen(
            [str(self.program), "serve", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Station(process, process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait(20)


class Callers:
    """Calls of one model, no two of which ask the same.

    Args:
        wire: the program.
        model: whom they ask.
        size: bytes of a request's input.
    """

    def __init__(self, wire: Wire, model: str = MODEL, size: int = 1024) -> None:
        self._wire = wire
        self._body = wire.program.with_name(f"request-{model}")
        self._sent = 0
        request = prediction_pb2.PredictRequest(
            model=model,
            request_id=f"request-{MARK}",
            session_id=f"session-{MARK}",
            raw=MARK.encode() + bytes(size - len(MARK)),
        )
        request.attributes.update({"country": "nl", "plan": "pro"})
        self._body.write_bytes(request.SerializeToString())

    def at_once(self, address: str, count: int, *, connections: int = 8, streams: int = 4) -> Sequence[float]:
        """So many calls, always `connections * streams` of them under way; latencies in seconds."""
        return self._run(address, count, connections, streams, rate=0)

    def at_rate(self, address: str, count: int, *, rate: float, connections: int = 8) -> Sequence[float]:
        """So many calls, `rate` a second whatever becomes of them; latencies in seconds from when each was due."""
        return self._run(address, count, connections, 1, rate=rate)

    def _run(self, address: str, count: int, connections: int, streams: int, *, rate: float) -> Sequence[float]:
        numbers = map(str, (self._sent, count, connections, streams, rate))
        self._sent += count
        command = [str(self._wire.program), "call", address, PREDICT, str(self._body), *numbers]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"calls of {address} failed: {result.stderr.strip()}")
        return [float(line) / 1e6 for line in result.stdout.splitlines()]
