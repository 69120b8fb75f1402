"""The dashboard and the alert rules ask for what is exposed, and keep what callers get apart from what shadows do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from multishadow_server.core import metric_catalogue
from multishadow_server.core.metric_catalogue import BY_NAME, Metric

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")
# What Prometheus adds to everything that it scrapes.
OF_SCRAPES = {"job", "instance"}


class Asked(NamedTuple):
    """A metric in an expression, and the matchers of its labels."""

    metric: Metric
    matchers: dict[str, str]
    bucket: bool


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "deploy/grafana/multishadow.json").read_text())["panels"]
    return found


def expressions() -> list[tuple[str, str]]:
    """Every expression, by where it stands."""
    shown = [(panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", ())]
    return [(rule["alert"], rule["expr"]) for rule in alerts()] + shown


def asked(expression: str) -> Iterator[Asked]:
    """Every metric of ours in an expression. Raises KeyError for one that is not exposed."""
    for name, braces in re.findall(r"(multishadow_\w+)(\{[^}]*\})?", expression):
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        of_histogram = name not in BY_NAME and base in BY_NAME and BY_NAME[base].kind == "histogram"
        matchers = re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', braces)
        yield Asked(BY_NAME[base if of_histogram else name], dict(matchers), name.endswith("_bucket"))


def grouped(expression: str) -> set[str]:
    lists = re.findall(r"(?:by|on|group_left|group_right|without)\s*\(([^)]*)\)", expression)
    return {label.strip() for each in lists for label in each.split(",") if label.strip()}


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_expression_asks_for_what_is_exposed_and_for_one_path_only(where: str, expression: str) -> None:
    found = list(asked(expression))
    assert found or "up{" in expression or "process_" in expression, where
    for metric, matchers, bucket in found:
        assert set(matchers) <= {*metric.labels, *OF_SCRAPES}, metric.name
        assert bucket or metric.kind != "histogram"
        # Who leaves the role out does not see which of the two a number is of.
        assert matchers.get("role", "") == metric.path, metric.name
        if metric.kind != "gauge":
            assert re.search(rf"(rate|increase)\(\s*{metric.name}", expression), metric.name
    labels = {label for metric, *_ in found for label in metric.labels} | OF_SCRAPES | {"le"}
    assert grouped(expression) <= labels
    assert len({metric.path for metric, *_ in found} - {""}) <= 1


def test_a_panel_shows_what_its_row_says_and_never_both_paths() -> None:
    row = ""
    rows = []
    for panel in panels():
        if panel["type"] == "row":
            row = panel["title"]
            rows.append(row)
            continue
        assert panel["description"], panel["title"]
        paths = {each.metric.path for target in panel["targets"] for each in asked(target["expr"])}
        path = row.partition(":")[0].lower()
        assert paths == ({path} if path in {"live", "shadow"} else {""}) or not paths, (row, panel["title"])
    assert [each.partition(": ")[0] for each in rows].count("Live") == 2
    assert [each for each in rows if each.startswith("Shadow")] == [
        "Shadow: sampling and buffers",
        "Shadow: capture log",
        "Shadow: workers",
        "Shadow: calls",
        "Shadow: comparisons",
        "Shadow: experiments",
    ]


def test_panels_are_told_apart_and_do_not_lie_on_each_other() -> None:
    shown = panels()
    assert len({panel["id"] for panel in shown}) == len(shown)
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_stage_is_shown() -> None:
    """What is on no panel and in no rule nobody looks at; these few are there for whoever asks."""
    seen = {each.metric.name for _, expression in expressions() for each in asked(expression)}
    unseen = {metric.name.removeprefix("multishadow_") for metric in metric_catalogue.METRICS} - {
        name.removeprefix("multishadow_") for name in seen
    }
    assert unseen == {
        "build_info", "live_uncounted_total", "copies_to_strangers_total", "worker_partitions_begun_total",
        "worker_reported_drops_total", "answers_kept_total", "answers_too_large_total", "sessions_ended_total",
        "dead_letters_total", "shadow_circuits_opened_total", "experiments_ended_total", "experiments_moved_total",
        "labels_joined_total", "rollout_moves_total", "probes_asked_total", "alarms_raised_total",
        "alarms_cleared_total", "webhooks_delivered_total", "webhook_attempts_failed_total",
        "webhooks_undelivered_total", "weekly_reports_made_total", "retention_days_dropped_total",
        "retention_rows_deleted_total", "writes_refused_total",
    }  # fmt: skip


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_of_whom_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    about = rule["annotations"]
    assert set(about) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    told = set(re.findall(r"\$labels\.(\w+)", about["summary"] + about["description"]))
    kept = grouped(rule["expr"]) if "by (" in rule["expr"] else OF_SCRAPES
    assert told <= kept
    labels = {label for metric, *_ in asked(rule["expr"]) for label in metric.labels}
    if {"model", "version"} <= labels:
        assert {"model", "version"} <= told
    else:
        # It is of all of them, and says so.
        assert "model" in about["description"]
    page, _, anchor = about["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_alert_is_tried_both_ways() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    tried = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert tried == {rule["alert"] for rule in alerts()}
    # Where all is well, every metric that some alert is about has a value, and nothing fires.
    quiet = tests[0]
    assert [case["exp_samples"][0]["value"] for case in quiet["promql_expr_test"]] == [0, 0]
    given = {each["series"].partition("{")[0] for each in quiet["input_series"]}
    assert given - {"up"} == {each.metric.name for rule in alerts() for each in asked(rule["expr"])}


def test_the_series_of_the_tests_are_such_as_are_exposed() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    for series in (each["series"] for test in tests for each in test["input_series"]):
        for metric, labels, _ in asked(series):
            assert set(labels) - OF_SCRAPES == set(metric.labels), series
            assert labels.get("role", "") == metric.path, series


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, cwd=PROMETHEUS)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the path")
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"), ("check", "config", "scrape.yml")],
)
def test_prometheus_takes_the_rules_and_they_fire_as_they_should(arguments: tuple[str, ...]) -> None:
    ended = promtool(*arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the path")
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{place}", "expr": expression.replace("$__rate_interval", "5m").replace("$model", ".*")}
        for place, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ended = promtool("check", "rules", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_is_scraped_are_all_roles_where_they_listen() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "scrape.yml").read_text())["scrape_configs"]
    assert {job["job_name"] for job in jobs} == {"multishadow-router", "multishadow-worker", "multishadow-control"}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for job in jobs:
        (where,) = job["dns_sd_configs"]
        (name,) = where["names"]
        variable = "MULTISHADOW_HTTP_LISTEN" if name == "control" else "MULTISHADOW_METRICS_LISTEN"
        assert services[name]["environment"][variable] == f"0.0.0.0:{where['port']}"
