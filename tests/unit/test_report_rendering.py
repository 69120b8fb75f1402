"""Weekly reports as HTML, Markdown and JSON."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from multishadow_server.adapters.report_rendering import WeeklyReportRenderer, pictures
from multishadow_server.core import cost, gates, week_words
from multishadow_server.core.cost import Pace, Price, Shadow, Traffic
from multishadow_server.core.gates import Awaits, Gate, GateName, GateState
from multishadow_server.core.weekly_report import Case, WeeklyReport
from multishadow_server.service.ports import ReportTexts
from weekly_fixtures import DAY, MONDAY, hourly, only_epoch, week_of

NASTY = '<script>alert("x")</script>|*_[a](b)'


@pytest.fixture(scope="module")
def report() -> WeeklyReport:
    kinds = {
        ("oo", f"attributes.country={NASTY}"): 30,
        ("bo", f"attributes.country={NASTY}"): 10,
        ("oo", "attributes.country=DE"): 158,
        ("eb", "attributes.country=DE"): 2,
    }
    case = Case(
        id=7, request_id="r-7", received_at=MONDAY + DAY, distance=0.75, detail=f"ham, not {NASTY}", verdict=None
    )
    held = Gate(
        name=GateName.DIVERGENCE,
        state=GateState.FAIL,
        number="6 %",
        bound="below 1 %",
        remedy="see `shadowctl segments A`",
        awaits=Awaits.PEOPLE,
    )
    return week_of(
        ("A", "B"),
        hourly(("A", "B"), lambda _: kinds),
        cases={"A": [case]},
        reviews=[gates.review("A", [held], n=100, records=[])],
        cost=cost.estimate(
            model="spam",
            experiment_id=1,
            live="prod",
            shadows=[Shadow(version=name, fraction=0.25, rps_per_gpu=40.0) for name in "AB"],
            traffic=Traffic(rps=100.0, measured="by hand"),
            price=Price(gpu_hour=2.5, currency="USD"),
            box_days=14.0,
            days_left=7.0,
            pace=Pace(needed=1_000, fraction=0.25, per_second=1.0, basis="by hand"),
        ),
    )


@pytest.fixture(scope="module")
def texts(report: WeeklyReport) -> ReportTexts:
    return WeeklyReportRenderer().render(report)


class Markup(HTMLParser):
    """Which elements and attributes there are, and whether each is closed."""

    VOID = frozenset({"meta", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_one_file_that_loads_nothing_and_runs_nothing(texts: ReportTexts) -> None:
    whole = WeeklyReportRenderer().standalone("spam <W47>", texts.html)
    markup = Markup()
    markup.feed(whole)
    assert markup.open == []
    tags = {tag for tag, _ in markup.seen}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert not [
        name for _, attributes in markup.seen for name in attributes if name in {"src", "href"} or name[:2] == "on"
    ]
    assert not re.search(r"url\(|@import|https?://", whole)
    assert "<title>spam &lt;W47&gt;</title>" in whole


def test_what_callers_named_is_text_in_html_and_in_markdown(texts: ReportTexts) -> None:
    assert "<script>" not in texts.html
    assert "&lt;script&gt;" in texts.html
    outside_code = re.sub(r"`[^`]*`", "", texts.markdown)
    assert "<script>" not in outside_code.replace(r"\<script\>", "")
    assert r"\|\*\_\[a\]" in texts.markdown


def test_every_table_in_markdown_has_as_many_cells_in_each_row(texts: ReportTexts) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", texts.markdown, flags=re.MULTILINE)
    assert len(tables) >= 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_json_holds_every_figure_with_its_counts_its_formula_its_epoch_and_its_revision(texts: ReportTexts) -> None:
    document = json.loads(texts.document)
    assert (document["week"], document["partial"]) == ("2026-W47", False)
    assert "k/α" in document["formula"]
    (epoch,) = document["epochs"]
    assert epoch["epoch"]["from_revision"] == 1
    assert epoch["report"]["test_name"].startswith("paired betting")
    a = next(each for each in epoch["candidates"] if each["version"] == "A")
    assert a["rate"]["bad"] == 12 * 168
    assert a["rate"]["n"] == 200 * 168
    assert (
        sum(
            a["categories"][name]
            for name in ("agreed", "slow", "disagreed", "timeout", "error", "uncomparable", "dropped", "duplicate")
        )
        == a["categories"]["observed"]
    )
    assert epoch["cost"]["present"]["gpus"] == 2
    assert a["cases"][0]["command"] == "shadowctl review show 7"


def test_a_manager_reads_the_same_first_paragraph_in_all_forms(report: WeeklyReport, texts: ReportTexts) -> None:
    document = json.loads(texts.document)
    assert document["summary"] == report.summary
    assert only_epoch(report).report.advice in report.summary
    assert "about 120 USD a day and 1,680 USD for the whole experiment" in texts.markdown
    assert "1,680" in texts.html


def test_every_picture_has_a_table_with_its_numbers(texts: ReportTexts) -> None:
    assert texts.html.count("<svg") == texts.html.count("by day, in numbers") == 2


def test_a_picture_of_days_lies_within_its_frame(report: WeeklyReport) -> None:
    picture = pictures.days(only_epoch(report).candidates[0].days, MONDAY)
    assert [mark.label for mark in picture.marks] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    for mark in picture.marks:
        assert 0 <= mark.upper <= mark.y <= mark.lower <= picture.height
        assert picture.left <= mark.x <= picture.width


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0312, "3.1 %"),
        (0.00042, "0.042 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.9999, "99.9 %"),
        (0.5, "50 %"),
        (None, "–"),
    ],
)
def test_shares_are_rounded_and_nearly_all_is_not_all(share: float | None, said: str) -> None:
    assert week_words.per_cent(share) == said


@pytest.mark.parametrize(
    ("days", "said"), [(0.0, "now"), (0.02, "29 min"), (0.5, "12 h"), (3.26, "3.3 d"), (40.0, "40 d")]
)
def test_spans_are_said_in_their_fitting_unit(days: float, said: str) -> None:
    assert week_words.span(days) == said


def test_small_shares_are_counted_as_people_do() -> None:
    assert week_words.one_in(0.003) == "about 1 in 330"
    assert week_words.one_in(0.5) == ""
    assert week_words.one_in(0.0) == ""
