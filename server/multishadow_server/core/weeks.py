"""ISO weeks in UTC: what a weekly report is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from multishadow_server.errors import InvalidInput

WEEK_SECONDS = 7 * 86_400
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAME = re.compile(r"(\d{4})-?W(\d{1,2})", re.IGNORECASE)
_DUE = re.compile(r"([a-z]{3}) (\d{1,2}):(\d{2})", re.IGNORECASE)


@dataclass(frozen=True, order=True, slots=True)
class Week:
    """A week by ISO 8601, which begins on Monday 00:00 UTC.

    Args:
        year: by ISO 8601; at the turn of a year not always that of the calendar.
        number: 1 to 53.
    """

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year}-W{self.number:02}"

    @property
    def first_day(self) -> date:
        """Its Monday."""
        return date.fromisocalendar(self.year, self.number, 1)

    @property
    def starts_at(self) -> int:
        """Seconds since the Unix epoch."""
        return int(datetime.combine(self.first_day, datetime.min.time(), UTC).timestamp())

    @property
    def ends_at(self) -> int:
        """Seconds since the Unix epoch: when the next one starts."""
        return self.starts_at + WEEK_SECONDS

    @property
    def previous(self) -> Week:
        """The week before."""
        return of_date(self.first_day - timedelta(days=7))

    @property
    def in_words(self) -> str:
        """From Monday to Sunday: "16 to 22 November 2026"."""
        last = self.first_day + timedelta(days=6)
        first = f"{self.first_day.day}"
        if last.month != self.first_day.month:
            first += f" {self.first_day:%B}"
        if last.year != self.first_day.year:
            first += f" {self.first_day.year}"
        return f"{first} to {last.day} {last:%B} {last.year}"


def of_date(day: date) -> Week:
    """The week that a day lies in."""
    year, number, _ = day.isocalendar()
    return Week(year, number)


def at(seconds: float) -> Week:
    """The week of a point in time, seconds since the Unix epoch."""
    return of_date(datetime.fromtimestamp(seconds, UTC).date())


def named(text: str) -> Week:
    """The week that is meant by "2026-W47". Raises InvalidInput unless there is one of that name."""
    match = _NAME.fullmatch(text.strip())
    try:
        if match is not None:
            week = Week(int(match[1]), int(match[2]))
            if week.first_day.year >= 1970:
                return week
    except ValueError:
        pass
    raise InvalidInput(f"week: {text[:40]!r} is none; write it by ISO 8601, such as 2026-W47")


@dataclass(frozen=True, slots=True)
class Due:
    """When the report on a week is made, in UTC: at a time of a day after its end.

    Args:
        day: 0 is Monday.
        minutes: after midnight.
    """

    day: int
    minutes: int

    def after(self, week: Week) -> float:
        """When the report on a week is due, seconds since the Unix epoch."""
        return week.ends_at + 86_400.0 * self.day + 60.0 * self.minutes


def due_of(text: str) -> Due | None:
    """The time that is meant by "mon 06:00"; None by "off". Raises InvalidInput unless it is one."""
    if text.strip().lower() == "off":
        return None
    match = _DUE.fullmatch(text.strip())
    if match is None or match[1].lower() not in DAYS or int(match[2]) > 23 or int(match[3]) > 59:
        raise InvalidInput(
            f"{text[:40]!r} is no time of a week; write a day and a time in UTC, such as `mon 06:00` "
            f"(days are {', '.join(DAYS)}), or `off`"
        )
    return Due(DAYS.index(match[1].lower()), 60 * int(match[2]) + int(match[3]))
