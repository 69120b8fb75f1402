"""Every metric that a role exposes: its name, what it counts, its labels, and who exposes it.

This is their only list. What is exposed, the dashboard, the alert rules and the documentation are held to it by tests.

Names follow https://prometheus.io/docs/practices/naming/. Labels are few-valued: models, versions, reasons; never a
request, a session or an attribute. What callers get and what shadows do is told apart by `role`, so that nobody adds
the two by mistake; metrics of neither have no such label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Path = Literal["live", "shadow", ""]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: as it is exposed; those of counters end in `_total`.
        kind: as Prometheus has it. Histograms are of seconds, with the bounds of `latency_ladder.RUNGS`.
        help: what it says, for people.
        labels: names, in their order; `role` first where there is a path.
        roles: the processes that expose it: router, worker, control.
        path: value of the label `role`; empty without.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    roles: tuple[str, ...]
    path: Path = ""


PREFIX = "multishadow_"
_ALL = ("router", "worker", "control")


def _of(role: str | tuple[str, ...], kind: Kind, name: str, about: str, *labels: str, path: Path = "") -> Metric:
    roles = (role,) if isinstance(role, str) else role
    own = ("role", *labels) if path else labels
    return Metric(name=f"{PREFIX}{name}", kind=kind, help=about, labels=own, roles=roles, path=path)


_LIVE = (
    _of("router", "counter", "router_requests_total", "Requests that reached the live path.", path="live"),
    _of(
        "router",
        "counter",
        "live_requests_total",
        "Requests by the version that the flags chose. outcome: ok; failed or timeout, by the version itself; covered, "
        "where it was unavailable and an older live version answered.",
        "model",
        "version",
        "outcome",
        path="live",
    ),
    _of(
        "router",
        "histogram",
        "live_latency_seconds",
        "How long the live version took to answer. Timeouts lie beyond the last bound and are not in the sum; other "
        "failures are left out.",
        "model",
        "version",
        path="live",
    ),
    _of(
        "router",
        "counter",
        "live_cancelled_total",
        "Requests whose caller went away before the answer.",
        path="live",
    ),
    _of("router", "counter", "live_fallbacks_total", "Requests that an older live version answered.", path="live"),
    _of(
        "router",
        "counter",
        "live_failures_total",
        "Requests whose caller got a failure from the live version.",
        path="live",
    ),
    _of("router", "counter", "live_passed_on_total", "Questions about the live version itself.", path="live"),
    _of("router", "counter", "live_replayed_total", "Requests that were answered once before.", path="live"),
    _of(
        "router",
        "counter",
        "live_uncounted_total",
        "Requests that ended so long after their revision that no version counts them.",
        path="live",
    ),
)

_CAPTURING = (
    _of(
        "router",
        "counter",
        "sampling_requests_total",
        "Requests that flags sample. decision: sampled; passed_over, while workers do not keep up; write, as it is "
        "marked as one.",
        "decision",
        path="shadow",
    ),
    _of(
        "router",
        "gauge",
        "sampling_share_ratio",
        "Share of what flags sample that is captured now.",
        path="shadow",
    ),
    _of("router", "gauge", "buffer_captures", "Captures that wait for the log.", path="shadow"),
    _of("router", "gauge", "buffer_captures_limit", "Most captures that may wait.", path="shadow"),
    _of("router", "gauge", "buffer_bytes", "Bytes of captures that wait for the log.", path="shadow"),
    _of("router", "gauge", "buffer_bytes_limit", "Most bytes of captures that may wait.", path="shadow"),
    _of("router", "counter", "captures_appended_total", "Captures that the log has taken.", path="shadow"),
    _of("router", "counter", "captures_dropped_total", "Captures that the log never got.", "reason", path="shadow"),
    _of("router", "gauge", "log_reachable", "Whether the log told how it is: 1 or 0.", path="shadow"),
    _of("router", "gauge", "log_messages", "Messages in the log; every router tells of the same one.", path="shadow"),
    _of("router", "gauge", "log_bytes", "Bytes in the log; every router tells of the same one.", path="shadow"),
    _of("router", "gauge", "log_fill_ratio", "Share of the log's size that is in use.", path="shadow"),
    _of("router", "gauge", "log_lag_seconds", "Age of the oldest capture in the log.", path="shadow"),
)

_WORK = (
    _of(
        "worker",
        "counter",
        "shadow_captures_total",
        "Captures that are worked on and committed. fate: observed; live_failed; no_candidate or no_experiment, of "
        "nobody's interest.",
        "fate",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "shadow_calls_total",
        "Calls of shadows, also those of dead letters. outcome: answered, error, timeout.",
        "model",
        "version",
        "outcome",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "shadow_errors_total",
        "Calls of shadows that failed, by gRPC status.",
        "model",
        "version",
        "code",
        path="shadow",
    ),
    _of(
        "worker",
        "histogram",
        "shadow_latency_seconds",
        "How long shadows took to answer. Timeouts lie beyond the last bound and are not in the sum; errors are left "
        "out.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "comparisons_total",
        "Shadows' answers. outcome: agreed or diverged; uncomparable with the live one.",
        "model",
        "version",
        "outcome",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "comparator_failures_total",
        "Answers that are uncomparable because comparing failed or took too long, and what broke multishadow itself.",
        "model",
        "version",
        "reason",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "uncomparable_total",
        "Answers that cannot be compared with the live one, by reason.",
        "model",
        "version",
        "reason",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "copies_dropped_total",
        "Copies that were not sent, or whose outcome is lost, by reason.",
        "model",
        "version",
        "reason",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "copies_duplicate_total",
        "Copies that were not sent because one of the same input counts already.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "noise_floor_total",
        "Requests that the live version got a second time, by how its answers compare.",
        "model",
        "outcome",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "copies_to_strangers_total",
        "Copies for versions that are no candidates: not sent.",
        path="shadow",
    ),
    _of("worker", "gauge", "worker_captures_under_way", "Captures that the worker has read.", path="shadow"),
    _of("worker", "gauge", "worker_lag_seconds", "Age of the oldest capture under way.", path="shadow"),
    _of("worker", "gauge", "worker_partitions", "Partitions of the log that it works on.", path="shadow"),
    _of("worker", "counter", "worker_partitions_begun_total", "Partitions that it took over.", path="shadow"),
    _of("worker", "counter", "worker_leases_lost_total", "Partitions that somebody else worked on.", path="shadow"),
    _of("worker", "counter", "worker_batches_total", "Commits of micro-batches.", path="shadow"),
    _of("worker", "counter", "worker_messages_total", "Messages of the log that are committed.", path="shadow"),
    _of("worker", "counter", "worker_messages_unreadable_total", "Messages that cannot be read.", path="shadow"),
    _of(
        "worker",
        "counter",
        "worker_reported_drops_total",
        "Captures dropped by routers, as the log tells of them. counted: yes, or no without an experiment.",
        "counted",
        path="shadow",
    ),
    _of(
        "worker",
        "counter",
        "samples_not_stored_total",
        "Samples that PostgreSQL refused or had no room for. kind: comparisons, answers, dead_letters.",
        "kind",
        path="shadow",
    ),
    _of("worker", "counter", "answers_kept_total", "Pairs of answers that are kept to be labelled.", path="shadow"),
    _of("worker", "counter", "answers_too_large_total", "Those that are too large to be kept.", path="shadow"),
    _of("worker", "counter", "sessions_ended_total", "Sessions that have ended.", path="shadow"),
    _of("worker", "counter", "dead_letters_total", "Dead letters, by state.", "state", path="shadow"),
    _of("worker", "counter", "dead_letter_retries_total", "Retries, by what state follows.", "state", path="shadow"),
    _of(
        "worker",
        "counter",
        "privacy_failures_total",
        "Samples that were stored as hashes because what is hidden could not be found.",
        path="shadow",
    ),
    _of(
        "worker",
        "gauge",
        "shadow_circuit_open",
        "Whether a shadow is left in peace because it fails: 1 or 0.",
        "model",
        "version",
        path="shadow",
    ),
    _of("worker", "counter", "shadow_circuits_opened_total", "Circuits that opened.", path="shadow"),
)

_FLAGS = (
    _of(_ALL, "gauge", "build_info", "The program's version; always 1.", "program"),
    _of(_ALL, "gauge", "flags_revision", "Revision of the flags that it acts on."),
    _of(
        ("router", "control"),
        "gauge",
        "flags_age_seconds",
        "Seconds since the flags were last known to be the present ones; +Inf before the first reading.",
    ),
    _of(
        ("router", "control"),
        "gauge",
        "flags_stale",
        "Whether they are older than MULTISHADOW_FLAG_STALE_AFTER: 1 or 0. A router then shadows nothing.",
    ),
    _of(
        "router",
        "counter",
        "flag_reads_unanswered_total",
        "Readings of a foreign flag source that were completed by what was known before.",
        "reason",
    ),
    _of("control", "gauge", "flag_streams", "Streams that wait for changes of flags."),
    _of("control", "gauge", "flags_left_out", "Flags that are not handed on because readers would choke on them."),
)

_STANDING = (
    _of("control", "gauge", "standing_known", "Whether the metrics below could be read: 1 or 0."),
    _of("control", "gauge", "standing_age_seconds", "Age of the reading that they are of."),
    _of("control", "counter", "standing_failures_total", "Readings that failed."),
    _of(
        "control",
        "gauge",
        "live_version_info",
        "The version that is live when no rollout and no attribute says otherwise; always 1.",
        "model",
        "version",
        path="live",
    ),
    _of("control", "gauge", "processes", "Processes that reported of late, by kind.", "process"),
    _of(
        "control",
        "gauge",
        "alarms",
        "Alarms that are on (docs/watching.md). version is empty where the alarm is of a process.",
        "kind",
        "model",
        "version",
        "acknowledged",
    ),
    _of(
        "control",
        "gauge",
        "experiment_comparisons",
        "Comparisons that count, of the present epoch of the running experiment.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_divergence_ratio",
        "Share of comparisons that diverged or failed.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_divergence_lower_ratio",
        "Lower bound of that rate; it holds at every look, for all candidates together.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_divergence_upper_ratio",
        "Upper bound of that rate.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_completeness_ratio",
        "Share of copies that ended in a comparison.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_gates",
        "Gates of a candidate by state: pass, fail, unknown.",
        "model",
        "version",
        "state",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_sample_ratio_mismatch",
        "Whether copies were assigned or stored in other shares than they should have been: 1 or 0.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_drift",
        "Whether the rate of divergence changed from one hour to another: 1 or 0. direction: rising, falling.",
        "model",
        "version",
        "direction",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "experiment_segments_diverging",
        "Kinds of request in which divergence is proven to be more frequent than in the others; looked for every five "
        "minutes.",
        "model",
        "version",
        path="shadow",
    ),
    _of(
        "control",
        "gauge",
        "rollout_share_ratio",
        "Share of requests that a version gets at the present stage of its rollout.",
        "model",
        "version",
        path="live",
    ),
    _of(
        "control",
        "gauge",
        "rollout_state",
        "1 for the state of a rollout that goes on: running; held, its stage being over; paused.",
        "model",
        "version",
        "state",
        path="live",
    ),
    _of(
        "control",
        "gauge",
        "rollout_overdue_seconds",
        "Seconds since the present stage might have been left; 0 before.",
        "model",
        "version",
        path="live",
    ),
    _of(
        "control",
        "gauge",
        "dead_letters_stored",
        "Dead letters that are stored, by state.",
        "model",
        "version",
        "state",
        path="shadow",
    ),
)

_ROUNDS = (
    _of(
        "control",
        "counter",
        "rounds_failed_total",
        "Rounds of control that failed. what: housekeeping, rollouts, probes, alarms, proofs, weekly reports.",
        "what",
    ),
    _of("control", "counter", "webhooks_delivered_total", "Messages that receivers of webhooks took."),
    _of(
        "control", "counter", "webhook_attempts_failed_total", "Messages that receivers did not take, at each attempt."
    ),
    _of("control", "counter", "webhooks_undelivered_total", "Messages that were given up."),
    _of("control", "counter", "weekly_reports_made_total", "Weekly reports that were made by schedule."),
    _of("control", "counter", "experiments_ended_total", "Experiments whose time box was over."),
    _of("control", "counter", "experiments_moved_total", "Steps of ramps and windows."),
    _of("control", "counter", "labels_joined_total", "Labels that found the answers that they are of."),
    _of("control", "counter", "rollout_moves_total", "Moves of rollouts.", path="live"),
    _of("control", "counter", "probes_asked_total", "Known questions that versions were asked."),
    _of("control", "counter", "alarms_raised_total", "Alarms raised."),
    _of("control", "counter", "alarms_cleared_total", "Alarms that are over."),
    _of("control", "counter", "retention_days_dropped_total", "Days of comparisons dropped, by why.", "why"),
    _of("control", "counter", "retention_rows_deleted_total", "Stored rows deleted to keep within bounds."),
    _of("control", "counter", "retention_freed_bytes_total", "Bytes that dropping and deleting gave back."),
    _of("control", "gauge", "stored_bytes", "Bytes of stored comparisons and answers, as last measured."),
    _of("control", "counter", "auth_refused_total", "Calls that were not let in, by why.", "why"),
    _of("control", "counter", "writes_refused_total", "Calls refused because they would shadow a write."),
)

METRICS: tuple[Metric, ...] = _LIVE + _CAPTURING + _WORK + _FLAGS + _STANDING + _ROUNDS
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def of_role(role: str) -> tuple[Metric, ...]:
    """Those that a router, a worker or control exposes."""
    return tuple(metric for metric in METRICS if role in metric.roles)
