"""Values of metrics, and how the counters by which a process reports itself become such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from multishadow_server.core.latency_ladder import Distribution
from multishadow_server.core.metric_catalogue import PREFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One value of a metric.

    Args:
        name: of the metric; it is in the catalogue.
        value: a number; for a histogram its distribution.
        labels: a value for each of the metric's labels but `role`, which the catalogue knows.
    """

    name: str
    value: float | Distribution
    labels: Mapping[str, str] = field(default_factory=dict)


def sample(name: str, value: float | Distribution, **labels: str) -> Sample:
    """A sample of the metric of that name, without the prefix that all share."""
    return Sample(name=f"{PREFIX}{name}", value=value, labels=labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """Where a role's counters are found among its metrics.

    Args:
        plain: metric and labels by the counter's name; exposed as 0 until it is counted.
        by_reason: metric and label by what such counters' names begin with; the rest of the name is the label's value.
        told_otherwise: counters, and beginnings of counters that end in a dot, of which metrics tell in other ways.
    """

    plain: Mapping[str, tuple[str, Mapping[str, str]]]
    by_reason: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    told_otherwise: frozenset[str] = frozenset()

    def samples(self, counters: Mapping[str, int]) -> Iterator[Sample]:
        """What the counters say."""
        for name, (metric, labels) in self.plain.items():
            yield sample(metric, counters.get(name, 0), **labels)
        for name, count in counters.items():
            if name in self.plain:
                continue
            for beginning, (metric, label) in self.by_reason.items():
                if name.startswith(beginning):
                    yield sample(metric, count, **{label: name.removeprefix(beginning)})

    def knows(self, counter: str) -> bool:
        """Whether some metric tells of this counter."""
        return (
            counter in self.plain
            or counter in self.told_otherwise
            or counter.startswith(tuple(self.by_reason))
            or any(name.endswith(".") and counter.startswith(name) for name in self.told_otherwise)
        )


_NONE: Mapping[str, str] = {}

ROUTER = Translation(
    plain={
        "requests": ("router_requests_total", _NONE),
        "cancelled": ("live_cancelled_total", _NONE),
        "fallbacks": ("live_fallbacks_total", _NONE),
        "live_failures": ("live_failures_total", _NONE),
        "passed_on": ("live_passed_on_total", _NONE),
        "replayed": ("live_replayed_total", _NONE),
        "live_counts.late": ("live_uncounted_total", _NONE),
        "sampled": ("sampling_requests_total", {"decision": "sampled"}),
        "sampling.passed_over": ("sampling_requests_total", {"decision": "passed_over"}),
        "writes.not_shadowed": ("sampling_requests_total", {"decision": "write"}),
        "captured": ("captures_appended_total", _NONE),
        # Known beforehand: Prometheus takes no rise from the first value of a series.
        "dropped.buffer_full": ("captures_dropped_total", {"reason": "buffer_full"}),
        "dropped.log_full": ("captures_dropped_total", {"reason": "log_full"}),
        "dropped.too_large": ("captures_dropped_total", {"reason": "too_large"}),
        "dropped.unwritable": ("captures_dropped_total", {"reason": "unwritable"}),
        "buffered": ("buffer_captures", _NONE),
        "buffered_bytes": ("buffer_bytes", _NONE),
    },
    by_reason={
        "dropped.": ("captures_dropped_total", "reason"),
        "flag_reads_": ("flag_reads_unanswered_total", "reason"),
    },
    told_otherwise=frozenset({"flag_age_ms", "sampling_permille"}),
)

WORKER = Translation(
    plain={
        "not_a_candidate": ("copies_to_strangers_total", _NONE),
        "partitions": ("worker_partitions", _NONE),
        "partitions_begun": ("worker_partitions_begun_total", _NONE),
        "under_way": ("worker_captures_under_way", _NONE),
        "lease_lost": ("worker_leases_lost_total", _NONE),
        "batches": ("worker_batches_total", _NONE),
        "messages": ("worker_messages_total", _NONE),
        "unreadable_message": ("worker_messages_unreadable_total", _NONE),
        "comparisons_refused": ("samples_not_stored_total", {"kind": "comparisons"}),
        "answers_refused": ("samples_not_stored_total", {"kind": "answers"}),
        "answers.kept": ("answers_kept_total", _NONE),
        "answers.too_large": ("answers_too_large_total", _NONE),
        "sessions_ended": ("sessions_ended_total", _NONE),
        "privacy.failed": ("privacy_failures_total", _NONE),
        "circuits.opened": ("shadow_circuits_opened_total", _NONE),
    },
    by_reason={
        "captures.": ("shadow_captures_total", "fate"),
        "dead_letter_retries.": ("dead_letter_retries_total", "state"),
    },
    told_otherwise=frozenset(
        {"captures", "lag_ms", "observations.", "noise.", "dropped.", "circuit_open.", "log_drops", "dead_letters."}
        | {"log_drops.no_experiment"}
    ),
)

CONTROL = Translation(
    plain={
        "experiments.ended": ("experiments_ended_total", _NONE),
        "experiments.moved": ("experiments_moved_total", _NONE),
        "labels.joined": ("labels_joined_total", _NONE),
        "rollouts.moves": ("rollout_moves_total", _NONE),
        "probes.asked": ("probes_asked_total", _NONE),
        "alarms.raised": ("alarms_raised_total", _NONE),
        "alarms.cleared": ("alarms_cleared_total", _NONE),
        "housekeeping.failed_rounds": ("rounds_failed_total", {"what": "housekeeping"}),
        "rollouts.failed_rounds": ("rounds_failed_total", {"what": "rollouts"}),
        "probes.failed_rounds": ("rounds_failed_total", {"what": "probes"}),
        "alarms.failed_rounds": ("rounds_failed_total", {"what": "alarms"}),
        "retention.days_expired": ("retention_days_dropped_total", {"why": "age"}),
        "retention.days_dropped": ("retention_days_dropped_total", {"why": "size"}),
        "retention.rows_deleted": ("retention_rows_deleted_total", _NONE),
        "retention.bytes_freed": ("retention_freed_bytes_total", _NONE),
        "retention.stored_bytes": ("stored_bytes", _NONE),
        "flags.streams": ("flag_streams", _NONE),
        "flags.left_out": ("flags_left_out", _NONE),
        "writes.refused": ("writes_refused_total", _NONE),
        "webhooks.delivered": ("webhooks_delivered_total", _NONE),
        "webhooks.failed_attempts": ("webhook_attempts_failed_total", _NONE),
        "webhook_undelivered": ("webhooks_undelivered_total", _NONE),
        "webhooks.failed_looks": ("rounds_failed_total", {"what": "proofs"}),
        "weekly_reports.made": ("weekly_reports_made_total", _NONE),
        "weekly_reports.failed": ("rounds_failed_total", {"what": "weekly reports"}),
    },
    by_reason={"auth.": ("auth_refused_total", "why")},
)
