"""The messages of a streamed answer as one answer."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from multishadow.v1 import prediction_pb2


class StreamedPrediction:
    """A StreamedAnswer of `PredictStream`.

    The last message that sets an output decides: where it is text, the texts of all messages are joined, because each
    is what follows the ones before it; of another kind, it alone is the answer. A message that cannot be read makes
    the whole unreadable, and stands for it.
    """

    def __init__(self) -> None:
        self._text = bytearray()
        self._last = b""
        self._unreadable = False

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self._text) + len(self._last)

    def add(self, message: bytes) -> None:
        """Take the next message."""
        if self._unreadable:
            return
        try:
            response = prediction_pb2.PredictResponse.FromString(message)
        except DecodeError:
            self._unreadable, self._last = True, message
            return
        kind = response.WhichOneof("output")
        if kind == "text":
            self._text += response.text.encode()
            self._last = b""
        elif kind is not None:
            self._last = message

    def whole(self) -> bytes:
        """The bytes of one PredictResponse."""
        if self._last or not self._text:
            return self._last
        return prediction_pb2.PredictResponse(text=self._text.decode()).SerializeToString()
