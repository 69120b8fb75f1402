"""What may be registered, and what applying a model changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from multishadow_server.core import model_limits, registration
from multishadow_server.core.model import Comparator, Model, flag_key
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.core.registration import Registration
from multishadow_server.core.version_limits import NO_LIMITS, CircuitTerms, Pause, VersionLimits
from multishadow_server.core.writes import Writes
from multishadow_server.errors import InvalidInput

NAN = float("nan")
NOON = 1_795_435_200.0


def spec(*versions: VersionSpec, name: str = "spam", comparator: Comparator | None = None) -> ModelSpec:
    return ModelSpec(name=name, comparator=comparator, versions=versions)


def at(name: str, address: str = "127.0.0.1:50061", **rest: object) -> VersionSpec:
    return replace(VersionSpec(name=name, address=address), **rest)  # type: ignore[arg-type]  # tests name real fields


def register(present: Model | None, spec: ModelSpec) -> Registration:
    return registration.register(present, spec, now=NOON)


def registered(*names: str) -> Model:
    return register(None, spec(*(at(name) for name in names))).model


def test_versions_are_ordered_by_registration_and_the_first_is_the_base() -> None:
    model = register(registered("base", "A"), spec(at("C"), at("A"), at("B"))).model
    assert [(version.name, version.ordinal) for version in model.versions] == [
        ("base", 0),
        ("A", 1),
        ("C", 2),
        ("B", 3),
    ]


def test_applying_the_same_again_changes_nothing() -> None:
    wanted = spec(at("base", timeout=0.5), at("A", max_in_flight=8), comparator=Comparator(threshold=0.9))
    model = register(None, wanted).model
    again = register(model, wanted)
    assert again.model == model
    assert again.changes == ()
    assert not again.settings_changed
    assert not again.versions_changed
    assert not again.added
    assert not again.replaced


def test_what_is_not_named_stays_as_it_is() -> None:
    model = register(None, spec(at("base", timeout=0.5, max_in_flight=3), comparator=Comparator(threshold=0.9))).model
    again = register(model, spec(at("base"))).model
    assert again == model


def test_every_difference_is_told_in_a_line() -> None:
    outcome = register(
        registered("base", "A"),
        ModelSpec(
            name="spam",
            comparator=Comparator(threshold=0.9, ignored_fields=("at",)),
            default_timeout=1,
            versions=(at("A", "127.0.0.1:9", timeout=0.1, max_in_flight=1), at("B")),
        ),
    )
    assert outcome.changes == (
        "threshold: 0.85 → 0.9",
        "ignored fields: none → at",
        "default timeout: 10000 ms → 1000 ms",
        "address of A: 127.0.0.1:50061 → 127.0.0.1:9",
        "timeout of A: 2000 ms → 100 ms",
        "max in flight of A: 16 → 1",
        "version B registered at 127.0.0.1:50061 (off)",
    )
    assert [version.name for version in outcome.added] == ["B"]


def test_another_address_or_time_limit_is_another_implementation() -> None:
    model = registered("base", "A", "B", "C")
    outcome = register(model, spec(at("A", "127.0.0.1:9"), at("B", timeout=9), at("C", max_in_flight=9)))
    assert outcome.replaced == {"A", "B"}


@pytest.mark.parametrize("name", ["", "spam.v2", "späm", "a b", "-x", "x" * 64, "a/b", "spam\n"])
def test_a_model_name_that_makes_flag_keys_ambiguous_or_unreadable_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is no name for a model"):
        model_limits.check(spec(name=name))


@pytest.mark.parametrize("name", ["", "ä", "a b", ".a", "x" * 64, "a|b", "A\n"])
def test_a_version_name_with_other_characters_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"versions\[0\].name"):
        model_limits.check(spec(at(name)))


def test_a_flag_key_says_where_the_version_begins() -> None:
    model_limits.check(spec(at("v1.2.3"), name="spam-filter_2"))
    assert flag_key("spam-filter_2", "v1.2.3").split(".", 1) == ["spam-filter_2", "v1.2.3"]


def test_a_version_named_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"versions\[1\].name: 'A' is named twice"):
        model_limits.check(spec(at("A"), at("A")))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50061",
        "spam-a.models.svc:443",
        "[::1]:50061",
        "unix:/run/a.sock",
        "localhost:1",
        "h:65535",
        "tls://spam.internal:443",
        "tls://[::1]:443",
        "tls://10.0.0.7:9000?server_name=spam.models.internal",
    ],
)
def test_addresses_that_grpc_can_connect_to_are_taken(address: str) -> None:
    model_limits.check(spec(at("A", address)))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        ":50061",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "http://h:1",
        "h:1 ",
        "unix:a",
        "::1:5",
        "h:1x",
        "tls://h",
        "tls://unix:/run/a.sock",
        "tls://h:1?",
        "tls://h:1?server_name=",
        "tls://h:1?server_name=a b",
        "tls://h:1?ca=/etc/ca.pem",
        "TLS://h:1",
        "h:1?server_name=a",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"versions\[0\] \(A\).address.*use `host:port`"):
        model_limits.check(spec(at("A", address)))


@pytest.mark.parametrize(
    ("comparator", "field"),
    [
        (Comparator(threshold=0), "threshold"),
        (Comparator(threshold=1.01), "threshold"),
        (Comparator(threshold=NAN), "threshold"),
        (Comparator(absolute_tolerance=-1), "absolute_tolerance"),
        (Comparator(absolute_tolerance=float("inf")), "absolute_tolerance"),
        (Comparator(relative_tolerance=NAN), "relative_tolerance"),
        (Comparator(ignored_fields=("",)), "ignored_fields"),
        (Comparator(ignored_fields=("a",) * 101), "ignored_fields"),
    ],
)
def test_a_comparator_out_of_range_is_refused(comparator: Comparator, field: str) -> None:
    with pytest.raises(InvalidInput, match=f"comparator.{field}"):
        model_limits.check(spec(comparator=comparator))


@pytest.mark.parametrize(
    ("version", "field"),
    [
        (at("A", timeout=0.0), "timeout_ms"),
        (at("A", timeout=NAN), "timeout_ms"),
        (at("A", timeout=601.0), "timeout_ms"),
        (at("A", max_in_flight=0), "max_in_flight"),
        (at("A", max_in_flight=10_001), "max_in_flight"),
    ],
)
def test_a_version_out_of_range_is_refused(version: VersionSpec, field: str) -> None:
    with pytest.raises(InvalidInput, match=rf"versions\[0\] \(A\).{field}"):
        model_limits.check(spec(version))


def test_a_model_has_a_bounded_number_of_versions() -> None:
    many = registered(*(f"v{number}" for number in range(100)))
    with pytest.raises(InvalidInput, match="101 versions"):
        register(many, spec(at("one-more")))


def test_what_is_new_carries_the_time_and_the_rest_keeps_its_own() -> None:
    model = registration.register(registered("base"), spec(at("base"), at("A")), now=NOON + 60).model
    assert model.created_at == NOON
    assert [version.created_at for version in model.versions] == [NOON, NOON + 60]


# --- limits and writes --------------------------------------------------------------------------------------------

LIMITS = VersionLimits(
    requests_per_second=50, bytes_per_second=5e6, capacity=200.5, max_request_bytes=500_000, circuit=CircuitTerms()
)


def test_limits_and_writes_are_told_setting_by_setting() -> None:
    present = registered("base", "A")
    outcome = register(
        present,
        ModelSpec(
            name="spam",
            max_request_bytes=1_000_000,
            writes=Writes(methods=("B", "A")),
            versions=(at("A", limits=LIMITS),),
        ),
    )
    assert outcome.changes == (
        "max request bytes: unlimited → 1,000,000",
        "requests that write: none → A, B",
        "requests per second of A: unlimited → 50",
        "bytes per second of A: unlimited → 5,000,000",
        "capacity of A: unlimited → 200.5",
        "max request bytes of A: unlimited → 500,000",
        "circuit breaker of A: none → 20 failures in a row, or 50 %",
    )
    assert not outcome.replaced, "limits change no answer"
    again = register(outcome.model, ModelSpec(name="spam", max_request_bytes=0, writes=Writes(all=True)))
    assert again.changes == ("max request bytes: 1,000,000 → unlimited", "requests that write: A, B → all requests")
    assert again.model.max_request_bytes is None


def test_limits_that_are_not_named_stay_and_those_that_are_replace_all() -> None:
    limited = register(None, spec(at("base"), at("A", limits=LIMITS))).model
    assert register(limited, spec(at("A"))).changes == ()
    fewer = register(limited, spec(at("A", limits=VersionLimits(capacity=200.5)))).model
    assert fewer.versions[1].limits == VersionLimits(capacity=200.5)
    assert register(limited, spec(at("A", limits=NO_LIMITS))).model.versions[1].limits == NO_LIMITS


def test_applying_a_model_leaves_a_pause_as_it_is() -> None:
    model = registered("base", "A")
    pause = Pause(since=NOON, until=None, by="ann")
    paused = replace(model, versions=(model.versions[0], replace(model.versions[1], pause=pause)))
    assert register(paused, spec(at("A", timeout=1))).model.versions[1].pause == pause


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (VersionLimits(requests_per_second=0), "limits.requests_per_second: 0 is out of range"),
        (VersionLimits(requests_per_second=NAN), "limits.requests_per_second: nan is out of range"),
        (VersionLimits(bytes_per_second=-1), "limits.bytes_per_second: -1 is out of range"),
        (VersionLimits(capacity=float("inf")), "limits.capacity: inf is out of range"),
        (VersionLimits(capacity=1, utilisation=0), "limits.utilisation: 0 is out of range; allowed is (0, 1]"),
        (VersionLimits(capacity=1, utilisation=70), "limits.utilisation: 70 is out of range"),
        (VersionLimits(utilisation=0.5), "limits.utilisation: it is a share of `capacity`, which is missing"),
        (VersionLimits(max_request_bytes=0), "limits.max_request_bytes: 0 is out of range"),
        (VersionLimits(circuit=CircuitTerms(failures=0)), "limits.circuit_breaker.failures: 0 is out of range"),
        (VersionLimits(circuit=CircuitTerms(share=NAN)), "limits.circuit_breaker.share: nan is out of range"),
    ],
)
def test_limits_that_nothing_could_keep_to_are_refused(limits: VersionLimits, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        model_limits.check(spec(at("A", limits=limits)))
    assert f"versions[0] (A).{said}" in str(caught.value)


def test_a_models_cap_and_writing_methods_are_checked() -> None:
    with pytest.raises(InvalidInput, match="max_request_bytes: -1 is out of range"):
        model_limits.check(ModelSpec(name="spam", max_request_bytes=-1))
    with pytest.raises(InvalidInput, match="writing_methods: 'a b' is no method"):
        model_limits.check(ModelSpec(name="spam", writes=Writes(methods=("a b",))))
