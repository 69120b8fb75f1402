"""What a promotion would write is what it writes."""

from __future__ import annotations

import pytest

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.errors import FailedPrecondition, NotFound
from multishadow_server.service import promotion_preview
from multishadow_server.service.promotion_preview import FlagWrite, PromotionPreview

VERSIONS = tuple(
    Version(model="spam", name=name, address=f"127.0.0.1:9{place}", ordinal=place)
    for place, name in enumerate(("base", "A", "B"))
)
RUNNING = Experiment(
    id=1,
    model="spam",
    candidates=("A", "B"),
    percent=25,
    bucket_seconds=3600,
    started_at=0,
    ends_at=10,
    started_by="ada",
)


def foreseen(version: str, *, experiment: Experiment | None = None, **claims: tuple[Claim, float]) -> PromotionPreview:
    flags = {each.flag_key: claim_definition("spam", *claims.get(each.name, (Claim.OFF, 100.0))) for each in VERSIONS}
    configuration = Configuration(revision=1, models={"spam": Model(name="spam", versions=VERSIONS)}, flags=flags)
    return promotion_preview.foreseen(configuration, model="spam", version=version, experiment=experiment)


def test_a_newer_version_takes_one_flag_in_one_revision() -> None:
    found = foreseen("A", base=(Claim.LIVE, 100.0), A=(Claim.SHADOW, 25.0))
    assert (found.version, found.live, found.address) == ("A", "base", "127.0.0.1:91")
    assert found.revisions == ((FlagWrite(key="spam.A", before="shadow 25 %", after="live"),),)


def test_an_older_one_takes_two_and_who_loses_goes_on_shadowing_in_its_experiment() -> None:
    found = foreseen("A", experiment=RUNNING, base=(Claim.LIVE, 100.0), A=(Claim.SHADOW, 25.0), B=(Claim.LIVE, 100.0))
    assert found.live == "B"
    assert found.revisions == (
        (FlagWrite(key="spam.A", before="shadow 25 %", after="live"),),
        (FlagWrite(key="spam.B", before="live", after="shadow 25 %"),),
    )


def test_who_is_live_already_writes_nothing() -> None:
    assert foreseen("A", base=(Claim.LIVE, 100.0), A=(Claim.LIVE, 100.0)).revisions == ()


def test_who_is_not_there_cannot_be_promoted() -> None:
    with pytest.raises(NotFound):
        foreseen("Z")
    nobody = Configuration(revision=1, models={"spam": Model(name="spam")}, flags={})
    with pytest.raises((FailedPrecondition, NotFound)):
        promotion_preview.foreseen(nobody, model="spam", version="A", experiment=None)
