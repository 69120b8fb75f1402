"""The table of who may do what: nothing is left out of it, and what is left out is denied."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from openfeature.schemas.protobuf.flagd.evaluation.v1 import evaluation_pb2 as evaluation_v1
from openfeature.schemas.protobuf.flagd.evaluation.v2 import evaluation_pb2 as evaluation_v2
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2

import multishadow.v1
from multishadow_server.core.access import Role
from multishadow_server.entrypoints import permissions
from multishadow_server.entrypoints.permissions import ADMIN, FLAGS, OPEN, OPERATOR, VIEWER

# Which routers and version servers answer, not control.
ELSEWHERE = {"multishadow.v1.PredictionService", "inference.GRPCInferenceService"}
SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


def services() -> Iterator[ServiceDescriptor]:
    for module in pkgutil.iter_modules(multishadow.v1.__path__):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(f"multishadow.v1.{module.name}").DESCRIPTOR.services_by_name.values()


def calls() -> list[tuple[str, str]]:
    return [
        (service.full_name, method.name)
        for service in services()
        if service.full_name not in ELSEWHERE
        for method in service.methods
    ]


def test_every_call_of_control_has_a_line() -> None:
    missing = [
        f"{service}/{method}"
        for service, method in calls()
        if not isinstance(listed := permissions.CALLS.get(service, {}), dict) or method not in listed
    ]
    assert not missing, f"add a line to `CALLS` in entrypoints/permissions.py for each of {missing}"


def test_every_line_is_a_call_of_control() -> None:
    known = set(calls())
    listed = [
        (service, method)
        for service, methods in permissions.CALLS.items()
        if isinstance(methods, dict)
        for method in methods
    ]
    assert [entry for entry in listed if entry not in known] == []


def test_the_services_that_applications_read_flags_by_are_all_there() -> None:
    for module in (evaluation_v1, evaluation_v2, sync_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            assert permissions.CALLS[service.full_name] is FLAGS


@pytest.mark.parametrize(
    ("method", "need"),
    [
        ("/multishadow.v1.ControlService/GetStatus", VIEWER),
        ("/multishadow.v1.ControlService/ApplyModel", ADMIN),
        ("/multishadow.v1.ControlService/SomethingNew", ADMIN),
        ("/multishadow.v1.NewService/Anything", ADMIN),
        ("/grpc.health.v1.Health/Check", OPEN),
        ("/grpc.health.v1.Health/Watch", OPEN),
        ("/grpc.health.v2.Health/Check", ADMIN),
        ("/flagd.sync.v1.FlagSyncService/SyncFlags", FLAGS),
        ("", ADMIN),
        ("/", ADMIN),
        ("nonsense", ADMIN),
        ("/multishadow.v1.ControlService/GetStatus/x", ADMIN),
        ("//multishadow.v1.ControlService/GetStatus", ADMIN),
    ],
)
def test_what_is_not_listed_needs_an_admin(method: str, need: permissions.Need) -> None:
    assert permissions.of_call(method) is need


@pytest.mark.parametrize(
    ("path", "need"),
    [
        ("/healthz", OPEN),
        ("/readyz", OPEN),
        ("/healthz/", OPEN),
        ("/healthzz", ADMIN),
        ("/healthz/../admin", ADMIN),
        ("/metrics", VIEWER),
        ("/ofrep/v1/evaluate/flags", FLAGS),
        ("/ofrep", ADMIN),
        # They lead to the page.
        ("/", OPEN),
        ("/ui", OPEN),
        ("/ui/", VIEWER),
        ("/ui/flags/fraud.A", VIEWER),
        ("/ui/static/page.css", OPEN),
        ("/ui/sign-in", OPEN),
        ("/ui/sign-inn", VIEWER),
        ("/uix", ADMIN),
        ("//", ADMIN),
    ],
)
def test_what_each_path_needs(path: str, need: permissions.Need) -> None:
    assert permissions.of_path(path) is need


def test_changing_something_on_the_page_takes_an_operator() -> None:
    assert permissions.of_path("/ui/flags/fraud.A", "POST") is OPERATOR
    assert permissions.of_path("/ui/flags/fraud.A", "HEAD") is VIEWER
    assert permissions.of_path("/ui/sign-in", "POST") is OPEN


def test_flags_are_read_without_a_token_only_where_that_is_set() -> None:
    assert permissions.least(OPEN, flags_open=False) is None
    assert permissions.least(FLAGS, flags_open=False) is Role.VIEWER
    assert permissions.least(FLAGS, flags_open=True) is None
    assert permissions.least(ADMIN, flags_open=True) is Role.ADMIN


def test_the_table_in_the_documentation_is_this_table() -> None:
    shown = re.search(r"<!-- roles -->\n(.*?)\n<!-- /roles -->", SECURITY.read_text(), flags=re.DOTALL)
    assert shown is not None
    assert shown[1] == table(), "paste the right-hand side into docs/security.md"


def table() -> str:
    rows = ["| service | viewer | operator | admin |", "|---|---|---|---|"]
    for service, listed in permissions.CALLS.items():
        if isinstance(listed, dict):
            by_role = [[name for name, need in listed.items() if need is role] for role in Role]
            rows.append(
                f"| `{service}` | {' | '.join(', '.join(f'`{name}`' for name in names) for names in by_role)} |"
            )
    return "\n".join(rows)
