"""Lines of a process's log, which tell what failed and never on what: logs are read by many, and kept for long.

Messages of our own errors are ours: they name fields, sizes and places. Those of foreign ones may repeat what they
choked on: a database driver names the row, a decoder the bytes. Of these, the log has the type and the traceback, whose
lines are our code.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType

from multishadow_server.errors import MultishadowError

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
# What these say is about files, sockets and processes.
_TELLING = (MultishadowError, OSError, ImportError, KeyboardInterrupt)
MOST_CAUSES = 10


class PayloadFreeFormatter(logging.Formatter):
    """Formats tracebacks without the messages of foreign errors."""

    def formatException(self, ei: _Raised) -> str:  # noqa: N802  logging's name
        """The traceback of each error, from the first cause to the one that was caught."""
        told: list[str] = []
        error = ei[1]
        while error is not None and len(told) < MOST_CAUSES:
            frames = "".join(traceback.format_tb(error.__traceback__))
            told.append(f"{frames}{_headline(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n\nwhich led to:\n".join(reversed(told))


def _headline(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, _TELLING):
        return f"{name}: {error}"
    if isinstance(error, BaseExceptionGroup):
        return "\n".join([f"{name} of {len(error.exceptions)}", *(f"  {_headline(each)}" for each in error.exceptions)])
    return name


class JsonFormatter(PayloadFreeFormatter):
    """One JSON object a line: `time`, `level`, `role`, `instance`, `logger`, `message`.

    `error` is there with an error, formatted as above; `request_id`, `model`, `version`, `trace_id` and `span_id`
    where they are known.

    Args:
        role: what the process does, e.g. "router".
        instance: its name in reports.
    """

    FIELDS = ("request_id", "model", "version", "trace_id", "span_id")

    def __init__(self, *, role: str, instance: str) -> None:
        super().__init__()
        self._process = {"role": role, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        """The line; never more than one, whatever the message holds."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        known = {name: getattr(record, name, "") for name in self.FIELDS}
        return json.dumps({**line, **{name: value for name, value in known.items() if value}}, default=str)
