"""Windows: how they are written, and when they are open, also when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multishadow_server.core import windows
from multishadow_server.core.windows import Window
from multishadow_server.errors import InvalidInput

HOUR = 3_600


def at(words: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(words).replace(tzinfo=ZoneInfo(zone)).timestamp()


def open_hours(*words: str, since: str, until: str) -> float:
    return windows.open_seconds(tuple(map(windows.parse, words)), since=at(since), until=at(until)) / HOUR


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("22:00-06:00 Europe/Berlin", "22:00-06:00 Europe/Berlin"),
        ("22:00-06:00", "22:00-06:00 UTC"),
        ("sat,sun", "sat,sun 00:00-24:00 UTC"),
        ("Mon-Fri 20:00-24:00", "mon,tue,wed,thu,fri 20:00-24:00 UTC"),
        ("fri-mon 1:30-2:00 America/New_York", "mon,fri,sat,sun 01:30-02:00 America/New_York"),
        ("20:00-0:00", "20:00-24:00 UTC"),
        ("mon-sun 08:00-09:00", "08:00-09:00 UTC"),
    ],
)
def test_a_window_is_read_as_people_write_it(words: str, said: str) -> None:
    window = windows.parse(words)
    assert str(window) == said
    assert windows.parse(said) == window


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "neither days nor times"),
        ("Europe/Berlin", "neither days nor times"),
        ("weekend", "neither days nor times"),
        ("mon- 20:00-24:00", "neither days nor times"),
        ("sat,someday", "neither days nor times"),
        ("22-6", "'22-6' is no span of times"),
        ("22:60-23:00", "no span of times of a day"),
        ("24:00-06:00", "no span of times of a day"),
        ("22:00-25:00", "no span of times of a day"),
        ("22:00-22:00", "is empty; a whole day is 00:00-24:00"),
        ("sat 22:00-06:00 UTC please", "'please' is left over"),
    ],
)
def test_what_is_no_window_is_refused_with_what_one_looks_like(words: str, why: str) -> None:
    with pytest.raises(InvalidInput, match="22:00-06:00 Europe/Berlin") as refused:
        windows.parse(words)
    assert why in str(refused.value)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", "europe"])
def test_a_time_zone_that_nobody_knows_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInput, match="is no time zone"):
        windows.check([windows.parse(f"22:00-06:00 {zone}")])


def test_more_windows_than_anybody_needs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 20 are allowed, not 21"):
        windows.check([windows.parse("sat")] * 21)


def test_without_windows_it_is_always_open() -> None:
    assert windows.open_at((), 0)
    assert windows.next_change((), 0) is None
    assert windows.open_seconds((), since=10, until=25) == 15
    assert windows.open_seconds((), since=25, until=10) == 0


def test_a_window_over_midnight_is_open_until_the_next_morning() -> None:
    night = (windows.parse("22:00-06:00 Europe/Berlin"),)
    for words, is_open in [("21:59:59", False), ("22:00", True), ("23:59", True), ("00:00", True), ("05:59:59", True)]:
        assert windows.open_at(night, at(f"2026-11-26T{words}", "Europe/Berlin")) is is_open
    assert not windows.open_at(night, at("2026-11-26T06:00", "Europe/Berlin"))
    assert windows.next_change(night, at("2026-11-26T12:00", "UTC")) == at("2026-11-26T22:00", "Europe/Berlin")
    assert windows.next_change(night, at("2026-11-26T23:00", "UTC")) == at("2026-11-27T06:00", "Europe/Berlin")


def test_the_days_of_a_window_are_those_on_which_it_begins() -> None:
    friday_night = (windows.parse("fri 22:00-06:00"),)
    assert windows.open_at(friday_night, at("2026-11-28T05:00"))  # Saturday
    assert not windows.open_at(friday_night, at("2026-11-27T05:00"))  # Friday
    assert windows.next_change(friday_night, at("2026-11-28T06:00")) == at("2026-12-04T22:00")


def test_windows_that_overlap_or_touch_are_one() -> None:
    words = ("sat", "sun 00:00-12:00", "sun 11:00-13:00", "sat 10:00-11:00")
    both = tuple(map(windows.parse, words))
    found = list(windows.spans(both, since=at("2026-11-23T00:00"), until=at("2026-11-30T00:00")))
    assert found == [(at("2026-11-28T00:00"), at("2026-11-29T13:00"))]
    assert windows.next_change(both, at("2026-11-28T05:00")) == at("2026-11-29T13:00")


def test_all_day_every_day_never_changes() -> None:
    always = (windows.parse("mon-sun"),)
    assert windows.open_at(always, at("2026-11-26T00:00"))
    assert windows.next_change(always, at("2026-11-26T12:00")) is None


def test_a_night_is_an_hour_shorter_or_longer_when_clocks_change() -> None:
    night = "22:00-06:00 Europe/Berlin"
    assert open_hours(night, since="2026-03-27T12:00", until="2026-03-28T12:00") == 8
    assert open_hours(night, since="2026-03-28T12:00", until="2026-03-29T12:00") == 7  # put forward at 02:00
    assert open_hours(night, since="2026-10-24T12:00", until="2026-10-25T12:00") == 9  # put back at 03:00


def test_a_window_that_the_clock_passes_over_is_cut_short_or_not_there() -> None:
    def on_that_day(times: str) -> list[windows.Span]:
        window = (windows.parse(f"{times} Europe/Berlin"),)
        return list(windows.spans(window, since=at("2026-03-28T23:00"), until=at("2026-03-29T22:00")))

    change = at("2026-03-29T01:00")  # 02:00 becomes 03:00 in Berlin
    assert on_that_day("02:10-02:50") == []
    assert on_that_day("01:30-02:30") == [(change - HOUR / 2, change)]
    assert on_that_day("02:30-03:30") == [(change, change + HOUR / 2)]


def test_of_a_time_that_comes_twice_a_window_opens_at_the_second_and_closes_at_the_first() -> None:
    def on_that_day(times: str) -> list[windows.Span]:
        window = (windows.parse(f"{times} Europe/Berlin"),)
        return list(windows.spans(window, since=at("2026-10-24T22:00"), until=at("2026-10-25T22:00")))

    assert on_that_day("01:30-02:30") == [(at("2026-10-24T23:30"), at("2026-10-25T00:30"))]
    assert on_that_day("02:30-03:30") == [(at("2026-10-25T01:30"), at("2026-10-25T02:30"))]
    assert on_that_day("02:00-02:30") == []


def test_the_next_opening_is_found_when_the_clock_swallows_one() -> None:
    window = (windows.parse("sun 02:10-02:50 Europe/Berlin"),)
    assert windows.next_change(window, at("2026-03-23T00:00")) == at("2026-04-05T02:10", "Europe/Berlin")


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]
)
some_windows = st.lists(
    st.builds(
        Window,
        days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
        opens=st.integers(0, 1439),
        closes=st.integers(1, 1440),
        zone=zones,
    ).filter(lambda window: window.opens != window.closes),
    min_size=1,
    max_size=3,
).map(tuple)
moments = st.integers(int(at("2025-01-01T00:00")), int(at("2028-01-01T00:00")))


@settings(max_examples=60)
@given(some_windows, moments)
def test_whether_it_is_open_changes_at_the_next_change_and_not_before(chosen: tuple[Window, ...], now: int) -> None:
    change = windows.next_change(chosen, now)
    state = windows.open_at(chosen, now)
    if change is None:
        assert windows.open_at(chosen, now + 5 * windows.DAY) is state
        return
    assert windows.open_at(chosen, change) is not state
    for part in (0.0, 0.3, 0.7, 0.999):
        assert windows.open_at(chosen, now + part * (change - now)) is state


@settings(max_examples=60)
@given(some_windows, moments, st.integers(0, 20 * windows.DAY))
def test_time_inside_windows_adds_up(chosen: tuple[Window, ...], now: int, length: int) -> None:
    whole = windows.open_seconds(chosen, since=now, until=now + length)
    half = now + length // 3
    parts = windows.open_seconds(chosen, since=now, until=half) + windows.open_seconds(
        chosen, since=half, until=now + length
    )
    assert whole == pytest.approx(parts)
    assert 0 <= whole <= length


near_a_change = st.integers(-3 * HOUR, 3 * HOUR).flatmap(
    lambda offset: st.sampled_from(
        [int(at("2026-03-29T01:00")), int(at("2026-10-25T01:00")), int(at("2026-11-01T06:00"))]
    ).map(lambda change: change + offset)
)


@settings(max_examples=60)
@given(some_windows, moments | near_a_change)
def test_a_window_is_never_open_when_the_wall_clock_says_that_it_is_not(chosen: tuple[Window, ...], now: int) -> None:
    if windows.open_at(chosen, now):
        assert any(_by_the_wall_clock(window, now) for window in chosen)


def _by_the_wall_clock(window: Window, now: int) -> bool:
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(window.zone))
    minute = 60 * local.hour + local.minute
    yesterday = (local - timedelta(days=1)).weekday()
    if window.opens < window.closes:
        return local.weekday() in window.days and window.opens <= minute < window.closes
    return (local.weekday() in window.days and minute >= window.opens) or (
        yesterday in window.days and minute < window.closes
    )
