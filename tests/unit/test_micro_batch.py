"""What a micro-batch counts of captures that never reached the log."""

from __future__ import annotations

from dataclasses import replace

from multishadow_server.core import windows
from multishadow_server.core.capture import CaptureBatch, DropTally
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.duplicates import SeenInputs
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.keeping import Keeper
from multishadow_server.core.rollup import Cell, Family
from multishadow_server.core.segments import KnownLevels
from multishadow_server.service.micro_batch import Finished, MicroBatch
from multishadow_server.service.ports import LoggedBatch
from sightings import an_epoch

NOON = 1_795_435_200.0  # Monday 2026-11-23 12:00 UTC


def dropped(epoch: Epoch, *, received_at: float) -> tuple[int, int]:
    """Of seven captures that a router dropped: how many count for the experiment, and how many for none."""
    tally = DropTally(
        model=epoch.model,
        live=epoch.live,
        shadows=epoch.candidates,
        revision=epoch.from_revision,
        reason="buffer_full",
        count=7,
        received_at=received_at,
    )
    batch = MicroBatch(
        keeper=Keeper(divergent_per_hour=0, sample_per_hour=0),
        draw=lambda: 0.5,
        seen=SeenInputs(),
        levels=KnownLevels(),
    )
    logged = LoggedBatch(sequence=1, batch=CaptureBatch(router="r", captures=[], drops=[tally]))
    configuration = Configuration(revision=epoch.from_revision, epochs=(epoch,))
    batch.add(Finished(logged=logged, configuration=configuration, shadowed=[]))
    cells = [rollup.cells for rollup in batch.flush(log_id="l", partition=0, previous_offset=0).rollups.values()]
    counted = sum(each.get(Cell(Family.OUTCOME, epoch.candidates[0], "dropped"), 0) for each in cells)
    return counted, batch.counters["log_drops.no_experiment"]


def test_drops_count_for_the_experiment_that_they_were_sampled_for() -> None:
    assert dropped(an_epoch(), received_at=NOON) == (7, 0)


def test_drops_outside_the_experiments_hours_count_for_none() -> None:
    windowed = replace(an_epoch(), windows=(windows.parse("11:00-13:00"),))
    assert dropped(windowed, received_at=NOON) == (7, 0)
    assert dropped(windowed, received_at=NOON + 3_600) == (0, 7)
    assert dropped(replace(an_epoch(), ends_at=NOON), received_at=NOON) == (0, 7)
