"""Weeks by ISO 8601 in UTC, and when a report is due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from multishadow_server.core import weeks
from multishadow_server.core.weeks import Due, Week
from multishadow_server.errors import InvalidInput


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_week_begins_on_monday_and_ends_when_the_next_one_does() -> None:
    week = weeks.named("2026-W47")
    assert week.starts_at == at("2026-11-16")
    assert week.ends_at == at("2026-11-23")
    assert weeks.at(week.starts_at) == week
    assert weeks.at(week.ends_at - 0.001) == week
    assert weeks.at(week.ends_at) == Week(2026, 48)
    assert week.in_words == "16 to 22 November 2026"


def test_years_of_weeks_are_those_of_iso_8601() -> None:
    assert weeks.at(at("2027-01-03")) == Week(2026, 53)
    assert Week(2027, 1).previous == Week(2026, 53)
    assert Week(2026, 53).in_words == "28 December 2026 to 3 January 2027"
    assert Week(2026, 49).in_words == "30 November to 6 December 2026"
    assert str(Week(2026, 7)) == "2026-W07"
    assert weeks.named(" 2026w7 ") == Week(2026, 7)


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-W54", "2026-W00", "2025-W53", "W47", "2026-47", "0001-W01", "9999-W99"]
)
def test_what_is_no_week_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="2026-W47"):
        weeks.named(text)


def test_a_report_is_due_at_a_time_after_its_week() -> None:
    assert weeks.due_of("mon 06:00") == Due(0, 360)
    assert Due(0, 360).after(Week(2026, 47)) == at("2026-11-23T06:00")
    assert weeks.due_of("Tue 7:30") == Due(1, 450)
    assert weeks.due_of("off") is None


@pytest.mark.parametrize("text", ["", "06:00", "mon", "mon 24:00", "mon 06:60", "xxx 06:00"])
def test_what_is_no_time_of_a_week_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="mon 06:00"):
        weeks.due_of(text)
