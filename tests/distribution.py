"""Which tests a run in several processes (`-n 3 --dist loadgroup`) gives to one of them."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling, Scheduling

_TOGETHER = (
    # Whole systems: beside others of their kind they only wait for processors.
    "tests/e2e/",
    # One browser, and one system that it looks at.
    "tests/browser/",
    # What these modules start for all of their tests takes longer than the tests.
    "tests/integration/test_demo_versions.py",
    "tests/integration/test_page.py",
    "tests/integration/test_serve.py",
    "tests/integration/test_stock_client_events.py",
    "tests/integration/test_stock_clients.py",
    "tests/integration/test_store_faults.py",
)


class _BySystem(LoadGroupScheduling):  # type: ignore[misc]  # xdist ships no types
    """Those that share what is dear to start to one process, and every other test to whoever is free.

    The mark `xdist_group` would say the same, but xdist 3.8 writes it into ids that pytest 9.2 no longer reads: its
    groups are not kept.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((group for group in _TOGETHER if nodeid.startswith(group)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Keep the tests of a system together, where groups are asked for."""
    return _BySystem(config, log) if config.getvalue("dist") == "loadgroup" else None
