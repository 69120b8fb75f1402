"""A model's card: who answers callers, who stands by, and what goes on beside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from multishadow_server.core.alarms import Alarm, AlarmKey, AlarmKind
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.live_figures import LiveFigures
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.version_limits import Pause
from multishadow_server.service.model_cards import GoingOn, ModelCard, card
from multishadow_server.service.ports import PromotionLine
from multishadow_server.service.running_counts import RunningCounts

NOTHING = GoingOn(standing={}, running=(), rollouts=(), alarms=(), figures={}, now=1_000.0)
PROMOTED = PromotionLine(id=3, model="fraud", version="A", previous="base", revision=8, at=500.0, by="ann")


def fraud(*names: str, **pauses: Pause) -> Model:
    versions = tuple(
        Version(model="fraud", name=name, address="10.0.0.1:9000", ordinal=n, pause=pauses.get(name))
        for n, name in enumerate(names)
    )
    return Model(name="fraud", versions=versions)


def seen(going_on: GoingOn = NOTHING, *, model: Model | None = None, **claims: tuple[Claim, float]) -> ModelCard:
    flags = {f"fraud.{name}": claim_definition("fraud", claim, percent) for name, (claim, percent) in claims.items()}
    return card(model or fraud("base", "A", "B", "C"), flags, going_on)


def figures(n: int, *, seconds: float = 10.0) -> LiveFigures:
    return LiveFigures(counts=LiveCounts(requests=n), seconds=seconds)


LIVE, ALL = (Claim.LIVE, 100.0), 100.0


def names(lines: Any) -> list[str]:
    return [line.version.name for line in lines]


def test_who_gets_a_share_beside_the_live_version_answers_and_never_stands_among_the_shadows() -> None:
    found = seen(base=LIVE, A=(Claim.LIVE, 5.0), B=(Claim.SHADOW, 25.0), C=(Claim.OFF, ALL))
    assert (names(found.answering), names(found.beside)) == (["base", "A"], ["B", "C"])
    assert [line.claim for line in found.others] == ["live 5 % (else shadow)", "shadow 25 %", "off"]


def test_who_is_older_than_the_live_version_stands_by_and_answers_only_when_it_did() -> None:
    quiet = seen(base=LIVE, A=LIVE)
    assert (names(quiet.answering), names(quiet.beside)) == (["A"], ["base", "B", "C"])
    assert [line.serves for line in quiet.beside] == [True, False, False]
    fell_back = seen(replace(NOTHING, figures={("fraud", "base"): figures(3)}), base=LIVE, A=LIVE)
    assert names(fell_back.answering) == ["A", "base"]


def test_a_promotion_explains_the_live_version_only_while_it_is_that_ones() -> None:
    promoted = replace(NOTHING, standing={"fraud": PROMOTED, "other": PROMOTED})
    assert seen(promoted, base=LIVE, A=LIVE).since == PROMOTED
    rolling_out = seen(promoted, base=LIVE, A=(Claim.LIVE, 5.0))
    assert (rolling_out.since, rolling_out.last) == (None, PROMOTED)


def test_a_pause_that_ended_by_itself_is_over() -> None:
    over, goes_on = Pause(since=0.0, until=999.0, by="cy"), Pause(since=0.0, until=None, by="cy")
    found = seen(model=fraud("base", "A", "B", A=over, B=goes_on))
    assert [line.paused for line in found.lines] == [False, False, True]


def test_what_goes_on_with_other_models_is_not_on_the_card() -> None:
    experiment = Experiment(
        id=1, model="fraud", candidates=("A",), percent=25, bucket_seconds=60, started_at=0, ends_at=9, started_by="ann"
    )
    alarms = [
        Alarm(id=n, key=AlarmKey(AlarmKind.SHADOW_SILENT, model, "A"), detail="", raised_at=0, seen_at=0)
        for n, model in enumerate(("fraud", "other", ""))
    ]
    own, others = (RunningCounts(experiment=replace(experiment, model=model)) for model in ("fraud", "other"))
    going_on = replace(NOTHING, running=[others, own], alarms=alarms)
    found = seen(replace(going_on, figures={("other", "A"): figures(9)}))
    assert (found.running, found.alarms, found.measured) == (own, (alarms[0],), 0.0)
    assert [line.compared for line in found.lines] == [False, True, False, False]


def test_a_model_without_versions_has_a_card() -> None:
    found = seen(model=Model(name="fraud"))
    assert (found.view.live, found.answering, found.beside) == ("", (), ())
