"""The command line as a whole: its commands, and what happens when one fails."""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from multishadow_client._errors import MultishadowError
from multishadow_client.cli import (
    alarm_commands,
    audit_command,
    calibrate_command,
    connection,
    cost_command,
    dead_letter_commands,
    divergence_commands,
    exit_code,
    experiment_commands,
    export_command,
    flag_commands,
    flag_document_commands,
    flag_history_commands,
    gate_commands,
    label_commands,
    model_commands,
    pause_commands,
    planning_commands,
    predict_command,
    privacy_commands,
    promotion_commands,
    replay_command,
    report_command,
    review_commands,
    rollout_commands,
    segment_commands,
    session_commands,
    status_command,
    terminal,
    token_commands,
    webhook_commands,
)
from multishadow_client.cli.exit_code import ExitCode, Mistake, Refused
from multishadow_client.cli.model_commands import GET_EXAMPLES
from multishadow_client.cli.options import examples
from multishadow_client.cli.ramp import CommandWithRamp
from multishadow_client.cli.report_command import CommandWithWeek

_HELP = """Compare versions of a model on real traffic, promote the best, roll back.

Callers always get the live version's answer; candidates answer copies of the same requests, and are compared with it.
"""
_EPILOG = examples(
    "shadowctl apply -f model.yaml",
    "shadowctl use spam",
    "shadowctl start A B C --percent 25 --for 14d",
    "shadowctl compare A B C --watch",
    "shadowctl gates A",
    "shadowctl promote A",
    "shadowctl rollback",
) + (
    "\n\nExit codes: 0 yes, 1 failed, 2 usage, 3 not yet or inconclusive, 4 refused."
    "\nEnvironment: MULTISHADOW_CONTROL, MULTISHADOW_MODEL, MULTISHADOW_ROUTER, MULTISHADOW_ACTOR, MULTISHADOW_TOKEN,"
    "\nMULTISHADOW_TOKEN_FILE, MULTISHADOW_CLIENT_TLS, _CA, _CERT, _KEY, _SERVER_NAME."
)

program = typer.Typer(
    name="shadowctl",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(wanted: bool) -> None:  # noqa: FBT001  as Typer calls it
    if wanted:
        typer.echo(f"shadowctl {version('multishadow')}")
        raise typer.Exit


@program.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Say which version this is.")
    ] = False,
) -> None:
    """What goes before a command."""


def _add(
    group: typer.Typer, name: str, command: Callable[..., None], examples: str, cls: type[TyperCommand] = TyperCommand
) -> None:
    """Add a command whose help is its docstring; Typer would keep the source's line breaks."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    reflowed = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    group.command(name, cls=cls, help=reflowed, epilog=examples)(connection.connecting(command))


_get = typer.Typer(no_args_is_help=True, help="List models, versions, flags or experiments.", epilog=GET_EXAMPLES)
_label = typer.Typer(no_args_is_help=True, help="Tell what the right answers were, by request id.")
_review = typer.Typer(no_args_is_help=True, help="Look at two answers side by side, and say which is better.")
_divergences = typer.Typer(
    no_args_is_help=True, help="Find stored answers, look at them side by side, judge them, and take them out."
)
_sessions = typer.Typer(invoke_without_command=True)
_rollout = typer.Typer(no_args_is_help=True, help="See and steer a staged promotion.")
_privacy = typer.Typer(no_args_is_help=True, help="See and erase what is stored of traffic.")
_token = typer.Typer(no_args_is_help=True, help="Say who may do what.")
_alarms = typer.Typer(
    invoke_without_command=True,
    help="See what is wrong while nobody looks; without a command, the same as `list`.",
    callback=alarm_commands.alarms,
    epilog=alarm_commands.LIST_EXAMPLES,
)
_dead_letter = typer.Typer(no_args_is_help=True, help="Shadow calls that failed: look, try again, delete.")
_webhook = typer.Typer(no_args_is_help=True, help="Have decisions and alarms posted to others.")
_flags = typer.Typer(no_args_is_help=True, help="Read and change flags: of versions, and any others.")

_add(program, "apply", model_commands.apply, model_commands.APPLY_EXAMPLES)
program.add_typer(_get, name="get")
for listing in (
    model_commands.get_models,
    model_commands.get_versions,
    model_commands.get_flags,
    model_commands.get_experiments,
):
    _add(_get, listing.__name__.removeprefix("get_"), listing, GET_EXAMPLES)
_add(program, "use", model_commands.use, model_commands.USE_EXAMPLES)
program.add_typer(_flags, name="flags")
# What it was called when it could only set claims.
program.add_typer(_flags, name="flag", hidden=True)
_add(_flags, "get", flag_commands.get, flag_commands.GET_EXAMPLES)
_add(_flags, "set", flag_commands.set_flag, flag_commands.SET_EXAMPLES)
_add(_flags, "edit", flag_commands.edit, flag_commands.EDIT_EXAMPLES)
_add(_flags, "history", flag_history_commands.history, flag_history_commands.HISTORY_EXAMPLES)
_add(_flags, "diff", flag_history_commands.diff, flag_history_commands.DIFF_EXAMPLES)
_add(_flags, "revert", flag_history_commands.revert, flag_history_commands.REVERT_EXAMPLES)
_add(_flags, "delete", flag_commands.delete, flag_commands.DELETE_EXAMPLES)
_add(_flags, "import", flag_document_commands.import_flags, flag_document_commands.IMPORT_EXAMPLES)
_add(_flags, "export", flag_document_commands.export, flag_document_commands.EXPORT_EXAMPLES)
_add(program, "start", experiment_commands.start, experiment_commands.START_EXAMPLES, CommandWithRamp)
_add(program, "stop", experiment_commands.stop, experiment_commands.STOP_EXAMPLES)
_add(program, "pause", pause_commands.pause, pause_commands.PAUSE_EXAMPLES)
_add(program, "resume", pause_commands.resume, pause_commands.RESUME_EXAMPLES)
_add(program, "compare", experiment_commands.compare, experiment_commands.COMPARE_EXAMPLES)
_add(program, "segments", segment_commands.segments, segment_commands.SEGMENTS_EXAMPLES)
session_commands.add_to(_sessions)
program.add_typer(_sessions, name="sessions", help=session_commands.HELP, epilog=session_commands.LIST_EXAMPLES)
_add(_sessions, "show", session_commands.show, session_commands.SHOW_EXAMPLES)
program.add_typer(_label, name="label")
_add(_label, "add", label_commands.add, label_commands.ADD_EXAMPLES)
_add(_label, "import", label_commands.import_labels, label_commands.IMPORT_EXAMPLES)
_add(_label, "status", label_commands.status, label_commands.STATUS_EXAMPLES)
_add(program, "gates", gate_commands.gates, gate_commands.GATES_EXAMPLES)
_add(program, "attest", gate_commands.attest, gate_commands.ATTEST_EXAMPLES)
_add(program, "waive", gate_commands.waive, gate_commands.WAIVE_EXAMPLES)
_add(program, "power", planning_commands.power, planning_commands.POWER_EXAMPLES)
_add(program, "cost", cost_command.cost, cost_command.EXAMPLES)
_add(program, "report", report_command.report, report_command.EXAMPLES, CommandWithWeek)
_add(program, "advise", planning_commands.advise, planning_commands.ADVISE_EXAMPLES)
program.add_typer(_divergences, name="divergences")
_add(_divergences, "list", divergence_commands.list_divergences, divergence_commands.LIST_EXAMPLES)
_add(_divergences, "show", divergence_commands.show, divergence_commands.SHOW_EXAMPLES)
_add(_divergences, "review", divergence_commands.review, divergence_commands.REVIEW_EXAMPLES)
_add(_divergences, "export", export_command.export, export_command.EXAMPLES)
# What it was called when it could neither filter nor export; it stays as it was.
program.add_typer(_review, name="review", hidden=True)
_add(_review, "list", review_commands.list_comparisons, review_commands.LIST_EXAMPLES)
_add(_review, "show", review_commands.show, review_commands.SHOW_EXAMPLES)
_add(_review, "record", review_commands.record, review_commands.RECORD_EXAMPLES)
_add(program, "calibrate", calibrate_command.calibrate, calibrate_command.EXAMPLES)
_add(program, "promote", promotion_commands.promote, promotion_commands.PROMOTE_EXAMPLES)
_add(program, "rollback", promotion_commands.rollback, promotion_commands.ROLLBACK_EXAMPLES)
program.add_typer(_rollout, name="rollout")
_add(_rollout, "status", rollout_commands.status, rollout_commands.STATUS_EXAMPLES)
_add(_rollout, "list", rollout_commands.list_rollouts, rollout_commands.LIST_EXAMPLES)
_add(_rollout, "pause", rollout_commands.pause, rollout_commands.PAUSE_EXAMPLES)
_add(_rollout, "resume", rollout_commands.resume, rollout_commands.RESUME_EXAMPLES)
_add(_rollout, "step", rollout_commands.step, rollout_commands.STEP_EXAMPLES)
_add(_rollout, "abort", rollout_commands.abort, rollout_commands.ABORT_EXAMPLES)
program.add_typer(_privacy, name="privacy")
_add(_privacy, "show", privacy_commands.show, privacy_commands.SHOW_EXAMPLES)
_add(_privacy, "apply", privacy_commands.apply, privacy_commands.APPLY_EXAMPLES)
_add(_privacy, "purge", privacy_commands.purge, privacy_commands.PURGE_EXAMPLES)
program.add_typer(_token, name="token")
_add(_token, "create", token_commands.create, token_commands.CREATE_EXAMPLES)
_add(_token, "list", token_commands.list_tokens, token_commands.LIST_EXAMPLES)
_add(_token, "rotate", token_commands.rotate, token_commands.ROTATE_EXAMPLES)
_add(_token, "revoke", token_commands.revoke, token_commands.REVOKE_EXAMPLES)
_add(_token, "whoami", token_commands.whoami, token_commands.WHOAMI_EXAMPLES)
_add(program, "audit", audit_command.audit, audit_command.EXAMPLES)
program.add_typer(_alarms, name="alarms")
_add(_alarms, "list", alarm_commands.list_alarms, alarm_commands.LIST_EXAMPLES)
_add(_alarms, "ack", alarm_commands.acknowledge, alarm_commands.ACK_EXAMPLES)
_add(_alarms, "history", alarm_commands.history, alarm_commands.HISTORY_EXAMPLES)
_add(program, "probes", alarm_commands.probes, alarm_commands.PROBES_EXAMPLES)
_add(program, "replay", replay_command.replay, replay_command.EXAMPLES)
program.add_typer(_dead_letter, name="deadletter")
_add(_dead_letter, "list", dead_letter_commands.list_letters, dead_letter_commands.LIST_EXAMPLES)
_add(_dead_letter, "show", dead_letter_commands.show, dead_letter_commands.SHOW_EXAMPLES)
_add(_dead_letter, "retry", dead_letter_commands.retry, dead_letter_commands.RETRY_EXAMPLES)
_add(_dead_letter, "purge", dead_letter_commands.purge, dead_letter_commands.PURGE_EXAMPLES)
program.add_typer(_webhook, name="webhook")
_add(_webhook, "create", webhook_commands.create, webhook_commands.CREATE_EXAMPLES)
_add(_webhook, "list", webhook_commands.list_webhooks, webhook_commands.LIST_EXAMPLES)
_add(_webhook, "show", webhook_commands.show, webhook_commands.SHOW_EXAMPLES)
_add(_webhook, "test", webhook_commands.send_test, webhook_commands.TEST_EXAMPLES)
_add(_webhook, "rotate", webhook_commands.rotate, webhook_commands.ROTATE_EXAMPLES)
_add(_webhook, "delete", webhook_commands.delete, webhook_commands.DELETE_EXAMPLES)
_add(_webhook, "deliveries", webhook_commands.deliveries, webhook_commands.DELIVERIES_EXAMPLES)
_add(_webhook, "retry", webhook_commands.retry, webhook_commands.RETRY_EXAMPLES)
_add(program, "status", status_command.status, status_command.EXAMPLES)
_add(program, "predict", predict_command.predict, predict_command.EXAMPLES)


@cache
def command() -> Any:  # noqa: ANN401  Typer's own copy of Click
    """All commands as one, which takes a tenth of a second to make."""
    return typer.main.get_command(program)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit; see ExitCode.

    Args:
        arguments: without the program's name; None takes those of this process.

    Raises:
        SystemExit: always.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show an en dash still gets the figures around it.
            stream.reconfigure(errors="replace")
    try:
        command()(args=arguments, prog_name="shadowctl")
    except (MultishadowError, Mistake, Refused) as error:
        notes = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
        terminal.complain(f"{notes}{error}", connection.advice(error) or exit_code.hint(error))
        sys.exit(exit_code.of(error))
    except Exception as error:
        if os.environ.get("MULTISHADOW_TRACEBACK"):
            raise
        name = type(error).__name__
        terminal.complain(
            f"shadowctl itself failed: {name}: {error}", "MULTISHADOW_TRACEBACK=1 shows where; please report it"
        )
        sys.exit(ExitCode.FAILED)
