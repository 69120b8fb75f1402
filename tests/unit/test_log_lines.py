"""What a process's log says of errors."""

from __future__ import annotations

import logging
import sys

from multishadow_server.entrypoints.log_lines import PayloadFreeFormatter
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
