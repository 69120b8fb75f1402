"""The one sentence that a release engineer reads."""

from __future__ import annotations

from collections.abc import Mapping

from multishadow_server.core import report
from multishadow_server.core.rollup import Cell, Rollup
from sightings import rollup_of

ABC = ("A", "B", "C")
AB = ("A", "B")


def advice(patterns: Mapping[str, int], candidates: tuple[str, ...] = ABC) -> str:
    rollup = rollup_of(candidates, patterns)
    return report.build(rollup, model="spam", live="prod", candidates=candidates).advice


def test_with_nothing_seen_it_says_what_to_check() -> None:
    assert advice({}) == (
        "No comparison has arrived yet: check that callers reach spam through the router, that A, B and C claim "
        "`shadow` (`shadowctl get flags`), and that a worker runs (`shadowctl status`)."
    )


def test_without_candidates_it_says_how_to_start() -> None:
    assert advice({}, ()) == (
        "There is nothing to compare: no candidate shadows prod now; start with `shadowctl start`."
    )


def test_a_failing_live_version_comes_first() -> None:
    rollup = Rollup({Cell("live", "", "failed"): 1_200})
    assert report.build(rollup, model="spam", live="prod", candidates=AB).advice == (
        "Nothing can be compared: the live version prod itself failed on all 1,200 sampled requests; repair it first."
    )


def test_answers_that_cannot_be_compared_are_explained_by_their_commonest_reason() -> None:
    assert advice({"xx": 700, "xd": 10}, AB) == (
        "Nothing could be compared: 1,410 answers were uncomparable, most often because of `dimension_mismatch`; check "
        "that prod, A and B give the same kind of answer."
    )


def test_dropped_copies_point_to_what_falls_behind() -> None:
    assert advice({"dd": 30}, AB) == (
        "Nothing was compared: 60 copies were dropped before they were sent, most often because of `overloaded`; see "
        "`shadowctl status` for what falls behind."
    )


def test_a_winner_below_one_percent_may_be_promoted_for_its_agreement_with_live() -> None:
    assert advice({"ooo": 8_790, "bbb": 10, "bob": 10, "obb": 90, "obo": 300, "oob": 790}) == (
        "A diverges least from prod, proven against B and C, and its divergence is proven below 1 %: if matching prod "
        "is the goal and its gates pass (`shadowctl gates A`), promote it with `shadowctl promote A`; this ranks by "
        "agreement with prod, not by quality."
    )


def test_a_winner_whose_rate_has_changed_is_not_to_be_promoted_for_what_it_was() -> None:
    hours = [rollup_of(AB, {"oo": 4_900, "ob": 100}), rollup_of(AB, {"oo": 218, "bo": 20, "ob": 2})]
    found = report.build(hours[0] + hours[1], model="spam", live="prod", candidates=AB, buckets=hours)
    assert found.advice == (
        "A diverges least from prod, proven against B, but the divergence of A has changed since the epoch began, so "
        "nothing is proven of it now: find out what happened (`shadowctl gates A`), and start anew before you promote "
        "anybody."
    )


def test_equivalent_winners_whose_rates_have_changed_are_not_to_be_promoted_for_what_they_were() -> None:
    hours = [rollup_of(AB, {"oo": 5_000}), rollup_of(AB, {"oo": 220, "bb": 20})]
    found = report.build(hours[0] + hours[1], model="spam", live="prod", candidates=AB, buckets=hours)
    assert found.advice == (
        "A and B diverge least from prod and are proven equivalent (within 0.5 percentage points), but the divergence "
        "of A and B has changed since the epoch began, so nothing is proven of it now: find out what happened "
        "(`shadowctl gates A` and `shadowctl gates B`), and start anew before you promote anybody."
    )


def test_a_winner_between_one_and_five_percent_is_investigated_first() -> None:
    assert advice({"oo": 18_000, "bo": 600, "ob": 2_000}, AB) == (
        "A diverges least from prod, proven against B, but its divergence is 2.4 % to 3.4 %: find out what diverges "
        "and why before you promote it with `shadowctl promote A`; this ranks by agreement with prod, not by quality."
    )


def test_a_winner_between_five_and_ten_percent_has_edge_cases() -> None:
    found = advice({"oo": 18_000, "bo": 1_600, "ob": 4_000}, AB)
    assert "but its divergence is 6.1 % to 7.5 %: find out which edge cases diverge before you promote it" in found


def test_a_winner_above_ten_percent_is_not_rolled_out() -> None:
    found = advice({"oo": 800, "bo": 200, "ob": 400}, AB)
    assert found == (
        "A diverges least from prod, proven against B, but its divergence is proven above 10 %: do not roll it out."
    )


def test_a_winner_in_no_certain_band_waits_and_knows_how_long() -> None:
    found = advice({"oo": 1_800, "bo": 12, "ob": 120}, AB)
    assert "but its divergence may be anywhere from 0.1 % to 1.5 %: keep collecting, roughly " in found
    assert "before you promote it with `shadowctl promote A`" in found


def test_while_collecting_it_says_who_leads_and_how_many_more_requests() -> None:
    assert advice({"oo": 400, "bo": 8, "ob": 20}, AB) == (
        "A leads so far with 1.87 % divergence, but B may still be as good or better: keep collecting, roughly 390 "
        "more requests at the present rates, and promote nobody yet."
    )


def test_candidates_that_are_level_have_no_leader() -> None:
    assert advice({"oo": 20}, AB) == (
        "Nobody leads yet: A and B diverge equally often so far (0 %): keep collecting and promote nobody yet."
    )


def test_equivalent_candidates_are_chosen_between_by_cost() -> None:
    assert advice({"oo": 40_000, "ob": 22, "bo": 20}, AB) == (
        "A and B diverge least from prod and are proven equivalent (within 0.5 percentage points), each below 1 %: "
        "choose by cost or latency and promote that one, for example with `shadowctl promote A`, if matching prod is "
        "the goal and its gates pass (`shadowctl gates A`); this ranks by agreement with prod, not by quality."
    )


def test_equivalent_candidates_that_diverge_too_much_are_not_rolled_out() -> None:
    found = advice({"oo": 40_000, "bb": 10_000, "ob": 20, "bo": 22}, AB)
    assert found.endswith("but their divergence is proven above 10 %: do not roll any of them out.")


def test_equivalent_candidates_in_a_middling_band_are_looked_into() -> None:
    found = advice({"oo": 40_000, "bb": 1_000, "ob": 20, "bo": 22}, AB)
    assert "but may diverge on up to 2.9 % of requests: find out what diverges before you promote one" in found


def test_candidates_that_are_all_too_bad_need_no_more_requests() -> None:
    assert advice({"oo": 700, "bb": 300, "ob": 20, "bo": 22}, AB) == (
        "Any of B and A may be the best, but all are proven to diverge on more than 10 %: do not roll any out."
    )


def test_a_single_candidate_is_judged_by_its_band() -> None:
    assert advice({"o": 3_000}, ("A",)) == (
        "A is the only candidate, and its divergence is proven below 1 %: if matching prod is the goal and its "
        "gates pass (`shadowctl gates A`), promote it "
        "with `shadowctl promote A`; this ranks by agreement with prod, not by quality."
    )


def test_one_comparable_candidate_of_two_is_no_ranking() -> None:
    assert advice({"ox": 2_000}, AB) == (
        "Only A could be compared so far, so there is no ranking yet: promote nobody; B could not be compared at all "
        "(`dimension_mismatch`)."
    )


def test_a_candidate_that_gets_no_traffic_is_pointed_out() -> None:
    assert advice({"ou": 2_000}, AB).endswith("; B got no request yet, check its flag (`shadowctl get flags`).")


def test_inputs_that_only_repeat_are_told_from_no_traffic() -> None:
    assert advice({"rr": 40}, AB) == (
        "Nothing was compared: all 80 copies repeat an input that came before in the same time bucket, where it counts "
        "once; send requests whose inputs differ."
    )
    assert advice({"or": 2_000}, AB).endswith("; B got repeated inputs alone, which do not count.")


def test_when_every_call_fails_it_says_so_before_anything_else() -> None:
    assert advice({"ee": 80, "et": 20}, AB) == (
        "Every call to A and B failed, most often with `UNAVAILABLE`: check that the versions run and that their "
        "addresses are right (`shadowctl get versions`), and promote nobody."
    )


def test_a_dead_candidate_among_others_is_named() -> None:
    found = advice({"oot": 8_000, "obt": 500}, ABC)
    assert found.startswith("A diverges least from prod, proven against B and C")
    assert found.endswith("; C failed on all 8,500 calls (`timeout`), so repair it or leave it out.")


def test_a_winner_whose_copies_got_lost_is_not_taken_at_its_word() -> None:
    found = advice({"oo": 8_000, "ob": 500, "do": 4_000}, AB)
    assert found.endswith("; only 68 % of the copies for A ended in a comparison (`overloaded`), find out why first.")
