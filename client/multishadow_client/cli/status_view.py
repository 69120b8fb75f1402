"""What `shadowctl status` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import Experiment, GetStatusResponse, Model, ProcessStatus, Version
from multishadow.v1.rollouts_pb2 import Rollout
from multishadow_client.cli import alarm_view, figures, limits_view, schedule_view


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusView:
    """What is live, what is being compared or rolled out, and how the processes are.

    Args:
        status: control's answer.
        versions: all of them, for what they claim.
        experiments: those that run.
        rollouts: those that go on, running or paused.
        now: the time that ages are told from.
    """

    status: GetStatusResponse
    versions: Sequence[Version]
    experiments: Sequence[Experiment]
    rollouts: Sequence[Rollout]
    now: datetime

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield models, the log, and the processes."""
        yield Text.assemble(("revision ", "dim"), str(self.status.revision), (self._waiting(), "dim"))
        for warning in self.status.warnings:
            yield Text.assemble(("warning: ", "bold red"), warning)
        yield Text()
        for model in self.status.models:
            yield from self._model(model)
        if not self.status.models:
            yield Text("no models yet: describe one in a file and `shadowctl apply -f model.yaml`", style="dim")
        yield from alarm_view.probe_summary(self.status.probes)
        yield from alarm_view.footer(self.status.alarms)
        yield Text()
        if self.status.processes:
            yield self._processes()
            yield from _flag_sources(self.status.processes)
            yield from limits_view.samplings(self.status.processes)
            yield from _counters([process for process in self.status.processes if process.alive])
            if gone := list(_counters([process for process in self.status.processes if not process.alive])):
                yield Text("what silent processes said last:", style="dim")
                yield from gone
        else:
            yield Text("no process has said how it is", style="dim")

    def _waiting(self) -> str:
        if not self.status.HasField("log_messages_waiting"):
            return "  ·  the capture log cannot be asked"
        return f"  ·  {figures.count(self.status.log_messages_waiting)} messages wait in the capture log"

    def _model(self, model: Model) -> Iterator[Text]:
        live = (model.live_version, "bold green") if model.live_version else ("nothing", "bold red")
        yield Text.assemble((model.name, "bold"), ": live is ", live)
        if others := [
            f"{version.name} {limits_view.claim(version)}"
            for version in self.versions
            if version.model == model.name and version.name != model.live_version
        ]:
            yield Text(f"  beside it: {', '.join(others)}")
        if writes := limits_view.writes(model):
            yield Text(f"  {writes}", style="yellow")
        for experiment in self.experiments:
            if experiment.model == model.name:
                left = figures.span(experiment.ends_at.seconds - self.now.timestamp())
                names = ", ".join(experiment.candidates)
                share = schedule_view.share(experiment)
                yield Text(f"  experiment {experiment.id}: {names} on {share} of requests, {left} left")
                for line in schedule_view.lines(experiment):
                    yield Text(f"    {line}", style="dim")
        for rollout in self.rollouts:
            if rollout.model == model.name:
                last = rollout.terms.stages[-1] if rollout.terms.stages else 100
                yield Text(
                    f"  rollout {rollout.id}: {rollout.version} over {rollout.previous_version}, {rollout.state} at "
                    f"{rollout.percent:g} % of {last:g} % (shadowctl rollout status --model {model.name})"
                )

    def _processes(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        for header in ("role", "instance", "host", "pid", "up", "seen", "revision", "state"):
            table.add_column(header, overflow="fold")
        for process in self.status.processes:
            table.add_row(
                process.role,
                process.instance,
                process.host,
                str(process.pid),
                figures.span(self.now.timestamp() - process.started_at.seconds),
                figures.ago(process.seen_at, self.now),
                str(process.revision) if process.role != "control" else figures.NONE,
                self._state(process),
            )
        return table

    def _state(self, process: ProcessStatus) -> Text:
        if not process.alive:
            return Text("silent", style="bold red")
        # Control acts on the database itself, never on a copy that could be behind; a worker reads what a capture was
        # decided by, when it comes.
        behind = self.status.revision - process.revision if process.role == "router" else 0
        return Text(f"{behind} behind", style="yellow") if behind > 0 else Text("alive", style="green")


def _flag_sources(processes: Sequence[ProcessStatus]) -> Iterator[Text]:
    for process in processes:
        if process.flag_source:
            yield Text.assemble(
                (f"{process.instance}: ", "bold"), (f"reads flags from {process.flag_source}", "yellow")
            )


def _counters(processes: Sequence[ProcessStatus]) -> Iterator[Text]:
    for process in processes:
        counted = [f"{name} {figures.count(number)}" for name, number in sorted(process.counters.items()) if number]
        if counted:
            yield Text.assemble((f"{process.instance}: ", "bold"), (", ".join(counted), "dim"))
