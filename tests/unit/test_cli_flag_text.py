"""Flags as text: what is written is read back as the same, by whoever reads YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from multishadow.v1.flags_pb2 import FlagChange
from multishadow_client.cli import flag_diff, flag_text
from multishadow_client.cli.exit_code import Mistake

WORDS = st.sampled_from(
    ["on", "off", "yes", "no", "~", "null", "1e5", "010", "0x1F", "1_000", "2026-11-26", "12:30", "="]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    WORDS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS | st.text("abc.$-", max_size=4), inner)),
    max_leaves=12,
)


def said(value: Any) -> str:
    """JSON: Python calls 1, 1.0 and True equal."""
    return json.dumps(value, sort_keys=True)


@given(value=VALUES)
def test_what_is_written_is_read_back_as_the_same(value: Any) -> None:
    for text in (flag_text.as_yaml(value), json.dumps(value)):
        assert said(flag_text.parse(text, "file")) == said(value)


@given(value=st.dictionaries(WORDS, SCALARS))
def test_readers_of_yaml_1_1_read_the_same(value: Any) -> None:
    assert yaml.safe_load(flag_text.as_yaml(value)) == value


def test_plain_words_are_text_and_keys_never_are_anything_else() -> None:
    text = "variants: {on: true, off: false, 1: yes}\ndefaultVariant: off\nsince: 2026-11-26\nweight: 1e-9\n"
    assert flag_text.parse(text, "file") == {
        "variants": {"on": True, "off": False, "1": "yes"},
        "defaultVariant": "off",
        "since": "2026-11-26",
        "weight": 1e-9,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", "flag.yaml:1:6: expected ',' or ']'"),
        ("a: 1\na: 2", "flag.yaml:2:1: 'a' stands here twice"),
        ('{"a": 1, "a": 2}', "flag.yaml:1:10: 'a' stands here twice"),
        ("[a]: 1", "flag.yaml:1:1: a key must be a plain word"),
        ("a: !!python/name:os.system x", "flag.yaml:1:4: could not determine a constructor"),
        ("a: &x {b: *x}", "flag.yaml"),
        ("\x00", "flag.yaml: neither JSON nor YAML"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(Mistake) as refused:
        flag_text.as_json(flag_text.parse(text, "flag.yaml"), "flag.yaml")
    assert complaint in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=f"cannot read {tmp_path}/none"):
        flag_text.read(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(Mistake, match="not UTF-8 text at byte 0"):
        flag_text.read(tmp_path / "binary")


def test_a_diff_shows_the_lines_that_differ_in_colour() -> None:
    before, after = '{"state": "ENABLED", "defaultVariant": "off"}', '{"state": "ENABLED", "defaultVariant": "on"}'
    shown = flag_diff.diff(before, after, was="then", becomes="now")
    assert shown.plain.splitlines() == [
        "--- then",
        "+++ now",
        "@@ -1,2 +1,2 @@",
        " state: ENABLED",
        "-defaultVariant: 'off'",
        "+defaultVariant: 'on'",
    ]
    styles = {shown.plain[span.start : span.end]: span.style for span in shown.spans}
    assert (styles["-defaultVariant: 'off'"], styles["+defaultVariant: 'on'"]) == ("red", "green")
    assert flag_diff.diff(before, before, was="then", becomes="now").plain == ""
    deleted = flag_diff.of_changes([FlagChange(key="a", before=before, after="")])
    assert deleted.plain.splitlines()[-1] == "-defaultVariant: 'off'"
