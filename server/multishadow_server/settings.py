"""Settings of the roles, from environment variables `MULTISHADOW_<NAME>`."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1 << 20


class Settings(BaseSettings):
    """Everything that can be set. Command line options win over the environment."""

    model_config = SettingsConfigDict(env_prefix="MULTISHADOW_", extra="ignore", frozen=True)

    database_url: str | None = Field(
        default=None, description="PostgreSQL to use; without it `serve` starts an embedded one."
    )
    nats_url: str | None = Field(
        default=None, description="NATS server to use; without it `serve` starts an embedded one."
    )
    data_dir: Path = Field(default=Path(".multishadow"), description="Where embedded engines keep their data.")
    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", description="This process's name in reports."
    )

    router_listen: str = Field(default="127.0.0.1:50051", description="Address of the router.")
    control_listen: str = Field(default="127.0.0.1:50052", description="Address of control.")
    http_listen: str = Field(default="127.0.0.1:50053", description="Address of control's HTTP: OFREP and probes.")

    metrics_listen: str | None = Field(
        default=None,
        description="Address of a router's or worker's metrics; `serve` counts its port up. Control's are at its HTTP.",
    )

    tls_cert: Path | None = Field(
        default=None,
        description="Certificate chain (PEM) that every port here serves with; with it they speak TLS only.",
    )
    tls_key: Path | None = Field(default=None, description="Its private key (PEM, without a password).")
    tls_client_ca: Path | None = Field(
        default=None, description="Who connects must show a certificate of this authority (PEM): mutual TLS."
    )
    versions_ca: Path | None = Field(
        default=None, description="Authority (PEM) of version servers at `tls://` addresses; else the public ones."
    )
    versions_cert: Path | None = Field(default=None, description="Certificate (PEM) to show to these version servers.")
    versions_key: Path | None = Field(default=None, description="Its private key (PEM, without a password).")
    nats_ca: Path | None = Field(
        default=None, description="Authority (PEM) of a NATS server at `tls://`; else the system's."
    )
    nats_cert: Path | None = Field(default=None, description="Certificate (PEM) to show to the NATS server.")
    nats_key: Path | None = Field(default=None, description="Its private key (PEM, without a password).")
    auth: Literal["off", "tokens"] = Field(
        default="off", description="Whether control asks for a token: off or tokens."
    )
    flags_auth: Literal["open", "tokens"] = Field(
        default="tokens",
        description="With tokens: whether reading flags (flagd, OFREP) needs one, too; open or tokens.",
    )
    tokens_stale_after: float = Field(
        default=3_600.0, gt=0, description="Tokens that could not be read again for so many seconds open nothing."
    )
    reflection: Literal["on", "off"] = Field(
        default="on", description="Whether routers and control describe their services to gRPC reflection: on or off."
    )
    ui_hosts: str = Field(
        default="",
        description="Names by which browsers may open the web page while nobody needs a token, apart by commas.",
    )
    max_message_bytes: int = Field(default=16 * MEBIBYTE, gt=0, description="Largest request or response.")

    buffer_captures: int = Field(default=10_000, gt=0, description="Most captures that a router holds before the log.")
    buffer_bytes: int = Field(default=64 * MEBIBYTE, gt=0, description="Most bytes of captures that a router holds.")
    flush_interval: float = Field(
        default=0.25, gt=0, description="Longest time a capture waits for its batch, seconds."
    )
    flush_captures: int = Field(default=256, gt=0, description="Most captures in one message of the log.")
    flush_bytes: int = Field(
        default=4 * MEBIBYTE, gt=0, description="Most bytes of captures in one message of the log."
    )

    log_name: str = Field(default="captures", pattern=r"^[A-Za-z0-9_-]+$", description="Name of the JetStream stream.")
    log_partitions: int = Field(default=8, ge=1, le=256, description="Partitions of a new capture log.")
    log_max_bytes: int = Field(default=1024 * MEBIBYTE, gt=0, description="Size limit of the capture log; full: drops.")

    log_replicas: int = Field(
        default=1, ge=1, le=5, description="Servers of a NATS cluster that each keep a copy of the log."
    )
    sampling_lag: float = Field(
        default=60.0, gt=0, description="Age of the log's oldest capture at which routers sample less, seconds."
    )
    sampling_fill: float = Field(
        default=0.5, gt=0, lt=1, description="Share of the log, or of a buffer, in use at which routers sample less."
    )
    sampling_interval: float = Field(
        default=1.0, gt=0, description="Seconds between a router's looks at the log and its buffer."
    )

    flag_provider: str | None = Field(
        default=None, description="Where routers read flags instead: an OpenFeature provider, `module:factory`."
    )
    flag_key_template: str = Field(
        default="{model}.{version}",
        pattern=r"^[^{}]*(\{model\}[^{}]*\{version\}|\{version\}[^{}]*\{model\})[^{}]*$",
        description="Key of a version's flag at that provider.",
    )
    flag_read_limit: float = Field(
        default=0.05, gt=0, description="Longest time a request waits for that provider, seconds."
    )
    flag_check_interval: float = Field(
        default=2.0, gt=0, description="Seconds between checks for a missed announcement."
    )
    flag_stale_after: float = Field(
        default=10.0, gt=0, description="Flags unconfirmed for so many seconds stop shadowing."
    )
    configuration_copy: Path | None = Field(
        default=None, description="File in which routers keep what they serve by; `serve` keeps one in its data folder."
    )
    ofrep_evaluations_per_second: int = Field(
        default=20_000, gt=0, description="Most flags that control evaluates over HTTP in a second."
    )

    worker_batch_captures: int = Field(default=256, gt=0, description="Most captures in a micro-batch.")
    worker_linger: float = Field(
        default=1.0, gt=0, description="Shortest time between commits that are not full, seconds."
    )
    worker_captures: int = Field(default=2_048, gt=0, description="Most captures that a worker has under way at once.")
    worker_bytes: int = Field(
        default=64 * MEBIBYTE, gt=0, description="Most bytes of captures that a worker has under way."
    )
    dead_letter_interval: float = Field(
        default=1.0, gt=0, description="Seconds between a worker's looks at dead letters that are due."
    )
    comparison_processes: int = Field(default=1, ge=1, description="Processes for heavy comparisons.")
    kept_divergent_per_hour: int = Field(
        default=1_000, ge=0, description="Most divergent comparisons kept per epoch and hour."
    )
    kept_sample_per_hour: int = Field(default=100, ge=0, description="Other comparisons kept per epoch and hour.")
    retention_days: int = Field(default=30, gt=0, description="Days that stored comparisons are kept.")
    retention_bytes: int | None = Field(
        default=None,
        ge=16 * MEBIBYTE,
        description="Most bytes of stored comparisons and answers; the oldest go.",
    )
    hash_key: str | None = Field(
        default=None,
        min_length=16,
        repr=False,
        description="Key of hashes of payloads, the same everywhere; without it one is kept in the database.",
    )
    log_key: str | None = Field(
        default=None,
        min_length=16,
        repr=False,
        description="Encrypts the embedded nats-server's files; your own server has a setting for it.",
    )

    hourly_counts_days: int = Field(
        default=90, ge=31, description="Days after its end for which an epoch's counts are kept by the hour."
    )

    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines of the log on standard error: text or json."
    )
    weekly_report_at: str = Field(
        default="mon 06:00",
        pattern=r"^(off|(mon|tue|wed|thu|fri|sat|sun) ([01]?\d|2[0-3]):[0-5]\d)$",
        description="When control makes the report on a week that is over: a day and a time in UTC; or off.",
    )
    report_interval: float = Field(default=1.0, gt=0, description="Seconds between a process's reports of itself.")
    rollout_interval: float = Field(
        default=1.0, gt=0, description="Seconds between control's looks at rollouts that go on."
    )
    watch_interval: float = Field(
        default=1.0, gt=0, description="Seconds between control's looks for alarms, and for probes that are due."
    )
    alarm_silent_after: float = Field(
        default=15.0, gt=0, description="Seconds that a shadow may answer nothing before an alarm."
    )
    alarm_window: float = Field(default=60.0, gt=0, description="Seconds that alarms take shares over.")
    alarm_clear_after: float = Field(
        default=10.0, gt=0, description="Seconds that an alarm stays on after what raised it was found last."
    )
    drain_seconds: float = Field(default=10.0, gt=0, description="Longest time for calls under way when a role stops.")
    drain_delay: float = Field(
        default=0.0,
        ge=0,
        description="Seconds for which routers and control say NOT_SERVING and go on serving when they stop.",
    )

    @property
    def ui_host_names(self) -> tuple[str, ...]:
        """The names of `ui_hosts`."""
        return tuple(name.strip().lower() for name in self.ui_hosts.split(",") if name.strip())
