"""Loading the modules of a role."""

from __future__ import annotations

import gc

import pytest

from multishadow_server.loading import loading


def test_nothing_is_looked_for_while_modules_load_and_all_is_afterwards() -> None:
    assert gc.isenabled()
    with loading():
        assert not gc.isenabled()
        with loading():
            pass
        assert not gc.isenabled(), "the outer block has not ended"
    assert gc.isenabled()
    with pytest.raises(LookupError), loading():
        raise LookupError("no such module")
    assert gc.isenabled()
