"""The program of a process that compares answers for its parent, one at a time.

It reads requests from its standard input and writes results to its standard output, each as a length (8 bytes, little
endian) and so many bytes of pickle. The first thing it writes is an empty message: it is ready. It ends when its input
does, so it never outlives its parent, however that ended.
"""

from __future__ import annotations

import pickle
import signal
import struct
import sys
from typing import BinaryIO

from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.core import comparison
from multishadow_server.core.model import Comparator
from multishadow_server.service import ports

LENGTH = struct.Struct("<Q")


def framed(message: bytes) -> bytes:
    """The message as it stands in the stream."""
    return LENGTH.pack(len(message)) + message


def compare_encoded(
    codec: ports.PredictionCodec, comparator: Comparator, live: bytes, shadow: bytes
) -> comparison.Comparison:
    """Decode and compare; whatever raises is uncomparable, `comparison_failed`."""
    try:
        return comparison.compare(comparator, codec.decode(comparator, live), codec.decode(comparator, shadow))
    except Exception as error:  # noqa: BLE001  # one odd answer must not stop the worker that counts all others
        return failed(error)


def failed(error: Exception) -> comparison.Comparison:
    """The result of a comparison that raised."""
    return comparison.uncomparable("comparison_failed", f"{type(error).__name__}: {error}"[:300])


def serve(requests: BinaryIO, results: BinaryIO) -> None:
    """Answer requests until their stream ends."""
    codec = AnswerCodec()
    results.write(framed(b""))
    results.flush()
    while header := requests.read(LENGTH.size):
        comparator, live, shadow = pickle.loads(requests.read(*LENGTH.unpack(header)))  # noqa: S301  # our parent's
        results.write(framed(pickle.dumps(compare_encoded(codec, comparator, live, shadow))))
        results.flush()


if __name__ == "__main__":
    # Ctrl-C reaches the whole foreground group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)
