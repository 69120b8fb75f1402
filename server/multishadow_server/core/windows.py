"""Windows: the hours of the week in which an experiment shadows.

A window is written as people say it: `22:00-06:00 Europe/Berlin`, `mon-fri 20:00-24:00`, `sat,sun`. Its times are
those of the wall clock in its time zone (UTC when none is named); one that ends before it begins ends on the next day,
and its days are those on which it begins. Where the clock is put forward, times that it passes over are the moment of
the change. Where it is put back, and a time comes twice, a window opens at the second and closes at the first. So a
window is never open when the wall clock says that it is not.

Several windows together are open when one of them is. None at all: always.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from multishadow_server.errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_WINDOWS = 20
MINUTES_PER_DAY = 24 * 60
DAY = 86_400
# Weekly windows come again within eight days; a clock that is put forward may swallow one whole.
FARTHEST_DAYS = 16

_TIMES = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")

Span = tuple[float, float]
"""From and until, seconds since the Unix epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One window of the week.

    Args:
        days: on which it begins, Monday is 0; ascending, never empty.
        opens: minute of the day, [0, 1440).
        closes: minute of the day, (0, 1440]; on the next day when it is not after `opens`.
        zone: name of its time zone in the tz database.
    """

    days: tuple[int, ...]
    opens: int
    closes: int
    zone: str

    def __str__(self) -> str:
        days = "" if len(self.days) == len(DAYS) else ",".join(DAYS[day] for day in self.days) + " "
        return f"{days}{_clock(self.opens)}-{_clock(self.closes)} {self.zone}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


# --- reading ------------------------------------------------------------------------------------------------------


def parse(words: str) -> Window:
    """Read a window: days, times and a time zone, each of which may be left out, but not days and times both.

    Raises:
        InvalidInput: it is none; says what is.
    """
    parts = words.split()
    days, times, zone = tuple(range(len(DAYS))), None, "UTC"
    if parts and parts[0][:1].isalpha() and (named := _days(parts[0])):
        days = named
        parts = parts[1:]
    elif not parts or not parts[0][:1].isdigit():
        raise _no_window(words, "it begins with neither days nor times")
    if parts and parts[0][:1].isdigit():
        times = _times(words, parts[0])
        parts = parts[1:]
    if len(parts) > 1:
        raise _no_window(words, f"{' '.join(parts[1:])!r} is left over")
    if parts:
        zone = parts[0]
    opens, closes = times or (0, MINUTES_PER_DAY)
    return Window(days=days, opens=opens, closes=closes, zone=zone)


def _days(words: str) -> tuple[int, ...] | None:
    """`sat,sun`, `mon-fri`, `fri-mon`; None when these are no days."""
    chosen: set[int] = set()
    for part in words.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            return None
        begin, end = DAYS.index(first), DAYS.index(last or first)
        chosen.update(day % len(DAYS) for day in range(begin, end + 1 + (len(DAYS) if end < begin else 0)))
    return tuple(sorted(chosen))


def _times(words: str, part: str) -> tuple[int, int]:
    found = _TIMES.fullmatch(part)
    if found is None:
        raise _no_window(words, f"{part!r} is no span of times")
    opens, closes = (60 * int(found[i]) + int(found[i + 1]) for i in (1, 3))
    if int(found[2]) > 59 or int(found[4]) > 59 or opens >= MINUTES_PER_DAY or closes > MINUTES_PER_DAY:
        raise _no_window(words, f"{part!r} is no span of times of a day")
    if opens == closes:
        raise _no_window(words, f"{part!r} is empty; a whole day is 00:00-24:00")
    # Midnight at the end of a day and at the beginning of the next are one.
    return opens, closes or MINUTES_PER_DAY


def _no_window(words: str, why: str) -> InvalidInput:
    return InvalidInput(
        f'windows: "{words}" is no window: {why}. Write days, times and a time zone, for example '
        '"22:00-06:00 Europe/Berlin", "mon-fri 20:00-24:00" (UTC) or "sat,sun"'
    )


def check(windows: Sequence[Window]) -> None:
    """Refuse windows whose time zone this machine does not know.

    Raises:
        InvalidInput: which zone; or there are too many windows.
    """
    if len(windows) > MOST_WINDOWS:
        raise InvalidInput(f"windows: at most {MOST_WINDOWS} are allowed, not {len(windows)}")
    for window in windows:
        _zone(window.zone)


def _zone(name: str) -> tzinfo:
    # The one zone that needs no database.
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(
            f'windows: "{name}" is no time zone in this machine\'s tz database; name one as it does, for example '
            "Europe/Berlin, America/New_York or UTC"
        ) from error


# --- when they are open -------------------------------------------------------------------------------------------


def open_at(windows: tuple[Window, ...], at: float) -> bool:
    """Whether one is open at a time, in seconds since the Unix epoch.

    Raises:
        InvalidInput: this machine does not know a window's time zone.
    """
    if not windows:
        return True
    return any(begin <= at < end for begin, end in _around(windows, int(at // DAY)))


def next_change(windows: tuple[Window, ...], at: float) -> float | None:
    """When they open or close next after a time, both in seconds since the Unix epoch; None: never.

    Raises:
        InvalidInput: this machine does not know a window's time zone.
    """
    if not windows:
        return None
    edges = (edge for span in spans(windows, since=at - DAY, until=at + FARTHEST_DAYS * DAY) for edge in span)
    return min((edge for edge in edges if at < edge < at + FARTHEST_DAYS * DAY), default=None)


def open_seconds(windows: tuple[Window, ...], *, since: float, until: float) -> float:
    """For how long of the time between they are open; both in seconds since the Unix epoch.

    Raises:
        InvalidInput: this machine does not know a window's time zone.
    """
    if not windows:
        return max(0.0, until - since)
    return sum(end - begin for begin, end in spans(windows, since=since, until=until))


def spans(windows: tuple[Window, ...], *, since: float, until: float) -> Iterator[Span]:
    """When they are open between two times: spans in order that do not touch each other, cut at both ends.

    Raises:
        InvalidInput: this machine does not know a window's time zone.
    """
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (since, max(since, until)))
    # A window that began on the day before may last; and elsewhere it is a day earlier or later.
    days = [first + timedelta(days=offset) for offset in range(-2, (last - first).days + 2)]
    opened = (_on(window, day) for window in windows for day in days if day.weekday() in window.days)
    for begin, end in _merged(opened):
        if max(begin, since) < min(end, until):
            yield max(begin, since), min(end, until)


@lru_cache(maxsize=256)
def _around(windows: tuple[Window, ...], day: int) -> tuple[Span, ...]:
    """The spans of one UTC day, counted from the Unix epoch: a worker asks for every capture."""
    return tuple(spans(windows, since=day * DAY, until=(day + 1) * DAY))


def _on(window: Window, day: date) -> Span:
    """From when until when the window that begins on a day is open; empty where the clock passes over it."""
    zone, closing_day = _zone(window.zone), day + timedelta(days=window.closes <= window.opens)
    return _instant(day, window.opens, zone, second=True), _instant(closing_day, window.closes, zone, second=False)


def _instant(day: date, minute: int, zone: tzinfo, *, second: bool) -> float:
    """When the wall clock comes to say this time, or passes over it, seconds since the Unix epoch.

    `second` chooses of two such moments.
    """
    wall = datetime(day.year, day.month, day.day, tzinfo=None) + timedelta(minutes=minute)  # noqa: DTZ001  a wall clock's
    # Around a change of the clock the two differ: by the offset before it, and by the one after it.
    by_former, by_latter = (wall.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if by_former <= by_latter:
        return by_latter if second else by_former
    # The clock is put forward past this time, somewhere after `by_latter` and not after `by_former`.
    before, after = int(by_latter), int(by_former)
    while after - before > 1:
        middle = (before + after) // 2
        passed = datetime.fromtimestamp(middle, zone).replace(tzinfo=None) >= wall
        before, after = (before, middle) if passed else (middle, after)
    return float(after)


def _merged(opened: Iterable[Span]) -> Iterator[Span]:
    begin = end = None
    for next_begin, next_end in sorted(span for span in opened if span[0] < span[1]):
        if begin is not None and end is not None and next_begin <= end:
            end = max(end, next_end)
            continue
        if begin is not None and end is not None:
            yield begin, end
        begin, end = next_begin, next_end
    if begin is not None and end is not None:
        yield begin, end
