"""What a process's log says of errors."""

from __future__ import annotations

import json
import logging
import sys

from multishadow_server.entrypoints.log_lines import JsonFormatter, PayloadFreeFormatter
from multishadow_server.errors import StoreUnavailable

SECRET = "alice@example.com"


def fail(error: Exception) -> None:
    raise error


def logged(error: Exception) -> str:
    try:
        fail(error)
    except Exception:  # noqa: BLE001  the one just raised
        record = logging.LogRecord("name", logging.ERROR, __file__, 1, "it failed", (), sys.exc_info())
    return PayloadFreeFormatter("%(levelname)s %(message)s").format(record)


def test_a_foreign_errors_message_stays_out_and_its_place_is_told() -> None:
    said = logged(ValueError(f"cannot read {SECRET}"))
    assert SECRET not in said
    assert said.startswith("ERROR it failed\n")
    assert said.endswith("ValueError")
    assert f'File "{__file__}"' in said


def test_our_own_errors_say_all_they_have_to_say_and_their_causes_do_not() -> None:
    try:
        fail(KeyError(SECRET))
    except KeyError as cause:
        error = StoreUnavailable("PostgreSQL at db:5432/multishadow is away")
        error.__cause__ = cause
    said = logged(error)
    assert SECRET not in said
    assert "KeyError\n\nwhich led to:\n" in said
    assert said.endswith("StoreUnavailable: PostgreSQL at db:5432/multishadow is away")


def test_what_was_hidden_by_its_raiser_stays_so_and_groups_are_told_one_by_one() -> None:
    group = ExceptionGroup(SECRET, [OSError("disk full"), ValueError(SECRET)])
    said = logged(group)
    assert SECRET not in said
    assert said.endswith("ExceptionGroup of 2\n  OSError: disk full\n  ValueError")


def test_a_line_of_json_holds_what_is_known_and_nothing_else() -> None:
    formatter = JsonFormatter(role="router", instance="router-1")
    record = logging.LogRecord("multishadow_server.x", logging.WARNING, __file__, 1, "%d of\n%s", (3, "them"), None)
    record.created = 1_795_435_200.25
    line = formatter.format(record)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-11-23T12:00:00.250Z",
        "level": "warning",
        "role": "router",
        "instance": "router-1",
        "logger": "multishadow_server.x",
        "message": "3 of\nthem",
    }
    record.__dict__.update(request_id="0f8fad5b-d9cb-469f-a165-70867728950e", trace_id="0af7", version="")
    told = json.loads(formatter.format(record))
    assert (told["request_id"], told["trace_id"]) == ("0f8fad5b-d9cb-469f-a165-70867728950e", "0af7")
    assert "version" not in told


def test_an_error_is_one_field_of_json_and_keeps_payloads_to_itself() -> None:
    try:
        fail(ValueError(f"cannot read {SECRET}"))
    except ValueError:
        record = logging.LogRecord("name", logging.ERROR, __file__, 1, "it failed", (), sys.exc_info())
    line = JsonFormatter(role="worker", instance="w").format(record)
    assert SECRET not in line
    assert json.loads(line)["error"].endswith("ValueError")
