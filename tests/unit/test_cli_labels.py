"""`shadowctl label`, and the quality axis in `shadowctl compare`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from rich.console import Console

import control_fixtures as reports
from control_fixtures import CannedControl, models
from multishadow.v1 import control_pb2
from multishadow_client import cli
from multishadow_client.cli import comparison_view, manifest
from multishadow_client.cli.exit_code import Mistake


class Result(NamedTuple):
    code: int
    out: str
    err: str


Shadowctl = Callable[..., Result]


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["ListModels"] = models(spam=["base", "A"])
        canned.answers["ImportLabels"] = imported
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "100")
        yield canned


def imported(requests: Iterator[control_pb2.ImportLabelsRequest]) -> control_pb2.ImportLabelsResponse:
    """Count what comes, and answer as if all of it counted."""
    received.extend((each.request_id, MessageToDict(each.value)) for each in requests)
    return control_pb2.ImportLabelsResponse(model="spam", receptions={"counted": len(received)})


received: list[tuple[str, object]] = []


@pytest.fixture(autouse=True)
def _nothing_received() -> None:
    received.clear()


@pytest.fixture
def shadowctl(capsys: pytest.CaptureFixture[str]) -> Shadowctl:
    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return Result(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


Written = Callable[[str, str], Path]


def test_one_label_is_added_as_text_or_as_json(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["RecordLabel"] = control_pb2.RecordLabelResponse(model="spam", reception="counted")
    assert shadowctl("label", "add", "r1", "ham").out == "spam: the label of r1 counted\n"
    shadowctl("label", "add", "r1", "--json", '{"amount": 12.5}')
    asked = control.asked(control_pb2.RecordLabelRequest)
    assert [(each.model, each.actor, MessageToDict(each.value)) for each in asked] == [
        ("spam", "ann", "ham"),
        ("spam", "ann", {"amount": 12.5}),
    ]
    for wrong in (["r1"], ["r1", "ham", "--json", "1"], ["r1", "--json", "{"]):
        assert shadowctl("label", "add", *wrong).code == 2


def test_labels_are_imported_from_csv(control: CannedControl, shadowctl: Shadowctl, written: Written) -> None:
    file = written("labels.csv", '\ufeffrequest_id,label,who\nr1,spam,x\nr2,"ham, eggs",y\n')
    result = shadowctl("label", "import", str(file))
    assert (result.code, result.out, result.err) == (0, "spam: 2 counted\n", "")
    assert received == [("r1", "spam"), ("r2", "ham, eggs")]


def test_labels_are_imported_from_json_lines_with_other_names(
    control: CannedControl, shadowctl: Shadowctl, written: Written
) -> None:
    file = written("truth.jsonl", '{"id": "r1", "truth": 7}\n\n{"id": "r2", "truth": {"a": [1, null]}}\n')
    result = shadowctl("label", "import", str(file), "--id-column", "id", "--label-column", "truth")
    assert result.code == 0, result.err
    assert received == [("r1", 7.0), ("r2", {"a": [1.0, None]})]


def test_labels_are_imported_from_parquet(control: CannedControl, shadowctl: Shadowctl, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "labels.parquet"
    columns = {"request_id": ["r1", "r2", None], "label": ["spam", "ham", "x"], "score": [1.0, 2.0, 3.0]}
    parquet.write_table(pyarrow.table(columns), file)
    result = shadowctl("label", "import", str(file))
    assert result.code == 1
    assert f"{file}:3: request_id must be a text, got None" in result.err
    assert received == [("r1", "spam"), ("r2", "ham")]
    assert shadowctl("label", "import", str(file), "--label-column", "nope").code == 2


def test_bad_rows_are_named_by_line_and_skipped(control: CannedControl, shadowctl: Shadowctl, written: Written) -> None:
    file = written("labels.jsonl", '{"request_id": "r1", "label": "spam"}\n{"request_id"\n[1]\n{"request_id": "r4"}\n')
    result = shadowctl("label", "import", str(file), "-o", "json")
    assert result.code == 1
    assert [line.split(": ", 1)[0] for line in result.err.splitlines()] == [f"{file}:{line}" for line in (2, 3, 4)]
    assert json.loads(result.out) == {"model": "spam", "receptions": {"counted": 1}, "skipped": 3}
    assert received == [("r1", "spam")]


def test_strict_keeps_a_file_with_a_bad_row_out(control: CannedControl, shadowctl: Shadowctl, written: Written) -> None:
    file = written("labels.csv", "request_id,label\nr1,spam\nr2,\n")
    result = shadowctl("label", "import", str(file), "--strict")
    assert (result.code, result.out) == (2, "")
    assert f"{file}:3: label is missing" in result.err
    assert "1 bad rows, so nothing was imported" in result.err
    assert received == []
    file.write_text("request_id,label\nr1,spam\n")
    assert shadowctl("label", "import", str(file), "--strict").code == 0


def test_of_very_many_bad_rows_the_first_are_named(
    control: CannedControl, shadowctl: Shadowctl, written: Written
) -> None:
    file = written("labels.csv", "request_id,label\n" + "r,\n" * 500)
    result = shadowctl("label", "import", str(file))
    assert len(result.err.splitlines()) == 21
    assert "500 bad rows skipped" in result.out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("labels.txt", "", "labels come as .csv, .jsonl, .ndjson, .parquet"),
        ("labels.csv", "id,truth\nr1,spam\n", "no column 'request_id' and no 'label'; it has id, truth"),
        ("labels.csv", 'request_id,label\n"r1,spam\n', "this is no CSV"),
        ("labels.parquet", "PAR0", "this is no Parquet file"),
    ],
)
@pytest.mark.usefixtures("control")
def test_a_file_that_is_none_is_refused_with_what_it_lacks(
    shadowctl: Shadowctl, written: Written, name: str, text: str, said: str
) -> None:
    result = shadowctl("label", "import", str(written(name, text)))
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_a_file_that_is_not_there_is_named(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = shadowctl("label", "import", "nowhere.csv")
    assert (result.code, result.err) == (2, "error: cannot read nowhere.csv: No such file or directory\n")


def test_controls_refusal_of_an_import_is_told(control: CannedControl, shadowctl: Shadowctl, written: Written) -> None:
    control.answers["ImportLabels"] = (grpc.StatusCode.FAILED_PRECONDITION, "spam keeps no answers")
    file = written("labels.csv", "request_id,label\nr1,spam\n")
    assert shadowctl("label", "import", str(file)) == (1, "", "error: spam keeps no answers\n")


def test_what_became_of_labels_is_told(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["GetLabelTally"] = control_pb2.GetLabelTallyResponse(
        model="spam",
        terms=control_pb2.LabelTerms(delay_seconds=86_400, keep_seconds=604_800),
        counted=12_345,
        unknown=7,
    )
    said = shadowctl("label", "status").out
    assert "spam: answers are kept for 7 d; requests count when they are 1 d old" in said
    assert "12,345  counted" in said
    assert "7  unknown: nobody saw their request" in said


def test_a_model_file_asks_for_labels(written: Written) -> None:
    def terms(text: str) -> control_pb2.LabelTerms:
        (document,) = manifest.read(written("model.yaml", f"model: spam\nlabels: {text}\n"))
        return document.request.labels

    assert terms("{delay: 24h, keep: 7d}") == control_pb2.LabelTerms(delay_seconds=86_400, keep_seconds=604_800)
    assert terms("{delay: 0}") == control_pb2.LabelTerms(delay_seconds=0)
    assert terms("off") == control_pb2.LabelTerms(keep_seconds=0)
    for wrong in ("{delay: soon}", "{kept: 7d}", "on"):
        with pytest.raises(Mistake, match=r"model.yaml:2:\d+: "):
            terms(wrong)


def quality() -> control_pb2.QualityReport:
    return control_pb2.QualityReport(
        labelled=1_000,
        too_young=250,
        delay_seconds=86_400,
        live_n=998,
        live_right=923,
        live_accuracy=control_pb2.Interval(estimate=0.9248, lower=0.9, upper=0.945),
        candidates=[
            control_pb2.CandidateQuality(
                version="A",
                n=995,
                right=960,
                live_right=920,
                only_right=60,
                only_live_right=20,
                accuracy=control_pb2.Interval(estimate=0.9648, lower=0.94, upper=0.98),
                difference=control_pb2.Interval(estimate=0.0402, lower=0.012, upper=0.067),
                log_evidence_not_worse=9.2,
                not_worse=True,
                unjudged=3,
            ),
            control_pb2.CandidateQuality(version="B"),
        ],
        margin=0.01,
        evidence_threshold=60,
    )


@pytest.mark.parametrize("width", [80, 100, 140])
def test_accuracy_stands_beside_agreement(width: int) -> None:
    report = reports.decided()
    report.quality.CopyFrom(quality())
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(comparison_view.render(report))
    text = capture.get()
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.index("Agreement") < text.index("Accuracy")
    assert "1,000 labelled requests" in text
    assert "60 : 20" in text
    assert "250 labelled requests are too young to count yet." in text
    # On one line each, whatever the width.
    assert "96.48 [94.00, 98.00]" in text
    assert "+4.02 [+1.20, +6.70]" in text
    assert "92.48 [90.00, 94.50]" in text
    assert ("9,897" in text) is (width > 80)  # e
    assert "right at most 1 pp less often than live, which takes e ≥ 60." in " ".join(text.split())


def test_what_to_rank_by_is_declared_at_the_start_and_told_with_every_report(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    experiment = reports.experiment()
    experiment.rank_by = "labels"
    control.answers["StartExperiment"] = control_pb2.StartExperimentResponse(experiment=experiment, revision=4)
    started = shadowctl("start", "A", "--rank-by", "labels").out
    assert ", ranked by labels, revision 4" in " ".join(started.split())
    (request,) = control.asked(control_pb2.StartExperimentRequest)
    assert request.rank_by == "labels"
    assert shadowctl("start", "A", "--rank-by", "luck").code == 2

    control.answers["Compare"] = report = reports.decided()
    assert "smaller divergence ranks first" in shadowctl("compare").out
    report.experiment.rank_by = "labels"
    said = shadowctl("compare").out
    assert "ranks are by labels, see Accuracy" in said
    assert "on the same labelled requests, bad is wrong" in said
