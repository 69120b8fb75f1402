"""Which tests a run in several processes (`-n 3 --dist loadgroup`) gives to one of them."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling, Scheduling

# Each of these starts a system of its own, or shares one; beside others of their kind they wait for processors.
_TOGETHER = {"tests/e2e/": "whole systems", "tests/browser/": "browser"}


class _BySystem(LoadGroupScheduling):  # type: ignore[misc]  # xdist ships no types
    """Whole systems to one process, tests with a browser to one, and every other test to whoever is free.

    The mark `xdist_group` would say the same, but xdist 3.8 writes it into ids that pytest 9.2 no longer reads: its
    groups are not kept.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((group for folder, group in _TOGETHER.items() if nodeid.startswith(folder)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Keep the tests of a system together, where groups are asked for."""
    return _BySystem(config, log) if config.getvalue("dist") == "loadgroup" else None
