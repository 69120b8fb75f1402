"""Registering models and setting single flags, through the control API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from running_control import Control, asked, control_address, refused
from store_fixtures import rows


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        yield client


async def test_a_new_model_has_its_base_live_and_the_rest_off(control: Control) -> None:
    applied = await control.apply("base", "A", "B")
    assert applied.revision == 1
    assert applied.changes[0] == "model spam created"
    assert applied.model.live_version == "base"
    assert [(version.name, version.ordinal, version.claim) for version in applied.versions] == [
        ("base", 0, "live"),
        ("A", 1, "off"),
        ("B", 2, "off"),
    ]
    listed = await control.stub.ListModels(pb.ListModelsRequest())
    assert list(listed.models) == [applied.model]
    versions = await control.stub.ListVersions(pb.ListVersionsRequest(model="spam"))
    assert list(versions.versions) == list(applied.versions)


async def test_applying_the_same_again_makes_no_revision(control: Control, database_url: str) -> None:
    first = await control.apply("base", "A", comparator=pb.Comparator(threshold=0.9, ignored_fields=["at"]))
    again = await control.apply("base", "A", comparator=pb.Comparator(threshold=0.9, ignored_fields=["at"]))
    assert (again.revision, list(again.changes)) == (1, [])
    assert (again.model, list(again.versions)) == (first.model, list(first.versions))
    assert len(rows(database_url, "SELECT * FROM audit_log")) == 1


async def test_an_update_says_what_changed_and_leaves_flags_alone(control: Control) -> None:
    await control.apply("base", "A")
    await control.set_flag("A", pb.CLAIM_SHADOW, percent=25)
    applied = await control.apply("A", address="127.0.0.1:7", default_timeout_ms=500)
    assert list(applied.changes) == ["default timeout: 10000 ms → 500 ms", "address of A: 127.0.0.1:9 → 127.0.0.1:7"]
    assert await control.flags() == {"base": "live", "A": "shadow 25 %"}


async def test_what_cannot_be_registered_is_refused_by_its_field(control: Control) -> None:
    async with refused(StatusCode.INVALID_ARGUMENT, "model: 'spam.v2'", "letters, digits"):
        await control.apply("base", model="spam.v2")
    async with refused(StatusCode.INVALID_ARGUMENT, "versions[1] (A).address", "`host:port`"):
        await control.stub.ApplyModel(
            pb.ApplyModelRequest(
                model="spam",
                versions=[pb.VersionSpec(name="base", address="h:1"), pb.VersionSpec(name="A", address="h")],
            )
        )
    async with refused(StatusCode.INVALID_ARGUMENT, "comparator.threshold: nan"):
        await control.apply("base", comparator=pb.Comparator(threshold=float("nan")))
    async with refused(StatusCode.INVALID_ARGUMENT, "default_timeout_ms: 0"):
        await control.apply("base", default_timeout_ms=0)
    async with refused(StatusCode.INVALID_ARGUMENT, "actor", "NUL"):
        await control.stub.ApplyModel(pb.ApplyModelRequest(model="spam", actor="a\x00b"))
    assert (await control.stub.ListModels(pb.ListModelsRequest())).models == []


async def test_a_model_that_does_not_exist_is_answered_with_those_that_do(control: Control) -> None:
    await control.apply("base")
    for call in (
        control.stub.ListVersions(pb.ListVersionsRequest(model="ham")),
        control.stub.ListFlags(pb.ListFlagsRequest(model="ham")),
        control.stub.ListExperiments(pb.ListExperimentsRequest(model="ham")),
        control.start("base", model="ham"),
        control.promote("base", model="ham"),
        control.rollback("ham"),
        control.compare(model="ham"),
    ):
        async with refused(StatusCode.NOT_FOUND, "no model 'ham'", "there is spam"):
            await call


async def test_a_flag_is_set_with_its_author_and_reason(control: Control) -> None:
    await control.apply("base", "A")
    answer = await control.set_flag("A", pb.CLAIM_SHADOW, percent=25, reason="a look")
    assert (answer.revision, answer.flag.revision) == (2, 2)
    assert (answer.flag.key, answer.flag.claim) == ("spam.A", "shadow 25 %")
    assert (answer.flag.changed_by, answer.flag.reason) == ("ada", "a look")
    assert answer.flag.definition["targeting"]["fractional"][1] == ["shadow", 25]
    listed = await control.stub.ListFlags(pb.ListFlagsRequest())
    assert listed.revision == 2
    assert [flag for flag in listed.flags if flag.key == "spam.A"] == [answer.flag]


async def test_setting_what_a_flag_says_already_makes_no_revision(control: Control) -> None:
    await control.apply("base", "A")
    first = await control.set_flag("A", pb.CLAIM_SHADOW, percent=25)
    assert [effect.split(",")[0] for effect in first.effects] == ["no experiment of spam runs"]
    first.ClearField("effects")
    again = await control.set_flag("A", pb.CLAIM_SHADOW, percent=25)
    assert again == first
    assert (await control.set_flag("base", pb.CLAIM_LIVE)).revision == 2


async def test_a_value_that_is_no_claim_is_refused_with_the_claims(control: Control) -> None:
    await control.apply("base", "A")
    async with refused(StatusCode.INVALID_ARGUMENT, "CLAIM_OFF, CLAIM_SHADOW or CLAIM_LIVE"):
        await control.set_flag("A", pb.CLAIM_UNSPECIFIED)
    async with refused(StatusCode.INVALID_ARGUMENT, "CLAIM_OFF, CLAIM_SHADOW or CLAIM_LIVE"):
        await control.set_flag("A", 17)  # type: ignore[arg-type]  # what a newer client might send
    for percent in (0, -1, 100.5, float("nan"), float("inf"), 0.0001):
        async with refused(StatusCode.INVALID_ARGUMENT, "percent"):
            await control.set_flag("A", pb.CLAIM_SHADOW, percent=percent)


async def test_a_second_live_claim_is_refused_with_the_command_that_makes_one(control: Control) -> None:
    await control.apply("base", "A")
    async with refused(StatusCode.FAILED_PRECONDITION, "base of spam claims `live` already", "`shadowctl promote A`"):
        await control.set_flag("A", pb.CLAIM_LIVE)
    async with refused(StatusCode.FAILED_PRECONDITION, "`shadowctl promote A --percent 5`"):
        await control.set_flag("A", pb.CLAIM_LIVE, percent=5)
    assert await control.flags() == {"base": "live", "A": "off"}


async def test_the_live_version_cannot_be_turned_off(control: Control) -> None:
    await control.apply("base", "A")
    for claim in (pb.CLAIM_OFF, pb.CLAIM_SHADOW):
        async with refused(StatusCode.FAILED_PRECONDITION, "base is the live version", "rollback", "promote VERSION"):
            await control.set_flag("base", claim)
    await control.promote("A")
    async with refused(StatusCode.FAILED_PRECONDITION, "A is the live version"):
        await control.set_flag("A", pb.CLAIM_OFF)
    async with refused(StatusCode.FAILED_PRECONDITION, "no other version of spam claims `live`"):
        await control.set_flag("base", pb.CLAIM_OFF)
        await control.set_flag("A", pb.CLAIM_LIVE, percent=5)
    assert await control.flags() == {"base": "off", "A": "live"}


async def test_a_rollout_is_ended_by_its_flag_and_is_then_no_longer_there_to_roll_back(control: Control) -> None:
    await control.apply("base", "A")
    await control.promote("A", percent=5)
    await control.set_flag("A", pb.CLAIM_OFF)
    assert await control.flags() == {"base": "live", "A": "off"}
    async with refused(StatusCode.FAILED_PRECONDITION, "no promotion of spam is left"):
        await control.rollback()


async def test_a_change_upon_an_older_revision_than_was_read_is_aborted(control: Control) -> None:
    await control.apply("base", "A", "B")
    await control.set_flag("B", pb.CLAIM_SHADOW, expected_revision=1)
    async with refused(StatusCode.ABORTED, "at revision 2, not 1"):
        await control.set_flag("A", pb.CLAIM_SHADOW, expected_revision=1)
    assert (await control.flags())["A"] == "off"


async def test_a_version_that_does_not_exist_is_answered_with_those_that_do(control: Control) -> None:
    await control.apply("base", "A")
    async with refused(StatusCode.NOT_FOUND, "spam has no version 'Z'; it has base, A"):
        await control.set_flag("Z", pb.CLAIM_SHADOW)
    async with refused(StatusCode.NOT_FOUND, "spam has no version 'Z'; it has base, A"):
        await control.promote("Z")
    async with refused(StatusCode.INVALID_ARGUMENT, "version: name one"):
        await control.promote("")


async def test_a_model_may_speak_the_open_inference_protocol(control: Control) -> None:
    output = pb.OutputTerms(tensor="logits", read_as="classification", labels=["ham", "spam"])
    spec = pb.VersionSpec(name="base", address="127.0.0.1:9", served_name="spam-v2", served_version="3")
    request = pb.ApplyModelRequest(
        model="spam", protocol="oip", comparator=pb.Comparator(output=output), versions=[spec], actor="test"
    )
    applied = await control.stub.ApplyModel(request)
    assert (applied.model.protocol, applied.model.comparator.output) == ("oip", output)
    (version,) = applied.versions
    assert (version.served_name, version.served_version) == ("spam-v2", "3")
    assert not (await control.stub.ApplyModel(request)).changes
    (listed,) = (await control.stub.ListModels(pb.ListModelsRequest())).models
    assert listed == applied.model
    request.protocol = "grpc"
    async with refused(StatusCode.INVALID_ARGUMENT, "protocol: allowed are multishadow and oip, not 'grpc'"):
        await control.stub.ApplyModel(request)


async def test_another_output_begins_another_epoch(control: Control) -> None:
    await control.apply("base", "A")
    await control.stub.StartExperiment(pb.StartExperimentRequest(model="spam", candidates=["A"], actor="test"))
    before = await control.stub.Compare(pb.CompareRequest(model="spam"))
    output = pb.Comparator(output=pb.OutputTerms(tensor="logits"))
    await control.stub.ApplyModel(pb.ApplyModelRequest(model="spam", protocol="oip", comparator=output, actor="test"))
    after = await control.stub.Compare(pb.CompareRequest(model="spam"))
    assert (before.epoch, after.epoch) == (1, 2)
    assert after.epoch_reason.startswith("protocol: multishadow → oip; output: the only output → logits (")
