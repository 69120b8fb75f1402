"""How much of the sampling is done under lag: nested, whole by session, and independent of what flags sample by."""

from __future__ import annotations

import pytest

from multishadow_server.core import sampling_share, targeting
from multishadow_server.core.sampling_share import SMALLEST_SHARE, Bounds, Pressure, draw, following, target

BOUNDS = Bounds(lag=60.0, fill=0.5)
CALM = Pressure(lag=1.0, fill=0.0, buffer=0.0)


@pytest.mark.parametrize(
    ("pressure", "share"),
    [
        (CALM, 1.0),
        (Pressure(lag=60.0, fill=0.5, buffer=0.5), 1.0),
        (Pressure(lag=120.0, fill=0.0, buffer=0.0), 0.5),
        (Pressure(lag=600.0, fill=0.0, buffer=0.0), 0.1),
        (Pressure(lag=1e9, fill=0.0, buffer=0.0), SMALLEST_SHARE),
        (Pressure(lag=1.0, fill=0.75, buffer=0.0), 0.5),
        (Pressure(lag=1.0, fill=0.0, buffer=0.9), 0.2),
        (Pressure(lag=1.0, fill=1.0, buffer=0.0), SMALLEST_SHARE),
        (Pressure(lag=120.0, fill=0.95, buffer=0.0), 0.1),
        (Pressure(lag=None, fill=None, buffer=0.75), 0.5),
        (Pressure(lag=1.0, fill=0.1, buffer=0.0, refused=True), SMALLEST_SHARE),
    ],
)
def test_the_share_fits_what_presses_most(pressure: Pressure, share: float) -> None:
    assert target(pressure, BOUNDS) == pytest.approx(share)


def test_it_falls_at_once_and_rises_by_steps() -> None:
    share = following(1.0, Pressure(lag=600.0, fill=0.0, buffer=0.0), BOUNDS)
    assert share == pytest.approx(0.1)
    looks = 0
    while share < 1:
        share, looks = following(share, CALM, BOUNDS), looks + 1
    assert looks == 25


def test_it_does_not_rise_while_nobody_knows_how_the_log_is() -> None:
    assert following(0.25, Pressure(lag=None, fill=None, buffer=0.0), BOUNDS) == 0.25
    assert following(0.25, Pressure(lag=None, fill=None, buffer=0.99), BOUNDS) == pytest.approx(0.02)


def test_it_settles_where_workers_keep_up() -> None:
    """Workers do a quarter of what flags ask for: the oldest capture grows old until a quarter is sampled."""
    share, backlog = 1.0, 0.0
    for _ in range(2_000):
        backlog = max(0.0, backlog + 100 * share - 25)
        share = following(share, Pressure(lag=backlog / 25, fill=0.0, buffer=0.0), BOUNDS)
    assert share == pytest.approx(0.25, rel=0.02)
    assert backlog / 25 == pytest.approx(240, rel=0.02)


def test_the_draw_is_a_sessions_and_has_nothing_to_do_with_the_one_that_flags_sample_by() -> None:
    assert draw("spam", session_id="s", request_id="1") == draw("spam", session_id="s", request_id="2")
    names = [f"user-{number}" for number in range(20_000)]
    drawn = {name: draw("spam", session_id=name, request_id="") for name in names}
    sampled = {name: targeting.shadow_draw("spam", session_id=name, request_id="") for name in names}
    for share in (0.01, 0.1, 0.5):
        kept = {name for name in names if drawn[name] < share}
        assert len(kept) / len(names) == pytest.approx(share, rel=0.15)
        for fraction in (0.05, 0.25):
            both = [name for name in kept if sampled[name] < fraction]
            assert len(both) / len(names) == pytest.approx(share * fraction, rel=0.35, abs=0.0006)


def test_smaller_shares_lie_inside_larger_ones_whatever_the_versions_fractions_are() -> None:
    names = [f"user-{number}" for number in range(2_000)]

    def got(fraction: float, share: float) -> set[str]:
        return {
            name
            for name in names
            if targeting.shadow_draw("spam", session_id=name, request_id="") < fraction
            and sampling_share.draw("spam", session_id=name, request_id="") < share
        }

    for share in (0.1, 0.5, 1.0):
        assert got(0.05, share) <= got(0.25, share) <= got(1.0, share)
    assert got(0.25, 0.1) <= got(0.25, 0.5) <= got(0.25, 1.0)
