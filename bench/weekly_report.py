"""Whether a weekly report on many comparisons costs more than one on few.

    python bench/weekly_report.py

Processor time of working out a week of two candidates with the same hours and kinds of request, and a hundred and ten
thousand times the requests in them: from counts to the report, and from the report to its texts. The best of five.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from multishadow_server.adapters.report_rendering import WeeklyReportRenderer
from multishadow_server.core import weekly_report
from weekly_fixtures import DAY, LIVE, MONDAY, WEEK, hourly, material, times

KINDS = {
    ("oo", "attributes.country=NO"): 8,
    ("bo", "attributes.country=NO"): 1,
    ("oo", "attributes.country=DE"): 50,
    ("bb", "attributes.country=DE"): 1,
}
FACTORS = (1, 100, 10_000)
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    table = Table("comparisons of each", "working it out", "writing it")
    hours, renderer = hourly(("A", "B"), lambda _: KINDS), WeeklyReportRenderer()
    for factor in FACTORS:
        read = material(("A", "B"), times(hours, factor))
        build = partial(weekly_report.build, model="spam", week=WEEK, materials=[read], live=LIVE, now=MONDAY + 8 * DAY)
        report = build()
        n = report.epochs[0].candidates[0].rate.n
        writing = best(partial(renderer.render, report))
        table.add_row(f"{n:,}", f"{best(build):.1f} ms", f"{writing:.1f} ms")
    Console().print(table)


def best(work: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        found.append(1000 * (time.process_time() - began))
    return min(found)


if __name__ == "__main__":
    main()
