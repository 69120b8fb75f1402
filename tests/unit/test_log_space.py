"""How large the capture log may be."""

from __future__ import annotations

import pytest

from multishadow_server.core.log_space import LEAST_BYTES, RESERVE_BYTES, STORE_MARGIN_BYTES, fitting
from multishadow_server.errors import FailedPrecondition

GIB = 1 << 30
TAKEN = RESERVE_BYTES + STORE_MARGIN_BYTES


def test_a_log_that_fits_is_as_large_as_it_should_be() -> None:
    assert fitting(GIB, free=10 * GIB, held=0, folder="/data") == GIB


def test_what_the_log_holds_already_is_its_own() -> None:
    assert fitting(GIB, free=TAKEN, held=GIB, folder="/data") == GIB


def test_a_log_that_does_not_fit_is_lowered_to_what_leaves_the_reserve() -> None:
    assert fitting(GIB, free=TAKEN + LEAST_BYTES, held=0, folder="/data") == LEAST_BYTES
    assert fitting(GIB, free=TAKEN + 500, held=LEAST_BYTES, folder="/data") == LEAST_BYTES + 500


def test_a_disk_without_room_for_a_log_of_use_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match=r"the disk of /data has 1,104 MiB free: too little .* --data-dir"):
        fitting(GIB, free=TAKEN + LEAST_BYTES - 1, held=0, folder="/data")
    assert fitting(1000, free=TAKEN + 1000, held=0, folder="/data") == 1000, "who wants less may have less"
