"""What control warns of."""

from __future__ import annotations

import math

import pytest

from multishadow_server.core import exposure

HERE, THERE = "127.0.0.1:50052", "0.0.0.0:50053"
NOW = 1_795_435_200.0


def warned(*addresses: str, tokens: bool = False, encrypted: bool = False, ends: float = math.inf) -> list[str]:
    return list(exposure.warnings(addresses, tokens=tokens, encrypted=encrypted, certificate_ends=ends, now=NOW))


def test_nothing_is_said_of_a_control_that_this_machine_alone_reaches() -> None:
    assert warned(HERE, "localhost:1", "[::1]:1", "unix:/run/control") == []


def test_who_listens_to_the_network_is_told_what_it_means() -> None:
    (said,) = warned(HERE, THERE)
    assert "control listens on 0.0.0.0:50053 and asks nobody for a token" in said
    assert "MULTISHADOW_AUTH=tokens" in said
    (said,) = warned(HERE, THERE, tokens=True)
    assert "without TLS" in said
    assert warned(HERE, THERE, tokens=True, encrypted=True) == []


@pytest.mark.parametrize(("days", "said"), [(6.9, "expires in 6.9 days"), (-1, "has expired"), (7.1, None)])
def test_a_certificate_that_nobody_renews_is_told_of_in_time(days: float, said: str | None) -> None:
    found = warned(HERE, encrypted=True, ends=NOW + days * 86_400)
    assert [said in each for each in found if said] == ([True] if said else [])
    assert len(found) == (said is not None)
