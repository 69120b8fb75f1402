"""What shadowctl shows of gates, and how it plans."""

from __future__ import annotations

import itertools

import pytest
import typer
from rich.console import Console

from multishadow.v1.control_pb2 import (
    CandidateReport,
    CompareResponse,
    Gate,
    GateRecord,
    GateReview,
    PairReport,
    Panel,
    PanelPair,
)
from multishadow_client.cli import comparison_view, gates_view, release_advice, share
from multishadow_client.cli.release_advice import Change, Way

REVIEW = GateReview(
    version="A",
    verdict="HOLD",
    gates=[
        Gate(name="divergence", state="pass", number="0.1 %, between 0.05 % and 0.2 %", bound="proven below 1 %"),
        Gate(name="drift", state="fail", number="hour 7: divergence fell", bound="2160", remedy="look", holds_up=True),
        Gate(name="cost", state="pass", number="half", attestation=GateRecord(text="half", by="grace")),
        Gate(name="latency", state="unknown", number="p99", bound="2", remedy="more", advisory=True),
        Gate(name="segments", state="unknown", number="none seen yet", bound="none", remedy="requests"),
        Gate(name="quality", state="unknown", number="no labels", bound="1 pp", waiver=GateRecord(text="so", by="ada")),
        Gate(name="failures", state="fail", remedy="repair", waiver=GateRecord(text="known fault", by="ada")),
    ],
)


def shown(view: object, width: int = 160) -> str:
    """What it says, whatever the spacing."""
    console = Console(width=width, record=True, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(view)
    return " ".join(captured.get().split())


def test_gates_are_shown_with_what_was_found_and_who_took_what_on_themselves() -> None:
    said = shown(gates_view.render([REVIEW]))
    assert "✔ divergence" in said
    assert "✘ drift" in said
    assert "… latency (advisory)" in said
    assert "– segments none seen yet" in said
    assert "… quality (waived)" in said
    assert "✘ failures (waived)" in said
    assert "cost attested by grace on 1970-01-01 00:00 UTC: half" in said
    assert "failures waived by ada on 1970-01-01 00:00 UTC: known fault" in said
    assert said.endswith("A: HOLD; held up by drift")


def test_a_candidate_that_passes_says_so() -> None:
    assert gates_view.verdict(GateReview(version="A", verdict="PROMOTE")).plain == (
        "A: PROMOTE; every gate passes or is waived"
    )


def test_a_candidate_without_comparisons_is_held_up_by_that_alone() -> None:
    nothing = GateReview(version="A", verdict="NO_DATA", gates=[Gate(name="divergence", holds_up=True)])
    assert gates_view.verdict(nothing).plain == "A: NO_DATA; nothing of it was compared yet"


@pytest.mark.parametrize(
    ("moved", "said", "unsaid"), [(True, "has changed", "bursts"), (False, "bursts", "has changed")]
)
def test_a_rate_that_changed_is_not_taken_for_bursts(moved: bool, said: str, unsaid: str) -> None:
    pair = PairReport(first="A", second="B", n=10, dispersion=40, overdispersed=True)
    candidates = [CandidateReport(version=version, n=10, rate_moved=moved) for version in "AB"]
    text = shown(comparison_view.render(CompareResponse(candidates=candidates, pairs=[pair])))
    assert said in text
    assert unsaid not in text


def test_a_comparison_rings_its_alarms_and_labels_its_classical_tests() -> None:
    pair = PanelPair(first="A", second="B", mcnemar_exact=0.04, mcnemar_mid_p=0.03, paired_t=0.02)
    response = CompareResponse(
        reviews=[REVIEW],
        panel=Panel(label="valid for one look only", cochran_q=0.05, pairs=[pair]),
        pairs=[PairReport(first="A", second="B", n=10)],
    )
    said = shown(comparison_view.render(response))
    assert "! A: drift: hour 7: divergence fell; look" in said
    assert "Classical tests p-values, valid for one look only" in said
    assert "A − B 0.040 0.030 0.020" in said
    assert "A: HOLD; held up by drift" in said


@pytest.mark.parametrize(("typed", "value"), [("3%", 0.03), ("0.03", 0.03), (" 12.5 %", 0.125), ("0", 0.0)])
def test_shares_are_read_as_people_write_them(typed: str, value: float) -> None:
    assert share.share(typed) == pytest.approx(value)


@pytest.mark.parametrize(("typed", "value"), [("5%", 0.05), ("0.01", 0.01), ("0.5", 0.5), (0.0, 0.0)])
def test_chances_of_being_wrong_are_shares_up_to_an_even_one(typed: str | float, value: float) -> None:
    assert share.chance(typed) == value


@pytest.mark.parametrize("typed", ["0", "0%", "0.51", "2", "nan"])
def test_nobody_is_wrong_never_or_more_often_than_not(typed: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"out of range|is no share"):
        share.chance(typed)


@pytest.mark.parametrize("typed", ["3", "-1%", "many", "nan", "101%"])
def test_what_is_no_share_is_refused(typed: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no share"):
        share.share(typed)


@pytest.mark.parametrize(
    ("change", "writes", "reacts", "way"),
    [
        (Change.RETRAINED, False, False, Way.SHADOW),
        (Change.RUNTIME, False, False, Way.SHADOW),
        (Change.RETRAINED, True, False, Way.CANARY),
        (Change.FEATURES, False, True, Way.CANARY),
        (Change.INTERFACE, True, True, Way.BLUE_GREEN),
    ],
)
def test_the_way_follows_from_what_copies_of_requests_can_show(
    change: Change, writes: bool, reacts: bool, way: Way
) -> None:
    assert release_advice.advise(change, writes=writes, reacts=reacts, labels=True).way is way


def test_different_architectures_are_warned_of_whatever_else_holds() -> None:
    for writes, reacts, labels in itertools.product((False, True), repeat=3):
        advice = release_advice.advise(Change.ARCHITECTURE, writes=writes, reacts=reacts, labels=labels)
        assert advice.warnings[0].startswith("different architectures")


def test_shadowing_without_labels_is_warned_of() -> None:
    advice = release_advice.advise(Change.RETRAINED, writes=False, reacts=False, labels=False)
    assert any("without labels" in warning for warning in advice.warnings)
    assert advice.document()["way"] == "shadow"
