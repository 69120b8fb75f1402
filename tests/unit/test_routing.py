"""Newest live claim wins, base last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core.metadata import header_text, is_credential, without_credentials
from multishadow_server.core.routing import Claim, Decision, decide

CLAIMS = st.lists(st.sampled_from(list(Claim)), min_size=1, max_size=6).map(
    lambda claims: [(f"v{i}", claim) for i, claim in enumerate(claims)]
)


def decided(claims: dict[str, str], **options: object) -> Decision:
    arguments = {"last_known_live": None, "revision": 7, **options}
    decision = decide([(name, Claim.of(claim)) for name, claim in claims.items()], **arguments)  # type: ignore[arg-type]  # by name
    assert decision is not None
    return decision


def test_the_newest_live_claim_serves_and_the_losers_shadow() -> None:
    decision = decided({"base": "live", "A": "live", "B": "shadow", "C": "off"})
    assert (decision.live, decision.fallbacks, decision.shadows) == ("A", ("base",), ("B", "base"))


def test_without_a_live_claim_the_last_known_live_version_serves() -> None:
    assert decided({"base": "off", "A": "off", "B": "shadow"}, last_known_live="A").live == "A"


def test_without_a_live_claim_and_a_memory_the_base_serves() -> None:
    assert decided({"base": "off", "A": "shadow"}).live == "base"
    assert decided({"base": "off", "A": "shadow"}, last_known_live="deleted").live == "base"


def test_what_is_no_claim_counts_as_off() -> None:
    assert decided({"base": "live", "A": "LIVE", "B": "yes"}) == decided({"base": "live", "A": "off", "B": "off"})


def test_a_model_without_versions_has_no_decision() -> None:
    assert decide([], last_known_live=None, revision=1) is None


def test_lost_flags_stop_shadowing_and_nothing_else() -> None:
    decision = decided({"base": "live", "A": "live", "B": "shadow"}, shadowing=False)
    assert (decision.live, decision.fallbacks, decision.shadows) == ("A", ("base",), ())


@given(claims=CLAIMS, last=st.sampled_from([None, "v0", "v3", "gone"]))
def test_somebody_always_serves_and_nobody_shadows_itself(claims: list[tuple[str, Claim]], last: str | None) -> None:
    decision = decide(claims, last_known_live=last, revision=1)
    assert decision is not None
    assert decision.live in dict(claims)
    assert decision.live not in decision.shadows
    assert set(decision.shadows) == {name for name, claim in claims if claim is not Claim.OFF} - {decision.live}
    assert set(decision.fallbacks) <= {name for name, claim in claims if claim is Claim.LIVE} - {decision.live}


# --- what of a request may be written down ------------------------------------------------------------------------


def test_credentials_are_known_by_their_names() -> None:
    for key in (
        "authorization", "Proxy-Authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "client-secret",
        "x-amz-security-token", "x-token-bin", "apikey", "x_access_key", "x-csrftoken", "x-goog-iap-jwt-assertion",
        "x-session-id", "db-password",
    ):  # fmt: skip
        assert is_credential(key), key
    for key in ("x-request-id", "user-agent", "x-tenant", "traceparent", "x-monkey", "x-author"):
        assert not is_credential(key), key


def test_a_credential_under_another_name_is_known_by_its_value() -> None:
    metadata = (
        ("x-upstream", "Bearer abc"),
        ("x-id", "eyJhbGciOiJIUzI1NiJ9.e30.x"),
        ("x-plan", "pro"),
        ("x-bin", b"eyJ"),
    )
    assert without_credentials(metadata) == (("x-plan", "pro"), ("x-bin", b"eyJ"))


@given(text=st.text())
def test_any_text_fits_into_a_header(text: str) -> None:
    encoded = header_text(text)
    assert encoded.isascii()
    assert not encoded or encoded.isprintable()
