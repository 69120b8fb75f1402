"""What pages show, worked out: pictures of rollouts, histories of flags, lists by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request

from multishadow_server.core import outcome_counts
from multishadow_server.core.dead_letters import LetterState
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import Version
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollout import Rollout, RolloutState, Terms
from multishadow_server.core.rollup import Family, Tables
from multishadow_server.core.routing import Claim
from multishadow_server.entrypoints.web import (
    audit,
    dead_letters,
    differences,
    fields,
    flags,
    paging,
    rollouts,
    system,
    wording,
)
from multishadow_server.entrypoints.web.pages import ui
from multishadow_server.errors import InvalidInput
from multishadow_server.service.flag_reading import FlagView
from multishadow_server.service.ports import (
    AuditLine,
    FlagRecord,
    FlagRevision,
    LetterFilter,
    ProcessStatus,
    RolloutEvent,
)
from multishadow_server.service.status import ProcessView

COLOUR = {"state": "ENABLED", "variants": {"red": 1, "blue": 2}, "defaultVariant": "red"}
BLUE = COLOUR | {"defaultVariant": "blue"}


# --- rollouts -----------------------------------------------------------------------------------------------------


def a_rollout(state: RolloutState = RolloutState.RUNNING, *, stage: int = 1) -> Rollout:
    return Rollout(
        id=7,
        model="fraud",
        version="A",
        previous="base",
        address="10.0.0.1:9000",
        terms=Terms(stages=(1.0, 5.0, 100.0)),
        state=state,
        stage=stage,
        first_revision=3,
        stage_revision=4,
        entered_at=0.0,
        setbacks=0,
        turn=1,
        baseline={},
        started_at=0.0,
        started_by="ann",
        reason="",
    )


@pytest.mark.parametrize(
    ("state", "stage", "places"),
    [
        (RolloutState.RUNNING, 1, ["passed", "present", "ahead"]),
        (RolloutState.PAUSED, 0, ["paused", "ahead", "ahead"]),
        (RolloutState.COMPLETED, 2, ["passed", "passed", "passed"]),
        (RolloutState.ABORTED, 1, ["passed", "stopped", "ahead"]),
        (RolloutState.ROLLED_BACK, 2, ["passed", "passed", "stopped"]),
    ],
)
def test_stages_are_passed_reached_or_still_to_come(state: RolloutState, stage: int, places: list[str]) -> None:
    assert [each.place for each in rollouts.stages(a_rollout(state, stage=stage))] == places


def event(
    at: float, move: str, percent: float, *, why: str = "", findings: Sequence[Mapping[str, Any]] = ()
) -> RolloutEvent:
    return RolloutEvent(at=at, actor="control", move=move, percent=percent, revision=1, why=why, findings=findings)


def test_each_stay_at_a_stage_has_what_ended_it() -> None:
    kept, broken = [{"name": "errors", "standing": "kept"}], [{"name": "errors", "standing": "broken"}]
    found = rollouts.visits(
        [
            event(0, "start", 1),
            event(10, "pause", 1),
            event(12, "resume", 1),
            event(20, "advance", 5, why="every guardrail is kept", findings=kept),
            event(30, "set_back", 1, why="errors", findings=broken),
            event(40, "advance", 5, findings=kept),
        ]
    )
    assert [(each.percent, each.entered_at, each.left_at, each.move) for each in found] == [
        (1, 0, 20, "advance"),
        (5, 20, 30, "set_back"),
        (1, 30, 40, "advance"),
        (5, 40, None, ""),
    ]
    assert [each.findings for each in found] == [kept, broken, kept, ()]


def test_an_end_closes_the_last_stay_and_begins_none() -> None:
    found = rollouts.visits([event(0, "start", 1), event(5, "abort", 0, why="severe: errors")])
    assert [(each.percent, each.left_at, each.why) for each in found] == [(1, 5, "severe: errors")]


# --- flags --------------------------------------------------------------------------------------------------------


def a_flag(key: str, definition: Mapping[str, Any] = COLOUR) -> FlagView:
    record = FlagRecord(key=key, definition=definition, revision=1, changed_at=0.0, changed_by="ann", reason="")
    return FlagView(record=record, owner=None)


def said(revision: int, definition: Mapping[str, Any] | None) -> FlagView:
    line = FlagRevision(
        key="colour", revision=revision, definition=definition, changed_at=0.0, changed_by="ann", reason=""
    )
    return FlagView(record=line, owner=None)


def keys(found: paging.Paged[flags.FlagLine]) -> list[str]:
    return [line.view.record.key for line in found.items]


def test_flags_are_paged_by_key_so_that_nothing_is_missed_when_some_come_or_go() -> None:
    every = [a_flag(f"k{n}") for n in range(5)]
    first = flags.listed(every, after="", size=2)
    assert (keys(first), first.after, first.first) == (["k0", "k1"], "k1", True)
    # k1 is deleted and k05 is made meanwhile.
    changed = [a_flag(key) for key in ("k0", "k05", "k2", "k3", "k4")]
    second = flags.listed(changed, after=first.after, size=2)
    assert (keys(second), second.after, second.first) == (["k2", "k3"], "k3", False)
    last = flags.listed(changed, after="k3", size=2)
    assert (keys(last), last.after) == (["k4"], "")


def test_a_flag_says_in_words_what_it_says() -> None:
    version = Version(model="fraud", name="A", address="10.0.0.1:9000")
    claim = FlagView(record=a_flag("fraud.A", claim_definition("fraud", Claim.SHADOW, 25)).record, owner=version)
    rule = COLOUR | {"targeting": {"if": [True, "red", "blue"]}}
    views = (claim, a_flag("c"), a_flag("c", rule), a_flag("c", COLOUR | {"state": "DISABLED"}))
    assert [flags.in_words(view) for view in views] == ["shadow 25 %", "red", "targeting rule", "disabled"]
    assert flags.in_words(a_flag("c", {"state": "ENABLED", "variants": {"on": True}})) == "code default"


def test_a_history_tells_what_each_revision_changed() -> None:
    found = flags.revisions([said(9, None), said(5, BLUE), said(4, COLOUR)], first=True)
    assert [(line.said.revision, line.says, line.present) for line in found.items] == [
        (9, "deleted", True),
        (5, "blue", False),
        (4, "red", False),
    ]
    changed = [[(each.kind, each.text.strip()) for each in line.changed if each.kind != "same"] for line in found.items]
    assert changed[1] == [("removed", '"defaultVariant": "red"'), ("added", '"defaultVariant": "blue"')]
    assert {kind for kind, _ in changed[0]} == {"removed"}
    assert {kind for kind, _ in changed[2]} == {"added"}


def test_a_history_is_paged_by_revision_and_the_last_line_of_a_page_still_knows_the_one_before() -> None:
    history = [said(n, BLUE if n % 2 else COLOUR) for n in range(9, 0, -1)]
    first = flags.revisions(history[:4], first=True, size=3)
    second = flags.revisions(
        [view for view in history if view.record.revision < int(first.after)][:4], first=False, size=3
    )
    assert [line.said.revision for line in (*first.items, *second.items)] == [9, 8, 7, 6, 5, 4]
    assert [len(line.changed) > 0 for line in first.items] == [True, True, True]
    assert [line.present for line in second.items] == [False, False, False]


def test_a_difference_has_every_line_once_and_none_where_nothing_differs() -> None:
    assert differences.lines(COLOUR, dict(reversed(COLOUR.items()))) == ()
    lines = differences.lines(COLOUR, BLUE)
    assert [each.text for each in lines if each.kind != "added"] == differences.written(COLOUR).splitlines()
    assert [each.text for each in lines if each.kind != "removed"] == differences.written(BLUE).splitlines()


# --- dead letters -------------------------------------------------------------------------------------------------


def test_letters_are_counted_by_version_with_all_their_states() -> None:
    counts = {
        ("fraud", "B", LetterState.WAITING): 3,
        ("fraud", "B", LetterState.PARKED): 2,
        ("", "", LetterState.PARKED): 1,
    }
    assert [(line.model, line.waiting, line.parked, line.answered) for line in dead_letters.counted(counts)] == [
        ("", 0, 1, 0),
        ("fraud", 3, 2, 0),
    ]


def test_a_payload_is_shown_as_far_as_people_can_read_it() -> None:
    assert dead_letters.printable(b'{"a": 1}\n\x00\xff') == '{"a": 1}\n\\x00\\xff'
    assert dead_letters.printable(b"abcdef", most=3) == "abc…"


def test_a_filter_is_the_same_in_a_link_and_in_a_form() -> None:
    which = LetterFilter(model="fraud", version="B", state=LetterState.PARKED)
    assert dead_letters.filter_of(dead_letters.as_query(which)) == which
    assert dead_letters.filter_of({}) == LetterFilter()


# --- the audit log ------------------------------------------------------------------------------------------------


def test_an_entry_has_its_reason_apart_from_its_details() -> None:
    detail = {"reason": "half as slow", "previous": "base", "gates_passed_over": [], "percent": 0}
    line = AuditLine(id=1, at=0.0, actor="ann", action="promote", subject="fraud.A", detail=detail)
    found = audit.entry(line)
    assert (found.why, found.details) == ("half as slow", '{\n  "previous": "base",\n  "percent": 0\n}')
    assert audit.entry(replace(line, detail={"why": "severe"})).details == ""


def test_the_audit_log_is_asked_from_the_beginning_of_a_day_on() -> None:
    asked = audit.query_of({"since": "2026-11-23", "actor": " ann "}, before=9)
    assert (asked.since, asked.actor, asked.before) == (1_795_392_000.0, "ann", 9)
    with pytest.raises(InvalidInput, match="since: 'yesterday' is no day"):
        audit.query_of({"since": "yesterday"}, before=None)


# --- the system ---------------------------------------------------------------------------------------------------


def process(role: str, *, alive: bool = True, revision: int = 9, **counters: Any) -> ProcessView:
    said = ProcessStatus(
        role=role, instance=f"{role}-1", host="h", pid=1, started_at=0.0, revision=revision, counters=counters
    )
    return ProcessView(said=said, alive=alive)


def dropped(**reasons: int) -> dict[str, Any]:
    return {f"dropped.{reason}": n for reason, n in reasons.items()}


def test_captures_on_their_way_are_added_up_over_the_processes_that_speak() -> None:
    found = system.transit(
        [
            process("router", captured=100, buffered=3, buffered_bytes=10, **dropped(buffer_full=2)),
            process("router", captured=50, sampling_permille=250, **dropped(too_large=1)),
            process("router", alive=False, captured=7_000, buffered=900, sampling_permille=10),
            process("worker", lag_ms=1_500, **dropped(paused=5, too_large=1)),
            process("worker", lag_ms=20),
        ]
    )
    assert (found.captured, found.buffered, found.buffered_bytes) == (150, 3, 10)
    assert dict(found.dropped) == {"paused": 5, "buffer_full": 2, "too_large": 2}
    assert (found.lag, found.sampling) == (1.5, 0.25)
    nobody = system.transit([])
    assert (nobody.lag, nobody.sampling, nobody.dropped) == (None, None, ())


def test_processes_stand_by_role_and_only_routers_can_be_behind() -> None:
    views = [process("control", revision=0), process("worker", revision=2), process("router", revision=7, requests=5)]
    lines = system.process_lines(views, 9)
    assert [(line.view.said.role, line.behind, line.sampling) for line in lines] == [
        ("router", 2, 1.0),
        ("worker", 0, None),
        ("control", 0, None),
    ]
    assert lines[0].counters == (("requests", 5),)


def test_what_was_not_sent_because_it_counts_already_makes_nothing_incomplete() -> None:
    outcomes = {Outcome.OK: 90, Outcome.ERROR: 5, Outcome.DROPPED: 4, Outcome.UNCOMPARABLE: 1, Outcome.DUPLICATE: 50}
    tables: Tables = {(Family.OUTCOME, "A"): {str(outcome): n for outcome, n in outcomes.items()}}
    found, none = outcome_counts.of_candidates(tables, ["A", "B"])
    assert (found.counted, found.completeness, found.duplicates) == (95, 0.95, 50)
    assert found.divergence == 5 / 95
    assert (none.completeness, none.divergence) == (None, None)


def test_releases_that_run_side_by_side_are_told_and_processes_that_are_gone_are_not_among_them() -> None:
    def running(program: str, *, alive: bool = True) -> ProcessView:
        view = process("router", alive=alive)
        return replace(view, said=replace(view.said, program=program))

    views = [running("0.2.0"), running("0.1.0"), running("0.2.0"), running(""), running("0.0.9", alive=False)]
    assert system.programs(views) == ("0.1.0", "0.2.0")


# --- pages, fields and words --------------------------------------------------------------------------------------


def asking(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": [], "path": "/"})


@pytest.mark.parametrize("said", ["x", "-1", "1.5", "٣", "9" * 19, "1 OR 1=1"])
def test_a_page_begins_after_a_number(said: str) -> None:
    with pytest.raises(InvalidInput, match="is no number"):
        paging.number_after(Request({"type": "http", "query_string": f"after={said}".encode(), "headers": []}))


def test_a_page_is_the_last_when_nothing_more_was_found() -> None:
    assert paging.number_after(asking("after=12")) == 12
    assert paging.number_after(asking("after=")) is None
    assert paging.page([3, 2], lambda n: n, size=2, first=True).after == ""
    more = paging.page([3, 2, 1], lambda n: n, size=2, first=True)
    assert (more.items, more.after) == ([3, 2], "2")


def test_fields_are_read_as_people_fill_them_in() -> None:
    given = {"percent": " 25 % ", "id": "7", "reason": " because ", "force": ""}
    assert (fields.number(given, "percent"), fields.whole(given, "id")) == (25.0, 7)
    assert (fields.text(given, "reason"), fields.checked(given, "force")) == ("because", True)
    nothing = (fields.number({}, "percent"), fields.whole({}, "id"), fields.text({}, "reason"), fields.checked({}, "x"))
    assert nothing == (None, None, "", False)
    for read, value in ((fields.number, "a lot"), (fields.whole, "-1"), (fields.text, "x" * 1_001)):
        with pytest.raises(InvalidInput, match=r"^field: "):
            read({"field": value}, "field")


def test_paths_are_quoted_and_empty_terms_left_out() -> None:
    assert ui("flags", "a/b?c", after="", prefix="x&y") == "/ui/flags/a%2Fb%3Fc?prefix=x%26y"
    assert ui() == "/ui/"


def test_figures_are_written_for_people() -> None:
    assert [wording.rate(n) for n in (None, 0.0, 0.0512, 12.34, 1234.5)] == ["–", "0", "0.0512", "12.3", "1,234"]
    assert [wording.lag(n) for n in (None, 0.2, 74.0)] == ["–", "< 1 s", "1 min 14 s"]
    assert [wording.duration(n) for n in (None, 0.4, 59, 3_600, 93_784)] == ["–", "0 s", "59 s", "1 h", "1 d 2 h"]
    assert [wording.milliseconds(n) for n in (None, 0.0123, 1.5, float("inf"))] == [
        "–",
        "12.3 ms",
        "1,500 ms",
        "timed out",
    ]
    assert [wording.size(n) for n in (None, 0, 1_536, 3 << 30)] == ["–", "0 B", "1.5 KiB", "3 GiB"]
    assert (wording.percent(0.0312), wording.percent(None), wording.percent(1, 0)) == ("3.12 %", "–", "100 %")
    assert (wording.moment(0.0), wording.machine_moment(0.0)) == ("1970-01-01 00:00:00", "1970-01-01T00:00:00+00:00")


def test_what_stands_between_backticks_is_code_and_never_markup() -> None:
    assert wording.code("see `a<b` & go") == "see <code>a&lt;b</code> &amp; go"
