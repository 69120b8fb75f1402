"""`shadowctl flags` against the real control on a real PostgreSQL, with editors that are programs."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_shadowctl import SHADOWCTL, Result, environment, run

from running_control import Control, asked, control_address
from waiting import PATIENCE

SWITCH = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
EDITOR = """
import json, pathlib, subprocess, sys
folder, file = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
number = len(list(folder.glob("seen-*")))
(folder / f"seen-{number}").write_text(file.read_text())
for old, new in json.loads((folder / "steps.json").read_text())[number]:
    if old == "run":
        subprocess.run(new, check=True, stdout=subprocess.DEVNULL)
    else:
        assert old in file.read_text(), old
        file.write_text(file.read_text().replace(old, new))
"""


class Editor:
    """An editor that replaces texts: at each opening, one list of (old, new)."""

    def __init__(self, folder: Path, *steps: Sequence[tuple[str, Any]]) -> None:
        self.folder = folder
        (folder / "steps.json").write_text(json.dumps(steps))
        (folder / "editor.py").write_text(EDITOR)
        self.command = f"{sys.executable} {folder / 'editor.py'} {folder}"

    @property
    def seen(self) -> list[str]:
        """What stood there, each time that it was opened."""
        return [file.read_text() for file in sorted(self.folder.glob("seen-*"))]


@pytest.fixture
async def control(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        yield client


async def shadowctl(*arguments: str) -> Result:
    return await asyncio.to_thread(run, arguments)


async def definition(key: str) -> Any:
    return (await shadowctl("flags", "get", key, "-o", "json")).document["flag"]["definition"]


async def put(tmp_path: Path, key: str, flag: Any, *more: str) -> Result:
    file = tmp_path / "flag.json"
    file.write_text(json.dumps(flag))
    return await shadowctl("flags", "set", key, "-f", str(file), *more)


@pytest.mark.usefixtures("control")
async def test_a_flag_from_its_file_to_its_deletion_and_back(tmp_path: Path) -> None:
    assert (await shadowctl("flags", "get")).out == "no flags yet: shadowctl flags edit KEY\n"
    file = tmp_path / "checkout.yaml"
    file.write_text("state: ENABLED\nvariants: {on: true, off: false}\ndefaultVariant: off\nmetadata: {owner: shop}\n")
    made = await shadowctl("flags", "set", "checkout", "-f", str(file), "--reason", "first")
    assert (made.code, made.out) == (0, "checkout: new, off\n1 flag changed, revision 1\n")

    rehearsed = await shadowctl("flags", "set", "checkout", "on", "--percent", "25", "--dry-run")
    assert "checkout: off → on 25 %" in rehearsed.out
    assert "+targeting:" in rehearsed.out
    assert "1 flag would change; this was a dry run" in rehearsed.out
    assert (await shadowctl("flags", "set", "checkout", "--variant", "on", "--percent", "25")).code == 0
    again = await shadowctl("flags", "set", "checkout", "on", "-p", "25")
    assert (again.code, again.out) == (0, "everything was so already\n")

    shown = await shadowctl("flags", "get", "checkout")
    assert shown.out.startswith("checkout: on 25 %\nrevision 2, ")
    assert "'on': true" in shown.out
    listed = await shadowctl("flags", "get", "-o", "yaml")
    (flag,) = yaml.safe_load(listed.out)["flags"]
    assert (flag["key"], flag["definition"]["metadata"], flag["revision"]) == ("checkout", {"owner": "shop"}, 2)
    assert (await shadowctl("flags", "get", "checkout", "--revision", "1", "-o", "json")).document["flag"][
        "definition"
    ] == {**SWITCH, "metadata": {"owner": "shop"}}

    compared = await shadowctl("flags", "diff", "checkout")
    assert "--- checkout (revision 1, " in compared.out
    assert "+  - - 'on'" in compared.out
    assert (await shadowctl("flags", "diff", "checkout", "2", "2")).out == "they say the same\n"
    assert "--- checkout (not there at revision 0)" in (await shadowctl("flags", "diff", "checkout", "0", "1")).out

    unasked = await shadowctl("flags", "delete", "checkout")
    assert (unasked.code, "pass --yes" in unasked.err) == (2, True)
    assert (await shadowctl("flags", "delete", "checkout", "--yes", "--reason", "done")).code == 0
    gone = await shadowctl("flags", "get", "checkout")
    assert gone.code == 1
    assert "deleted at revision 3 by ann; `shadowctl flags revert checkout --to 2` brings it back" in gone.err

    assert (await shadowctl("flags", "revert", "checkout")).out.startswith("checkout: new, on 25 %\n")
    rows = (await shadowctl("flags", "history", "checkout")).out.splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["4", "3", "2", "1"]
    history = (await shadowctl("flags", "history", "checkout", "-o", "json")).document["revisions"]
    assert [(line["revision"], line["summary"], line["changed_by"], line["reason"]) for line in history] == [
        (4, "on 25 %", "ann", "reverted to revision 2"),
        (3, "deleted", "ann", "done"),
        (2, "on 25 %", "ann", ""),
        (1, "off", "ann", "first"),
    ]
    assert [line["definition"] is None for line in history] == [False, True, False, False]


@pytest.mark.usefixtures("control")
async def test_a_document_goes_out_and_comes_in_again(tmp_path: Path) -> None:
    document = {
        "flags": {"a": {**SWITCH, "targeting": {"if": [{"$ref": "beta"}, "on", "off"]}}, "b": SWITCH},
        "$evaluators": {"beta": {"var": "beta"}},
        "metadata": {"flagSetId": "web"},
    }
    file, exported = tmp_path / "flags.json", tmp_path / "flags.yaml"
    file.write_text(json.dumps(document))
    differs = await shadowctl("flags", "diff", "-f", str(file))
    assert (differs.code, differs.out.count("+defaultVariant")) == (3, 2)
    assert (await shadowctl("flags", "import", "-f", str(file), "--reason", "moved")).code == 0
    assert (await shadowctl("flags", "diff", "-f", str(file))).code == 0

    written = await shadowctl("flags", "export", "--set", "web", "-f", str(exported))
    assert (written.code, written.err) == (0, f"2 flags of revision 1 are in {exported}\n")
    printed = await shadowctl("flags", "export", "--set", "web")
    assert yaml.safe_load(exported.read_text()) == json.loads(printed.out)
    assert (await shadowctl("flags", "export", "b", "-o", "yaml")).out.startswith("$schema: https://flagd.dev/")

    await put(tmp_path, "c", {**SWITCH, "metadata": {"flagSetId": "web"}})
    replaced = await shadowctl("flags", "import", "-f", str(exported), "--replace")
    assert replaced.out.splitlines()[0] == "c: off → deleted"
    assert (await shadowctl("flags", "revert", "--set", "web", "--to", "2")).out.splitlines()[0] == "c: new, off"


@pytest.mark.usefixtures("control")
async def test_mistakes_are_told_by_their_place(tmp_path: Path) -> None:
    bad = await put(tmp_path, "checkout", {**SWITCH, "targeting": {"if": [True, "no", "off"]}})
    assert (bad.code, bad.out) == (2, "")
    assert 'checkout: targeting.if[1]: "no" is no variant of this flag; it has on, off' in bad.err
    rehearsed = await put(tmp_path, "checkout", {**SWITCH, "state": "on"}, "--dry-run", "-o", "json")
    assert rehearsed.code == 1
    assert rehearsed.document["changes"]["problems"][0].startswith("checkout: state: must be")
    await put(tmp_path, "checkout", SWITCH)
    for arguments, code, said in (
        (["set", "checkout"], 2, "say what to serve"),
        (["set", "checkout", "on", "--variant", "on"], 2, "say what to serve"),
        (["set", "checkout", "dark"], 2, '"dark" is no variant of this flag; it has on, off'),
        (["set", "checkout", "on", "--expected-revision", "0"], 1, "checkout at revision 1 by ann"),
        (["set", "gone", "on"], 1, "no flag 'gone'"),
        (["get", "--revision", "1"], 2, "flags export --revision"),
        (["diff"], 2, "which flag?"),
        (["revert", "--set", "web"], 2, "--to"),
        (["revert"], 2, "what is to be reverted?"),
        (["import", "-f", str(tmp_path / "none")], 2, "cannot read"),
        (["export", "-f", "/nowhere/at/all"], 2, "cannot write /nowhere/at/all"),
    ):
        result = await shadowctl("flags", *arguments)
        assert (result.code, said in result.err) == (code, True), result


async def test_versions_flags_are_set_as_ever_and_say_what_it_does_to_an_experiment(control: Control) -> None:
    await control.apply("base", "A")
    await control.start("A", percent=25)
    rehearsed = await shadowctl("flag", "set", "A", "off", "--dry-run")
    assert rehearsed.out.startswith("spam.A: off (dry run: nothing was changed)\nexperiment 1: A gets no copies")
    assert await control.flags() == {"base": "live", "A": "shadow 25 %"}
    done = await shadowctl("flag", "set", "A", "off")
    assert done.out.startswith("spam.A: off, revision 3\nexperiment 1: A gets no copies of requests any more")
    refused = await shadowctl("flags", "delete", "spam.A", "--yes")
    assert (refused.code, "flags set spam.A off" in refused.err) == (1, True)
    unknown = await shadowctl("flags", "set", "spam.Z", "off")
    assert (unknown.code, "spam has no version 'Z'" in unknown.err) == (1, True)


async def test_a_name_that_is_a_flag_and_a_version_is_not_guessed(control: Control, tmp_path: Path) -> None:
    await control.apply("base", "A")
    await put(tmp_path, "A", SWITCH)
    unclear = await shadowctl("flags", "set", "A", "off")
    assert (unclear.code, "for the version say spam.A" in unclear.err) == (2, True)
    assert (await shadowctl("flags", "set", "A", "on")).code == 0
    assert (await shadowctl("flags", "set", "spam.A", "shadow")).code == 0


async def test_a_version_is_meant_by_its_bare_name_as_long_as_no_flag_is_called_so(
    control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await control.apply("base", "A")
    assert (await shadowctl("flags", "get", "A")).out.startswith("spam.A: off")
    assert (await shadowctl("flags", "history", "A", "-o", "json")).document["revisions"][0]["key"] == "spam.A"
    assert (await shadowctl("flags", "diff", "A")).out.startswith("--- spam.A (not there")
    editor = Editor(tmp_path, [("defaultVariant: 'off'", "defaultVariant: 'off'\nmetadata: {owner: ann}")])
    monkeypatch.setenv("EDITOR", editor.command)
    edited = await shadowctl("flags", "edit", "A", "--reason", "whose it is")
    assert (edited.code, editor.seen[0].splitlines()[0].split(",")[0]) == (0, "# spam.A"), edited
    assert (await definition("spam.A"))["metadata"] == {"owner": "ann"}
    assert (await shadowctl("flags", "revert", "A")).code == 0
    assert "metadata" not in await definition("spam.A")

    await control.apply("base", "A", model="ham")
    either = await shadowctl("flags", "get", "A")
    assert (either.code, "which version A? Say ham.A, spam.A" in either.err) == (2, True)
    assert (await shadowctl("flags", "get", "A", "--model", "ham")).out.startswith("ham.A: off")
    assert (await put(tmp_path, "A", SWITCH)).code == 0
    assert (await shadowctl("flags", "get", "A")).out.startswith("A: off")


def taken(name: str) -> str:
    """The text that was kept in a file, which goes."""
    text = Path(name).read_text()
    Path(name).unlink()
    return text


# --- the editor ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("control")
async def test_a_mistake_comes_back_into_the_editor_until_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(tmp_path, "checkout", SWITCH, "--reason", "why not")
    editor = Editor(
        tmp_path,
        [("defaultVariant: 'off'", "defaultVariant: on\ntargeting: [")],
        [("targeting: [", "targeting: {if: [{var: beta}, no, on]}")],
        [(" no,", " off,")],
    )
    monkeypatch.setenv("VISUAL", editor.command)
    result = await shadowctl("flags", "edit", "checkout", "--reason", "beta first")
    assert (result.code, result.out) == (0, "checkout: off → targeting rule\n1 flag changed, revision 2\n")
    assert "-defaultVariant: 'off'\n+defaultVariant: 'on'" in result.err, "what changes is shown before it does"
    first, second, third = editor.seen
    assert first.startswith("# checkout, revision 1, ")
    assert "why not" in first.splitlines()[0]
    assert "# error: checkout:" in second, "no YAML"
    assert '# error: checkout: targeting.if[1]: "no" is no variant of this flag; it has on, off\n' in third
    assert await definition("checkout") == {
        **SWITCH,
        "defaultVariant": "on",
        "targeting": {"if": [{"var": "beta"}, "off", "on"]},
    }


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("step", [[], [("state: ENABLED", ""), ("variants:", "# variants:")]])
async def test_a_file_that_is_not_changed_or_empty_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: list[tuple[str, str]]
) -> None:
    await put(tmp_path, "checkout", SWITCH)
    emptied = [(yaml.safe_dump(SWITCH, sort_keys=False), "")] if step else []
    monkeypatch.setenv("EDITOR", Editor(tmp_path, emptied).command)
    result = await shadowctl("flags", "edit", "checkout")
    assert (result.code, result.out) == (0, "checkout: nothing was changed\n")
    assert json.loads((await shadowctl("flags", "get", "-o", "json")).out)["revision"] == 1


@pytest.mark.usefixtures("control")
async def test_a_new_flag_begins_with_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = Editor(tmp_path, [("state: ENABLED", "state: DISABLED")])
    monkeypatch.setenv("EDITOR", editor.command)
    rehearsed = await shadowctl("flags", "edit", "checkout", "--dry-run")
    assert (rehearsed.code, "would change" in rehearsed.out) == (0, True)
    assert editor.seen[0].startswith("# checkout is new\n")
    Editor(tmp_path, [], [("state: ENABLED", "state: DISABLED")])
    assert (await shadowctl("flags", "edit", "checkout")).out.startswith("checkout: new, disabled (off)\n")


@pytest.mark.usefixtures("control")
async def test_saving_the_same_mistake_again_gives_up_and_keeps_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(tmp_path, "checkout", SWITCH)
    monkeypatch.setenv("EDITOR", Editor(tmp_path, [("state: ENABLED", "state: on")], []).command)
    result = await shadowctl("flags", "edit", "checkout")
    assert result.code == 2
    assert 'state: must be "ENABLED" or "DISABLED"' in result.err
    assert "state: on" in taken(result.err.strip().rpartition(" ")[2])


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("editor", ["/no/such/editor", "false", "'"])
async def test_an_editor_that_cannot_be_run_changes_nothing(monkeypatch: pytest.MonkeyPatch, editor: str) -> None:
    monkeypatch.setenv("EDITOR", editor)
    result = await shadowctl("flags", "edit", "checkout")
    assert result.code == 2
    assert f"`{editor}`" in result.err


@pytest.mark.usefixtures("control")
async def test_a_stale_edit_without_anybody_to_ask_fails_and_keeps_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(tmp_path, "checkout", SWITCH)
    other = [SHADOWCTL, "flags", "set", "checkout", "on", "--percent", "5"]
    monkeypatch.setenv("EDITOR", Editor(tmp_path, [("run", other), ("state: ENABLED", "state: DISABLED")]).command)
    result = await shadowctl("flags", "edit", "checkout")
    assert result.code == 1
    assert "checkout at revision 2 by ann" in result.err
    assert "state: DISABLED" in taken(result.err.split("your text is kept in ")[1].split(": ")[0])
    assert (await definition("checkout"))["state"] == "ENABLED"


@pytest.mark.usefixtures("control")
async def test_a_stale_edit_offers_to_look_again(tmp_path: Path) -> None:
    await put(tmp_path, "checkout", SWITCH)
    other = [SHADOWCTL, "flags", "set", "checkout", "on", "--percent", "5"]
    editor = Editor(tmp_path, [("run", other), ("state: ENABLED", "state: DISABLED")], [])
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"y\ny\n")
        done = await asyncio.to_thread(
            subprocess.run,
            [SHADOWCTL, "flags", "edit", "checkout"],
            stdin=theirs,
            capture_output=True,
            text=True,
            env=os.environ | {"EDITOR": editor.command},
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert "look again, with your text in hand?" in done.stderr
    assert "publish this?" in done.stderr
    again = editor.seen[1]
    assert again.startswith("# checkout, revision 2, ")
    assert "# +targeting:" in again, "what the other one changed"
    assert (await definition("checkout")) == {**SWITCH, "state": "DISABLED"}
