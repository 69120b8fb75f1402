"""Which flags promotion and rollback write, and that no reader of several flags is ever without a live version."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import promotion, serving
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.flags import claim_definition, describe
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.schedule import Progress
from multishadow_server.core.serving import Flags
from multishadow_server.errors import FailedPrecondition

NAMES = ("base", "A", "B", "C")
EXPERIMENT = Experiment(
    id=1,
    model="spam",
    candidates=("A", "B"),
    percent=25,
    bucket_seconds=3600,
    started_at=0,
    ends_at=1,
    started_by="somebody",
)


def model_of(*names: str) -> Model:
    return Model(
        name="spam",
        versions=tuple(
            Version(model="spam", name=name, address="127.0.0.1:1", ordinal=place) for place, name in enumerate(names)
        ),
    )


SPAM = model_of(*NAMES)


def flags_of(**claims: str) -> dict[str, Mapping[str, Any]]:
    """Flags from words: base="live", A="shadow 25", B="live 5"; whoever is not named is off."""
    flags: dict[str, Mapping[str, Any]] = {}
    for name in NAMES:
        claim, _, percent = claims.get(name, "off").partition(" ")
        flags[f"spam.{name}"] = claim_definition("spam", Claim(claim), float(percent or 100))
    return flags


def in_words(flags: Flags) -> dict[str, str]:
    return {key.removeprefix("spam."): describe(definition) for key, definition in flags.items()}


def version(name: str) -> Version:
    found = SPAM.version(name)
    assert found is not None
    return found


def states(flags: Flags, target_of: Callable[[Flags], Flags]) -> list[Flags]:
    """The flags after each revision, the present ones first."""
    reached: list[Flags] = [flags]
    for _ in range(2 + len(NAMES)):
        step = promotion.next_step(SPAM, reached[-1], target_of(reached[-1]))
        if step is None:
            return reached
        reached.append({**reached[-1], **step.writes})
        assert step.arrives == (promotion.next_step(SPAM, reached[-1], target_of(reached[-1])) is None)
    raise AssertionError("it does not arrive")


def promote(flags: Flags, name: str, *, percent: float = 100, experiment: Experiment | None = None) -> list[Flags]:
    previous = serving.live_version(SPAM, flags)
    assert previous is not None
    promotion.check_stage(SPAM, flags, version(name), percent)
    return states(
        flags,
        lambda now: promotion.promotion_target(
            SPAM, now, version(name), percent=percent, previous=previous, experiment=experiment
        ),
    )


def roll_back(flags: Flags, *, before: Flags) -> list[Flags]:
    previous = serving.live_version(SPAM, before)
    assert previous is not None
    return states(flags, lambda now: promotion.rollback_target(SPAM, now, before=before, previous=previous.name))


def live(flags: Flags) -> str:
    found = serving.live_version(SPAM, flags)
    assert found is not None
    return found.name


def readings(revisions: Sequence[Flags]) -> list[list[str]]:
    """For every way in which a reader, newest version first, can fall between the revisions: who stands."""
    newest_first = SPAM.versions[::-1]
    return [
        [each.name for each, seen in zip(newest_first, moments, strict=True) if serving.stands(each, revisions[seen])]
        for moments in itertools.combinations_with_replacement(range(len(revisions)), len(newest_first))
    ]


def served_across_one_change(revisions: Sequence[Flags]) -> set[str]:
    """Whom a reader finds that one revision overtakes, at most."""
    return {seen[0] for pair in itertools.pairwise(revisions) for seen in readings(pair)}


def test_promoting_a_newer_version_is_one_write_and_the_old_one_stays_as_fallback() -> None:
    before = flags_of(base="live", A="shadow 25", B="shadow 25")
    revisions = promote(before, "A", experiment=EXPERIMENT)
    assert len(revisions) == 2
    assert in_words(revisions[-1]) == {"base": "live", "A": "live", "B": "shadow 25 %", "C": "off"}


def test_the_next_promotion_demotes_what_was_left_beneath_the_former_live_version() -> None:
    before = flags_of(base="live", A="live", B="shadow 25")
    revisions = promote(before, "B")
    assert len(revisions) == 2
    assert in_words(revisions[-1]) == {"base": "off", "A": "live", "B": "live", "C": "off"}


def test_nobody_else_serves_while_an_older_version_is_promoted() -> None:
    revisions = promote(flags_of(base="live", B="live"), "A")
    assert [in_words(flags) for flags in revisions[1:]] == [
        {"base": "live", "A": "live", "B": "live", "C": "off"},
        {"base": "live", "A": "live", "B": "off", "C": "off"},
    ]


def test_promoting_an_older_version_lets_it_claim_before_the_newer_one_ceases_to() -> None:
    revisions = promote(flags_of(base="off", B="live"), "base")
    assert [in_words(flags) for flags in revisions[1:]] == [
        {"base": "live", "A": "off", "B": "live", "C": "off"},
        {"base": "live", "A": "off", "B": "off", "C": "off"},
    ]


def test_a_demoted_candidate_goes_on_being_shadowed_while_its_experiment_runs() -> None:
    revisions = promote(flags_of(base="live", B="live"), "base", experiment=EXPERIMENT)
    assert in_words(revisions[-1])["B"] == "shadow 25 %"


@pytest.mark.parametrize(("present", "claim"), [(5.0, "shadow 5 %"), (0.0, "off")])
def test_a_demoted_candidate_gets_the_share_that_its_experiment_has_come_to(present: float, claim: str) -> None:
    climbing = replace(EXPERIMENT, progress=Progress(percent=present))
    revisions = promote(flags_of(base="live", B="live"), "base", experiment=climbing)
    assert in_words(revisions[-1])["B"] == claim


def test_promoting_the_live_version_in_full_ends_a_newer_rollout() -> None:
    revisions = promote(flags_of(base="live", A="live 5"), "base")
    assert in_words(revisions[-1]) == {"base": "live", "A": "off", "B": "off", "C": "off"}


def test_promoting_what_is_live_already_writes_nothing() -> None:
    assert len(promote(flags_of(base="live", A="live"), "A")) == 1
    assert len(promote(flags_of(base="live", A="live 25"), "A", percent=25)) == 1


def test_promotion_and_rollback_change_claims_and_not_what_flags_tell_people() -> None:
    told = {"owner": "search", "flagSetId": "web"}
    before = {key: {**definition, "metadata": told} for key, definition in flags_of(base="live", B="live").items()}
    promoted = promote(before, "A")[-1]
    assert in_words(promoted) == {"base": "live", "A": "live", "B": "off", "C": "off"}
    assert len(promote(promoted, "A")) == 1
    meanwhile = {key: {**definition, "metadata": {"owner": "mail"}} for key, definition in promoted.items()}
    back = roll_back(meanwhile, before=before)[-1]
    assert in_words(back)["B"] == "live"
    assert [definition["metadata"] for definition in promoted.values()] == [told] * 4
    assert [definition["metadata"] for definition in back.values()] == [{"owner": "mail"}] * 4


def test_a_stage_writes_the_promoted_version_alone() -> None:
    revisions = promote(flags_of(base="live", A="live 5", B="shadow 25"), "A", percent=25)
    assert len(revisions) == 2
    assert in_words(revisions[-1]) == {"base": "live", "A": "live 25 % (else shadow)", "B": "shadow 25 %", "C": "off"}


@pytest.mark.parametrize(
    ("flags", "name", "said"),
    [
        (flags_of(base="live", B="live"), "A", "newer B of spam claims `live`"),
        (flags_of(base="live", B="live 5"), "A", "newer B of spam claims `live`"),
        (flags_of(base="live"), "base", "no older version of spam claims `live` for the other 95 %"),
    ],
)
def test_a_stage_without_a_live_version_for_the_rest_is_refused(flags: Flags, name: str, said: str) -> None:
    with pytest.raises(FailedPrecondition, match=said):
        promote(flags, name, percent=5)


def test_rolling_back_a_newer_version_is_one_write() -> None:
    before = flags_of(base="live", A="shadow 25")
    revisions = roll_back(flags_of(base="live", A="live"), before=before)
    assert revisions[1:] == [before]


def test_rolling_back_gives_shadows_nothing_back_that_changed_since() -> None:
    before = flags_of(base="live", A="shadow 25", B="shadow 25")
    revisions = roll_back(flags_of(base="live", A="live", B="shadow 50"), before=before)
    assert in_words(revisions[-1]) == {"base": "live", "A": "shadow 25 %", "B": "shadow 50 %", "C": "off"}


def test_rolling_back_to_a_demoted_version_raises_it_first() -> None:
    before = flags_of(base="live", A="shadow 25")
    revisions = roll_back(flags_of(base="off", A="live"), before=before)
    assert [in_words(flags)["base"] for flags in revisions] == ["off", "live", "live"]
    assert [in_words(flags)["A"] for flags in revisions] == ["live", "live", "shadow 25 %"]


def test_rolling_back_the_promotion_of_an_older_version_leaves_it_beneath() -> None:
    before = flags_of(base="off", B="live")
    revisions = roll_back(flags_of(base="live"), before=before)
    assert len(revisions) == 2
    assert in_words(revisions[-1]) == {"base": "live", "A": "off", "B": "live", "C": "off"}


def test_rolling_back_gives_newer_versions_their_share_before_it_takes_the_promoted_one_away() -> None:
    # With all in one revision, a request of B's share could miss B's claim and A's, and find the base.
    before = flags_of(base="live", B="live 5", C="live 5")
    revisions = roll_back(flags_of(base="live", A="live"), before=before)
    shares = [[in_words(flags)[name] for name in ("A", "B", "C")] for flags in revisions]
    partly = "live 5 % (else shadow)"
    assert shares == [
        ["live", "off", "off"],
        ["live", "off", partly],
        ["live", partly, partly],
        ["off", partly, partly],
    ]


claims = st.sampled_from(["off", "shadow", "shadow 25", "live", "live 5"])


@st.composite
def standing_flags(draw: st.DrawFn) -> dict[str, Mapping[str, Any]]:
    """Flags as control keeps them: some version stands."""
    said = {name: draw(claims) for name in NAMES}
    said[draw(st.sampled_from(NAMES))] = "live"
    return flags_of(**said)


@given(flags=standing_flags(), name=st.sampled_from(NAMES), experiment=st.sampled_from([None, EXPERIMENT]))
def test_no_reader_finds_a_promotion_without_a_live_version(
    flags: Flags, name: str, experiment: Experiment | None
) -> None:
    revisions = promote(flags, name, experiment=experiment)
    assert live(revisions[-1]) == name
    assert all(readings(revisions))
    assert served_across_one_change(revisions) <= {live(flags), name}


@given(flags=standing_flags(), name=st.sampled_from(NAMES), percent=st.sampled_from([1.0, 5.0, 25.0, 50.0]))
def test_no_reader_finds_a_stage_without_a_live_version(flags: Flags, name: str, percent: float) -> None:
    try:
        revisions = promote(flags, name, percent=percent)
    except FailedPrecondition:
        return
    assert serving.may_serve(version(name), revisions[-1])
    assert all(readings(revisions))


@given(flags=standing_flags(), name=st.sampled_from(NAMES))
def test_a_promotion_and_its_rollback_end_where_they_began(flags: Flags, name: str) -> None:
    promoted = promote(flags, name)[-1]
    revisions = roll_back(promoted, before=flags)
    assert all(readings(revisions))
    assert served_across_one_change(revisions) <= {live(flags), name}
    assert live(revisions[-1]) == live(flags)
    changed = [each for each in NAMES if in_words(revisions[-1])[each] != in_words(flags)[each]]
    # Whoever was promoted over a newer version keeps its claim beneath it.
    assert changed in ([], [name])


@given(before=standing_flags(), now=standing_flags())
def test_a_rollback_always_makes_the_previous_version_live_again(before: Flags, now: Flags) -> None:
    revisions = roll_back(now, before=before)
    assert live(revisions[-1]) == live(before)
    assert all(readings(revisions))
