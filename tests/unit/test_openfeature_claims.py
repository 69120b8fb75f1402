"""Claims through OpenFeature: the shorter way is taken only when nobody could see the difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.flag_evaluation import Reason
from openfeature.hook import Hook, HookContext
from openfeature.transaction_context import ContextVarsTransactionContextPropagator

from multishadow_server.adapters.openfeature_flags import ConfigurationProvider, OpenFeatureClaims
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting import Context, context_of
from waiting import until_sync

BETA = {"if": [{"==": [{"var": "group"}, "beta"]}, "live", "shadow"]}
NEW_ENOUGH = {"if": [{"sem_ver": [{"var": "app"}, ">=", "2.0.0"]}, "live", "off"]}
KEYS = ("spam.base", "spam.A", "spam.B", "spam.C")


def ruled(targeting: dict[str, Any]) -> dict[str, Any]:
    return {**claim_definition("spam", Claim.OFF), "targeting": targeting}


def flags(**claims: dict[str, Any]) -> Configuration:
    return Configuration(revision=5, flags={f"spam.{name}": definition for name, definition in claims.items()})


FOUR = flags(base=claim_definition("spam", Claim.LIVE), A=ruled(BETA), B=ruled(NEW_ENOUGH))


class Recorder(Hook):
    """Writes down what it saw evaluated."""

    def __init__(self, context: EvaluationContext | None = None) -> None:
        self.seen: list[str] = []
        self._context = context

    def before(self, hook_context: HookContext, hints: Any) -> EvaluationContext | None:
        self.seen.append(hook_context.flag_key)
        return self._context


@pytest.fixture
def claims() -> Iterator[OpenFeatureClaims]:
    claims = OpenFeatureClaims(ConfigurationProvider(), look_seconds=0.0)
    claims.load(FOUR)
    yield claims
    claims.close()
    api.shutdown()


def test_flags_that_are_no_versions_are_carried_along_and_claim_nothing(claims: OpenFeatureClaims) -> None:
    others = {
        "checkout": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"},
        "theme": {"state": "DISABLED", "variants": {"dark": {"bg": [1, {}]}}, "metadata": {"flagSetId": "web"}},
        "sizes": {
            "state": "ENABLED",
            "variants": {"s": 1, "l": 2.5},
            "targeting": {"fractional": [["s", {"-": [{"var": "$flagd.timestamp"}, 1]}], ["l", 1]]},
        },
    }
    claims.load(Configuration(revision=6, flags={**FOUR.flags, **others}))
    context = request(group="beta", app="1.0.0")
    expected = (Claim.LIVE, Claim.LIVE, Claim.OFF, Claim.OFF)
    assert claims.read(KEYS, lambda: context) == expected
    assert claims.read(tuple(others), lambda: context) == (Claim.OFF,) * len(others)
    subject = EvaluationContext("user-1", {})
    assert claims.client.get_boolean_value("checkout", default_value=False) is True
    assert claims.client.get_object_value("theme", {"code": "default"}) == {"code": "default"}
    assert claims.client.get_integer_value("sizes", 0, subject) == 1


def request(**attributes: Any) -> Context:
    return context_of(model="spam", request_id="r", session_id="s", attributes=attributes)


def read(claims: OpenFeatureClaims, **attributes: Any) -> str:
    return " ".join(claims.read(KEYS, lambda: request(**attributes)))


def test_rules_static_flags_interpreted_ones_and_missing_ones_are_read_together(claims: OpenFeatureClaims) -> None:
    assert read(claims) == "live shadow off off"
    assert read(claims, group="beta") == "live live off off"
    assert read(claims, group="beta", app="2.1.0") == "live live live off"


def test_static_flags_need_no_context(claims: OpenFeatureClaims) -> None:
    def never() -> Context:
        raise AssertionError("nothing depends on the request")

    assert list(claims.read(("spam.base", "spam.C"), never)) == ["live", "off"]


def test_a_hook_sees_every_evaluation(claims: OpenFeatureClaims) -> None:
    for add in (api.add_hooks, claims.client.add_hooks):
        recorder = Recorder()
        add([recorder])
        assert read(claims, group="beta", app="2.1.0") == "live live live off"
        assert recorder.seen == list(KEYS)


def test_what_is_added_while_requests_come_is_seen_at_the_next_look() -> None:
    now, recorder = 100.0, Recorder()
    claims = OpenFeatureClaims(ConfigurationProvider(), look_seconds=0.5, monotonic=lambda: now)
    claims.load(flags(base=claim_definition("spam", Claim.LIVE), A=ruled(BETA)))
    assert read(claims) == "live shadow off off"
    claims.client.add_hooks([recorder])
    now += 0.4
    assert read(claims) == "live shadow off off"
    assert recorder.seen == []
    now += 0.2
    assert read(claims) == "live shadow off off"
    assert recorder.seen == list(KEYS)
    claims.close()


def test_context_from_anywhere_is_heeded(claims: OpenFeatureClaims) -> None:
    beta = EvaluationContext(attributes={"group": "beta"})
    assert read(claims) == "live shadow off off"
    claims.client.context = beta
    assert read(claims) == "live live off off"
    claims.client.context = EvaluationContext()
    api.set_evaluation_context(beta)
    assert read(claims) == "live live off off"
    api.set_evaluation_context(EvaluationContext())
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    api.set_transaction_context(beta)
    assert read(claims) == "live live off off"
    api.set_transaction_context(EvaluationContext())
    claims.client.add_hooks([Recorder(beta)])
    assert read(claims) == "live live off off"


def test_another_provider_in_its_place_is_heeded(claims: OpenFeatureClaims) -> None:
    other = ConfigurationProvider()
    api.set_provider_and_wait(other, domain=claims.client.domain)
    other.load(flags(base=claim_definition("spam", Claim.SHADOW)))
    assert read(claims) == "shadow off off off"


def test_a_provider_that_openfeature_has_ended_is_read_as_openfeature_reads_it(claims: OpenFeatureClaims) -> None:
    assert read(claims) == "live shadow off off"
    api.shutdown()
    assert read(claims) == "off off off off"


def test_a_new_revision_is_read_at_once_and_announced(claims: OpenFeatureClaims) -> None:
    announced: list[EventDetails] = []
    claims.client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, announced.append)
    claims.load(flags(base=claim_definition("spam", Claim.LIVE), A=claim_definition("spam", Claim.LIVE)))
    assert read(claims) == "live live off off"
    until_sync(lambda: announced)
    assert announced[0].flags_changed == ["spam.A", "spam.B"]


def test_a_malformed_flag_costs_no_other_flag(claims: OpenFeatureClaims) -> None:
    claims.load(flags(base=claim_definition("spam", Claim.LIVE), A={"state": "SOMETIMES"}, B=ruled(NEW_ENOUGH)))
    assert read(claims, app="2.0.0") == "live off live off"


def test_the_provider_tells_variant_reason_and_revision(claims: OpenFeatureClaims) -> None:
    details = claims.client.get_string_details("spam.A", "off", EvaluationContext("s", {"group": "beta"}))
    assert (details.value, details.variant, details.reason) == ("live", "live", Reason.TARGETING_MATCH)
    assert details.flag_metadata == {"flagSetId": "multishadow", "version": "5"}
    assert claims.client.get_boolean_value("spam.A", default_value=False) is False
    assert claims.client.get_integer_value("spam.A", 3) == 3
    assert claims.client.get_float_value("spam.A", 3.5) == 3.5
    assert claims.client.get_object_value("spam.A", {"a": 1}) == {"a": 1}
