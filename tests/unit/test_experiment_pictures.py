"""What an experiment's pages draw: places on axes, and the data of charts."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest

from multishadow_server.core import divergence_course, evidence_course
from multishadow_server.core.findings import Interval
from multishadow_server.entrypoints.web import course_charts, interval_picture, wording
from sightings import rollup_of

AB = ("A", "B")
HOUR = 3_600


def interval(lower: float, estimate: float, upper: float) -> Interval:
    return Interval(estimate=estimate, lower=lower, upper=upper)


def test_rates_lie_by_square_root_over_the_bands() -> None:
    picture = interval_picture.of_rates([("A", interval(0.0, 0.01, 0.04)), ("B", None)])
    assert [(band.name, band.start) for band in picture.bands] == [
        ("safe", 0.0),
        ("investigate", pytest.approx(100 * math.sqrt(0.2), abs=1e-3)),
    ]
    assert sum(band.width for band in picture.bands) == pytest.approx(100)
    first, second = picture.rows
    assert first.whisker is not None
    assert first.whisker.lower == 0
    assert first.whisker.estimate == picture.bands[1].start
    assert first.whisker.upper == pytest.approx(100 * math.sqrt(0.8), abs=1e-3)
    assert (first.estimate, first.interval) == ("1.00 %", "0.00 – 4.00 %")
    assert (second.whisker, second.estimate, second.interval) == (None, "–", "")


def test_the_axis_reaches_as_far_as_the_widest_interval_and_its_labels_have_room() -> None:
    for upper in (0.0004, 0.003, 0.009, 0.03, 0.12, 0.34, 0.9, 1.0):
        picture = interval_picture.of_rates([("A", interval(0.0, upper / 2, upper))])
        (row,) = picture.rows
        assert row.whisker is not None
        assert 30 < row.whisker.upper <= 100
        places = [tick.place for tick in picture.ticks]
        assert places[0] == 0
        assert all(right - left >= 13 for left, right in pairwise(places))
        assert sum(band.width for band in picture.bands) == pytest.approx(100)


def test_differences_lie_on_both_sides_of_zero_over_what_is_equivalent() -> None:
    picture = interval_picture.of_differences(
        [("A − B", interval(-0.2, -0.05, 0.002)), ("A − C", interval(-0.002, 0.0, 0.002))], margin=0.005
    )
    (band,) = picture.bands
    wide, equal = (row.whisker for row in picture.rows)
    assert wide is not None
    assert equal is not None
    assert (wide.lower, equal.estimate) == (0.0, 50.0)
    assert band.start < equal.lower < 50 < equal.upper < band.start + band.width
    assert wide.upper == equal.upper
    assert [tick.label for tick in picture.ticks] == ["−20 pp", "−2 pp", "0", "+2 pp", "+20 pp"]


def test_correlations_are_plain_numbers() -> None:
    (row,) = interval_picture.of_correlations([("size", interval(-0.1, 0.05, 0.2))]).rows
    assert (row.estimate, row.interval) == ("+0.050", "[−0.100, +0.200]")


def evidence_of(hours: int) -> evidence_course.EvidenceCourse:
    tables = rollup_of(AB, {"oo": 90, "ob": 9, "bo": 1}).tables()
    found = evidence_course.build(
        {HOUR * place: tables for place in range(hours)}, versions=AB, bucket_seconds=HOUR, alpha=0.05
    )
    assert found is not None
    return found


def test_a_chart_of_evidence_has_powers_of_ten_and_its_threshold() -> None:
    course = evidence_of(30)
    chart = course_charts.evidence(
        course, course.against("A"), threshold=("decides", course.log_pair_threshold), versions=AB
    )
    data = json.loads(str(chart.data))
    line, threshold = data["lines"]
    (values,) = course.against("A").values()
    assert (line["label"], line["colour"], data["times"][-1]) == ("B", "--series-2", 30 * HOUR)
    assert line["values"][-1] == pytest.approx(values[-1] / math.log(10), abs=1e-5)
    assert (threshold["dashed"], threshold["values"][0]) == (True, pytest.approx(math.log10(40), abs=1e-5))
    # Evidence may fall without end, and is drawn no deeper than it says something.
    fallen = course_charts.evidence(course, {"A": [-300.0] * 30}, threshold=("decides", 1.0), versions=AB)
    assert set(fallen.lines[0].values) == {course_charts.LOWEST_LOG10}


def test_a_table_has_the_same_figures_and_few_rows() -> None:
    course = evidence_of(200)
    table = course_charts.evidence_table(course, course.against("A"))
    assert len(table.rows) <= course_charts.MOST_ROWS
    assert table.heads == ["until (UTC)", "B"]
    assert table.rows[-1][0] == wording.moment(200 * HOUR)[:16]


def test_periods_that_are_told_together_are_added_up() -> None:
    tables = rollup_of(AB, {"oo": 90, "ob": 9, "bo": 1}).tables()
    course = divergence_course.build(
        {HOUR * place: tables for place in range(100)}, versions=AB, bucket_seconds=HOUR, alpha=0.05
    )
    rows = course_charts.divergence_table(course, "B").rows
    assert len(rows) <= course_charts.MOST_ROWS
    assert sum(int(row[1].replace(",", "")) for row in rows) == 10_000
    assert rows[0][3] == "9.00 %"
    chart = course_charts.divergence(course, "B", "--series-2")
    assert [line.label for line in chart.lines] == ["B, each hour", "1 %", "5 %", "10 %"]
    assert (len(chart.lines[0].low), len(chart.lines[0].high)) == (100, 100)


def test_nothing_in_a_charts_data_can_end_its_element() -> None:
    line = course_charts.Line(label="</script><b>&", colour="--text", values=[1.0])
    data = str(course_charts.Chart(kind="share", times=[0], lines=[line]).data)
    assert not set(data) & set("<>&")
    assert json.loads(data)["lines"][0]["label"] == "</script><b>&"


def test_commands_in_messages_are_shown_as_code_and_everything_is_escaped() -> None:
    shown = str(wording.marked("see `shadowctl gates <A>` & wait"))
    assert shown == "see <code>shadowctl gates &lt;A&gt;</code> &amp; wait"
