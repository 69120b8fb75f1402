"""Which role each call of control needs.

Every method of every service that control answers has a line here. What has none needs `admin`: forgetting a line
keeps people out, never lets them in, and a test names what was forgotten. docs/security.md shows this table; the same
test holds them together.

- OPEN: nobody needs a token, whatever is set.
- FLAGS: what applications read flags by; `viewer`, unless MULTISHADOW_FLAGS_AUTH is `open`.
- VIEWER reads. It sees payloads of requests that were kept.
- OPERATOR changes what control is for: flags, experiments, promotions, labels, reviews.
- ADMIN decides where requests go (addresses of versions), what is kept of them, and who may do what.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from multishadow_server.core.access import Role


class Public(Enum):
    """What needs no token, or not always."""

    OPEN = "open"
    FLAGS = "flags"


Need = Role | Public
OPEN, FLAGS = Public.OPEN, Public.FLAGS
VIEWER, OPERATOR, ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN

CALLS: Mapping[str, Mapping[str, Need] | Need] = {
    "multishadow.v1.ControlService": {
        "ApplyModel": ADMIN,
        "ListModels": VIEWER,
        "ListVersions": VIEWER,
        "ListFlags": VIEWER,
        "SetFlag": OPERATOR,
        "ListExperiments": VIEWER,
        "StartExperiment": OPERATOR,
        "StopExperiment": OPERATOR,
        "Compare": VIEWER,
        "ListSegments": VIEWER,
        "Promote": OPERATOR,
        "Rollback": OPERATOR,
        "ListGates": VIEWER,
        "Attest": OPERATOR,
        "WaiveGate": OPERATOR,
        "PlanComparison": VIEWER,
        "RecordLabel": OPERATOR,
        "ImportLabels": OPERATOR,
        "GetLabelTally": VIEWER,
        "ListComparisons": VIEWER,
        "GetComparison": VIEWER,
        "RecordReview": OPERATOR,
        "Calibrate": VIEWER,
        "GetStatus": VIEWER,
    },
    "multishadow.v1.FlagService": {
        "ListFlagDefinitions": VIEWER,
        "GetFlagDefinition": VIEWER,
        "PutFlags": OPERATOR,
        "DeleteFlags": OPERATOR,
        "ListFlagRevisions": VIEWER,
        "RevertFlags": OPERATOR,
        "ImportFlags": OPERATOR,
        "ExportFlags": VIEWER,
    },
    "multishadow.v1.RolloutService": {
        "PlanRollout": VIEWER,
        "StartRollout": OPERATOR,
        "GetRollout": VIEWER,
        "ListRollouts": VIEWER,
        "PauseRollout": OPERATOR,
        "ResumeRollout": OPERATOR,
        "StepRollout": OPERATOR,
        "AbortRollout": OPERATOR,
        "GetAcknowledgement": VIEWER,
    },
    "multishadow.v1.AccessService": {
        "CreateToken": ADMIN,
        "ListTokens": ADMIN,
        "RotateToken": ADMIN,
        "RevokeToken": ADMIN,
        "GetCaller": VIEWER,
        "ListAudit": VIEWER,
    },
    "multishadow.v1.AlarmService": {
        "ListAlarms": VIEWER,
        "ListAlarmHistory": VIEWER,
        "AcknowledgeAlarms": OPERATOR,
        "ListProbes": VIEWER,
        "ListProbeChanges": VIEWER,
    },
    "multishadow.v1.ReplayService": {"Replay": OPERATOR},
    "multishadow.v1.SessionService": {"ListSessions": VIEWER, "GetSession": VIEWER},
    "multishadow.v1.ShadowingService": {"PauseShadowing": OPERATOR, "ResumeShadowing": OPERATOR},
    "multishadow.v1.DeadLetterService": {
        "ListDeadLetters": VIEWER,
        "GetDeadLetter": VIEWER,
        "CountDeadLetters": VIEWER,
        "RetryDeadLetters": OPERATOR,
        "PurgeDeadLetters": OPERATOR,
    },
    "multishadow.v1.ReportService": {
        "BuildWeeklyReport": VIEWER,
        "ListWeeklyReports": VIEWER,
        "GetWeeklyReport": VIEWER,
        "EstimateCost": VIEWER,
    },
    "multishadow.v1.PrivacyService": {
        "GetStoredTraffic": VIEWER,
        "ApplyPrivacy": ADMIN,
        "PurgeStored": ADMIN,
    },
    "multishadow.v1.WebhookService": {
        "CreateWebhook": ADMIN,
        "ListWebhooks": VIEWER,
        "GetWebhook": VIEWER,
        "TestWebhook": ADMIN,
        "RotateWebhookSecret": ADMIN,
        "DeleteWebhook": ADMIN,
        # What receivers answer is for whoever may have them asked.
        "ListDeliveries": OPERATOR,
        "RetryDeliveries": ADMIN,
    },
    "multishadow.v1.ExportService": {"ListAnswers": VIEWER, "GetAnswers": VIEWER, "Export": OPERATOR},
    # Flags for applications; whole services.
    "flagd.evaluation.v1.Service": FLAGS,
    "flagd.evaluation.v2.Service": FLAGS,
    "flagd.sync.v1.FlagSyncService": FLAGS,
    # Whether it serves is asked by who has no token; MULTISHADOW_REFLECTION says whether it describes itself.
    "grpc.health.v1.Health": OPEN,
    "grpc.reflection.v1alpha.ServerReflection": OPEN,
}

# Over HTTP, by the beginning of the path; the longest that fits decides.
PATHS: Mapping[str, Need] = {
    "/healthz": OPEN,
    "/readyz": OPEN,
    "/metrics": VIEWER,
    "/ofrep/": FLAGS,
    # It leads to the page.
    "": OPEN,
    "/ui": OPEN,
    "/ui/": VIEWER,
    # What a browser needs before anybody signed in.
    "/ui/static/": OPEN,
    "/ui/sign-in": OPEN,
    "/ui/sign-out": OPEN,
    "/ui/theme": OPEN,
}
READING = frozenset({"GET", "HEAD", "OPTIONS"})
PAGE = "/ui/"


def of_call(method: str) -> Need:
    """What a gRPC method needs, by its full name: `/package.Service/Method`."""
    _, service, name = f"/{method.removeprefix('/')}/".split("/", 2)
    listed = CALLS.get(service, ADMIN)
    return listed.get(name.rstrip("/"), ADMIN) if isinstance(listed, Mapping) else listed


def of_path(path: str, method: str = "GET") -> Need:
    """What a request over HTTP needs: on the page, viewers read, and what changes something takes an operator."""
    fitting = [beginning for beginning in PATHS if _begins(path, beginning)]
    need = PATHS[max(fitting, key=len)] if fitting else ADMIN
    return OPERATOR if need is VIEWER and path.startswith(PAGE) and method not in READING else need


def least(need: Need, *, flags_open: bool) -> Role | None:
    """The role that is needed; None when nobody needs a token."""
    if isinstance(need, Role):
        return need
    return None if need is OPEN or flags_open else VIEWER


def _begins(path: str, beginning: str) -> bool:
    return path.startswith(beginning) if beginning.endswith("/") else path in {beginning, f"{beginning}/"}
