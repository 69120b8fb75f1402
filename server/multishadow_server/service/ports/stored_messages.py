"""Reading stored requests and answers, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from multishadow_server.core.model import Comparator
from multishadow_server.core.payload_glance import PayloadGlance, TensorGlance
from multishadow_server.core.prediction import Prediction
from multishadow_server.core.protocols import Protocol as Spoken


class StoredMessages(Protocol):
    """Reads messages of every protocol. No method raises: what cannot be read says so."""

    def answer(self, comparator: Comparator, response: bytes) -> Prediction:
        """An answer in the comparator's protocol, as it was compared."""
        ...

    def shown_answer(self, comparator: Comparator, response: bytes) -> PayloadGlance:
        """The same, to look at."""
        ...

    def shown_request(self, protocol: Spoken, request: bytes) -> PayloadGlance:
        """What was asked."""
        ...

    def tensors(self, protocol: Spoken, response: bytes) -> Sequence[TensorGlance]:
        """All tensors of an answer; none where the protocol has none."""
        ...
