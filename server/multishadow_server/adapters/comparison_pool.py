"""Compares light answers at once and heavy ones in other processes, so that the event loop never stalls."""

from __future__ import annotations

import asyncio
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from typing import Self

from multishadow_server.adapters import comparison_process
from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.comparison_process import LENGTH, framed
from multishadow_server.core import comparison
from multishadow_server.core.comparison import Comparison, uncomparable
from multishadow_server.core.model import Comparator

# Decoding so much takes 3 ms at worst (a Struct of numbers; 40 µs per KiB).
LIGHT_BYTES = 64 * 1024

# A child imports numpy and protobuf: half a second, many times that on a machine that starts everything at once.
START_LIMIT = 60.0

ATTEMPTS = 2


class ComparisonPool:
    """A `ports.Comparer`: inline when light, else one of `processes` children, started when first needed.

    Children are plain subprocesses that read requests from a pipe. Rejected: `ProcessPoolExecutor`, which cannot stop
    one overdue task without breaking all others, imports the parent's main module (gRPC and all) into every child,
    and leaves its children behind when the parent is killed. See docs/decisions/comparison-processes.md.

    Args:
        processes: most comparisons that run in other processes at once.
        time_limit: longest time one of them may take, in seconds; waiting for a free process is not counted.
    """

    def __init__(self, *, processes: int = 1, time_limit: float = 10.0) -> None:
        self._codec = AnswerCodec()
        self._time_limit = time_limit
        self._processes = processes
        self._free = asyncio.Semaphore(processes)
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
        self._closed = False

    async def compare(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
        """Compare the bytes of two answers. Never raises.

        Uncomparable beside what `core.comparison` names: `comparison_timeout`, and `comparison_failed` (it raised, or
        the process that ran it died twice).
        """
        if len(live) + len(shadow) > LIGHT_BYTES:
            return await self._elsewhere(comparator, live, shadow)
        try:
            answers = self._codec.decode(comparator, live), self._codec.decode(comparator, shadow)
            if not comparison.is_heavy(*answers):
                return comparison.compare(comparator, *answers)
        except Exception as error:  # noqa: BLE001  # one odd answer must not stop the worker that counts all others
            return comparison_process.failed(error)
        return await self._elsewhere(comparator, live, shadow)

    async def aclose(self) -> None:
        """End every child; comparisons still under way become `comparison_failed`."""
        self._closed = True
        for child in self._children:
            child.kill()
        # Those under way see their process die and give their place back; then nobody reads from a child any more.
        for _ in range(self._processes):
            await self._free.acquire()
        for child in list(self._children):
            await self._discard(child)
        for _ in range(self._processes):
            self._free.release()

    async def _elsewhere(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
        request = pickle.dumps((comparator, live, shadow))
        async with self._free:
            for _ in range(ATTEMPTS):
                try:
                    return await self._attempt(request)
                except TimeoutError:
                    return uncomparable("comparison_timeout", f"it took longer than {self._time_limit:g} s")
                except _Died as error:
                    reason = str(error)
        return uncomparable("comparison_failed", reason)

    async def _attempt(self, request: bytes) -> Comparison:
        child = await self._ready_child()
        try:
            async with asyncio.timeout(self._time_limit):
                result = await child.ask(request)
        except BaseException:
            # Timed out, died or cancelled: its stream is mid-message and its answer would be taken for the next one's.
            await self._discard(child)
            raise
        self._idle.append(child)
        return result

    async def _ready_child(self) -> _Child:
        if self._closed:
            raise _Died("the pool is closed")
        if self._idle:
            return self._idle.pop()
        child = await _Child.start()
        self._children.add(child)
        try:
            async with asyncio.timeout(START_LIMIT):
                await child.receive()
        except TimeoutError as error:
            await self._discard(child)
            raise _Died(f"the process that compares was not ready within {START_LIMIT:g} s") from error
        except BaseException:
            await self._discard(child)
            raise
        return child

    async def _discard(self, child: _Child) -> None:
        self._children.discard(child)
        await child.end()


class _Died(Exception):
    """The child process is gone."""


class _Child:
    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._requests, self._results = process, process.stdin, process.stdout

    @classmethod
    async def start(cls) -> Self:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", comparison_process.__name__), stdin=PIPE, stdout=PIPE
            )
        except OSError as error:
            raise _Died(f"no process could be started: {error}") from error
        return cls(process)

    async def ask(self, request: bytes) -> Comparison:
        try:
            self._requests.write(framed(request))
            await self._requests.drain()
        except ConnectionError as error:
            raise _Died("the process that compares has died") from error
        result = pickle.loads(await self.receive())  # noqa: S301  # our own child's
        assert isinstance(result, Comparison)
        return result

    async def receive(self) -> bytes:
        try:
            (length,) = LENGTH.unpack(await self._results.readexactly(LENGTH.size))
            return await self._results.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _Died("the process that compares has died") from error

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def end(self) -> None:
        """Kill it: it holds nothing that is worth an orderly end."""
        self.kill()
        self._requests.close()
        await self._process.wait()
        # Up to its end, so that the pipe is closed and not left to the garbage collector.
        await self._results.read()
