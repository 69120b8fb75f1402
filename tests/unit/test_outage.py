"""One loss is one piece of news, and so is its end."""

from __future__ import annotations

from multishadow_server.service.outage import Outage


def test_only_the_first_who_finds_it_away_has_news() -> None:
    outage = Outage()
    assert not outage.ends()
    assert [outage.begins() for _ in range(3)] == [True, False, False]
    assert [outage.ends() for _ in range(3)] == [True, False, False]
    assert outage.begins()
