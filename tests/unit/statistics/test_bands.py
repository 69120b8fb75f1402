"""Bands of divergence."""

from __future__ import annotations

import pytest

from multishadow_server.core.statistics.bands import Band, band_of


@pytest.mark.parametrize(
    ("rate", "band"),
    [
        (0.0, Band.SAFE),
        (0.00999, Band.SAFE),
        (0.01, Band.INVESTIGATE),
        (0.0499, Band.INVESTIGATE),
        (0.05, Band.EDGE_CASES),
        (0.0999, Band.EDGE_CASES),
        (0.10, Band.DO_NOT_ROLL_OUT),
        (1.0, Band.DO_NOT_ROLL_OUT),
    ],
)
def test_an_edge_belongs_to_the_worse_band(rate: float, band: Band) -> None:
    assert band_of(rate) is band
