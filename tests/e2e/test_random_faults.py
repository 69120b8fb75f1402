"""Every role and engine is killed and frozen at random moments under load: nothing is lost, callers notice nothing."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from random_faults import CALLERS, Fault, System, every_fault, system
from waiting import until

# What a killed router may lose of its sample: what it took within one flush, and calls under way.
LOST_PER_ROUTER = 500


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which is too deep for the path of a PostgreSQL's socket."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.timeout(600)
async def test_whatever_is_killed_or_frozen_every_capture_counts_once_and_callers_get_answers(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(request.config.getoption("--fault-seed"))
    rounds: int = request.config.getoption("--fault-rounds")
    async with system(folder / "data") as running:
        # All but a router's death, which takes with it what it has not handed on yet.
        for _ in range(rounds):
            await running.suffer(every_fault(without=["SIGKILL router"]), dice)
        await until(running.settled)
        answered = running.callers.answers.total()
        await every_copy_is_accounted_for(running, exactly=answered)

        killed = [fault for fault in every_fault() if str(fault) == "SIGKILL router"] * rounds
        await running.suffer([*killed, *some_others(dice)], dice)
        await until(running.settled)
        most_lost = LOST_PER_ROUTER * len(killed)
        await every_copy_is_accounted_for(running, at_most_lost=most_lost)

        assert running.callers.errors == []
        assert set(running.callers.answers) == {"yes"}


def some_others(dice: random.Random) -> list[Fault]:
    """Two that strike beside a router's death."""
    return dice.sample(every_fault(without=["SIGKILL router"]), 2)


async def every_copy_is_accounted_for(running: System, *, exactly: int | None = None, at_most_lost: int = 0) -> None:
    """Each answered request is counted for each candidate, once, as what it was or as a drop with its reason.

    And what is counted as compared is just what the candidate was asked, however often it was asked the same.
    """
    answered = running.callers.answers.total()
    for name, copies in (await running.copies()).items():
        asked = len(running.servers[name].calls)
        if exactly is not None:
            assert copies.accounted == exactly, copies
            assert copies.duplicates == 0, copies
        # A request whose answer was lost with its router is asked for again, and may have been captured by both.
        assert answered - at_most_lost <= copies.accounted <= answered + copies.duplicates + CALLERS, copies
        assert copies.compared == asked, copies
