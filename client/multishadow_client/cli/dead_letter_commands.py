"""deadletter list, show, retry, purge: shadow calls that failed."""

from __future__ import annotations

import base64
import sys
import time
from collections import Counter
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from multishadow.v1 import deadletters_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, dead_letter_view, document, duration, terminal
from multishadow_client.cli.exit_code import ExitCode, Mistake
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Model, Output, Server, Timeout, actor, examples
from multishadow_client.cli.terminal import Format

LIST_EXAMPLES = examples(
    "shadowctl deadletter list",
    "shadowctl deadletter list --model spam --version A --state parked --since 2h",
    "shadowctl deadletter list --before 4711 -o json | jq -r '.dead_letters[].id'",
)
SHOW_EXAMPLES = examples("shadowctl deadletter show 4711", "shadowctl deadletter show 4711 -o json")
RETRY_EXAMPLES = examples(
    "shadowctl deadletter retry 4711",
    "shadowctl deadletter retry --all --model spam --version A --state parked",
    "shadowctl deadletter retry --all --no-wait",
)
PURGE_EXAMPLES = examples(
    "shadowctl deadletter purge 4711 --yes", "shadowctl deadletter purge --all --model spam --state answered"
)

_LOOK_SECONDS = 0.5
_Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, show_default=False, help="Which ones.")]
_All = Annotated[bool, typer.Option("--all", help="All that the filters choose, instead of some by ID.")]
_Version = Annotated[
    str,
    typer.Option("--version", metavar="VERSION", help="Only those for it.", autocompletion=completion.versions),
]
_State = Annotated[str, typer.Option("--state", metavar="STATE", help="Only waiting, parked or answered ones.")]
_Since = Annotated[
    int,
    typer.Option(
        "--since", metavar="TIME", parser=duration.seconds, show_default=False, help="Only those of the last 2h, 3d, …"
    ),
]


def list_letters(
    *,
    version: _Version = "",
    state: _State = "",
    since: _Since = 0,
    most: Annotated[int, typer.Option("--most", min=1, max=1000, metavar="N", help="At most so many.")] = 100,
    before: Annotated[
        int, typer.Option("--before", min=0, metavar="ID", show_default=False, help="The page after this one.")
    ] = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List shadow calls that failed and are tried again or kept, newest first; of all models unless one is named.

    What happens to them changes no statistics: their first outcome counts.
    """
    request = pb.ListDeadLettersRequest(
        filter=_filter([], model=model, version=version, state=state, since=since), page_size=most, before_id=before
    )
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_dead_letters(request)
    terminal.show(output, dead_letter_view.listing(response.dead_letters), document.plain(response))
    if response.next_before_id and output is Format.TABLE:
        terminal.remark(f"there are more: --before {response.next_before_id}")


def show(
    *,
    letter: Annotated[int, typer.Argument(metavar="ID", min=1, help="Which: see `deadletter list`.")],
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Show one with its request and live answer; as JSON or YAML their bytes are base64."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.get_dead_letter(letter)
    # As protobuf's own JSON has it: the bytes may be anything.
    payload = {name: base64.b64encode(getattr(response, name)).decode() for name in ("request", "response")}
    terminal.show(output, dead_letter_view.letter(response), document.plain(response) | payload)


def retry(
    *,
    ids: _Ids = None,
    all_: _All = False,
    version: _Version = "",
    state: _State = "",
    since: _Since = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they were tried, and say how it went.")] = (
        True
    ),
    within: Annotated[
        int,
        typer.Option("--within", metavar="TIME", parser=duration.seconds, show_default="1m", help="Wait no longer."),
    ] = 60,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Have workers try some once more, now: parked ones, too, and whatever the model's policy says.

    Ends with 0 when all were answered, with 1 when some failed again or cannot be tried, with 3 when some still wait.
    """
    chosen = _chosen(ids, all_=all_, model=model, version=version, state=state, since=since)
    with ControlClient(server, timeout=timeout) as control:
        asked = control.retry_dead_letters(pb.RetryDeadLettersRequest(filter=chosen, actor=actor()))
        states = Counter(waiting=asked.count)
        if wait and asked.count:
            states = _followed(control, asked.retry, time.monotonic() + within)
    answer = {"retry": asked.retry, "count": asked.count, "impossible": asked.impossible}
    answer |= {name: states[name] for name in ("answered", "parked", "waiting")}
    terminal.show(output, Text(_went(asked, states)), answer)
    raise typer.Exit(_exit_code(asked, states))


def _followed(control: ControlClient, name: str, deadline: float) -> Counter[str]:
    """Wait until all were tried, or until the deadline on the monotonic clock."""
    said = ""
    while True:
        states = dead_letter_view.by_state(control.count_dead_letters(pb.DeadLetterFilter(retry=name)).counts)
        progress = f"{states['answered']} answered, {states['parked']} failed again, {states['waiting']} to go"
        if progress != said:
            terminal.remark(progress)
            said = progress
        if not states["waiting"] or time.monotonic() >= deadline:
            return states
        time.sleep(_LOOK_SECONDS)


def _went(asked: pb.RetryDeadLettersResponse, states: Counter[str]) -> str:
    if not asked.count and not asked.impossible:
        return "there is nothing to try again"
    parts = [f"{asked.count} tried again: {states['answered']} answered, {states['parked']} failed again"]
    if states["waiting"]:
        parts.append(f"{states['waiting']} still wait for a worker: `shadowctl deadletter list --state waiting`")
    if asked.impossible:
        parts.append(f"{asked.impossible} cannot be tried: their payload was not kept whole")
    return "; ".join(parts)


def _exit_code(asked: pb.RetryDeadLettersResponse, states: Counter[str]) -> ExitCode:
    if states["parked"] or asked.impossible:
        return ExitCode.FAILED
    return ExitCode.NOT_YET if states["waiting"] else ExitCode.YES


def purge(
    *,
    ids: _Ids = None,
    all_: _All = False,
    version: _Version = "",
    state: _State = "",
    since: _Since = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Delete some, with their payloads, for good.

    Ends with 1 when one that was named by its ID is not there.
    """
    chosen = _chosen(ids, all_=all_, model=model, version=version, state=state, since=since)
    with ControlClient(server, timeout=timeout) as control:
        if not yes:
            _ask(dead_letter_view.by_state(control.count_dead_letters(chosen).counts))
        purged = 0
        while True:
            part = control.purge_dead_letters(pb.PurgeDeadLettersRequest(filter=chosen, actor=actor()))
            purged += part.purged
            if not part.more:
                break
            terminal.remark(f"{purged} deleted …")
    missing = max(0, len(set(ids or ())) - purged)
    gone = f"; {missing} of those that you named are not there" if missing else ""
    terminal.show(output, Text(f"{purged} dead letters deleted{gone}"), {"purged": purged, "missing": missing})
    raise typer.Exit(ExitCode.FAILED if missing else ExitCode.YES)


def _ask(states: Counter[str]) -> None:
    if not sys.stdin.isatty():
        raise Mistake("there is nobody here to ask whether to delete; pass --yes to go without asking")
    found = ", ".join(f"{count} {name}" for name, count in sorted(states.items())) or "none"
    if not terminal.confirmed(f"delete {states.total()} dead letters ({found}) for good?"):
        raise typer.Abort


def _chosen(
    ids: list[int] | None, *, all_: bool, model: str, version: str, state: str, since: int
) -> pb.DeadLetterFilter:
    if bool(ids) == all_:
        raise Mistake("which ones? Name their IDs (`shadowctl deadletter list`), or say --all, with filters or without")
    if not ids:
        return _filter([], model=model, version=version, state=state, since=since)
    if version or state or since:
        raise Mistake("IDs and filters do not go together: --all with filters chooses by them")
    # The model may come from the environment; an ID needs none.
    return pb.DeadLetterFilter(ids=ids)


def _filter(ids: list[int], *, model: str, version: str, state: str, since: int) -> pb.DeadLetterFilter:
    moment = Timestamp(seconds=int(time.time()) - since) if since else None
    return pb.DeadLetterFilter(ids=ids, model=model, version=version, state=state, since=moment)
