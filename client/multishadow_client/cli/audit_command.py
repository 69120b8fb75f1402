"""audit: who changed what."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import RenderableType

from multishadow.v1 import access_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import DeadlineExpired, Unavailable
from multishadow_client.cli import document, duration, figures, listing_view, terminal
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Output, Server, Timeout, examples
from multishadow_client.cli.terminal import Format

EXAMPLES = examples(
    "shadowctl audit",
    "shadowctl audit --subject spam --since 7d",
    "shadowctl audit --actor ci-bot --action promote --since 2026-11-01",
    "shadowctl audit --follow -o json | jq -r '\"\\(.actor) \\(.action) \\(.subject)\"'",
)
PAGE = 1_000
EVERY = 1.0
_MOMENTS = frozenset({"before", "expires_at", "former_until"})


def _moment(typed: str | datetime) -> datetime:
    """A time: a span before now (2h), or a date with or without a time, in UTC unless it says otherwise."""
    if isinstance(typed, datetime):
        return typed
    try:
        read = datetime.fromisoformat(typed)
    except ValueError:
        try:
            return datetime.now(UTC) - timedelta(seconds=duration.seconds(typed))
        except typer.BadParameter:
            raise typer.BadParameter(
                f"{typed!r} is neither a span before now (2h, 7d) nor a time (2026-11-24, 2026-11-24T18:00)"
            ) from None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def audit(
    *,
    since: Annotated[
        datetime | None,
        typer.Option("--since", metavar="TIME", parser=_moment, help="A span before now (7d), or a time in UTC."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", metavar="TIME", parser=_moment, help="Likewise; not included.")
    ] = None,
    by: Annotated[str, typer.Option("--actor", metavar="NAME", help="Of whom; also what they did as another.")] = "",
    action: Annotated[str, typer.Option("--action", metavar="WORD", help="What was done, like promote.")] = "",
    subject: Annotated[
        str,
        typer.Option("--subject", metavar="NAME", help="To what: a model with its versions, a flag's key, a token."),
    ] = "",
    most: Annotated[int, typer.Option("--most", "-n", min=1, metavar="N", help="At most so many, the newest.")] = 100,
    before: Annotated[
        int | None, typer.Option("--before", min=1, metavar="ID", help="Only older ones than this: the next page.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C; JSON is a line for each.")
    ] = False,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Show who changed what, newest first (with --follow oldest first). Nothing can be taken out of it."""
    asked = pb.ListAuditRequest(
        since=_timestamp(since), until=_timestamp(until), actor=by, action=action, subject=subject, before=before
    )
    with ControlClient(server, timeout=timeout) as control:
        found = _pages(control, asked, most)
        if not follow:
            response = pb.ListAuditResponse(lines=found)
            more = found[-1].id if len(found) == most else None
            terminal.show(output, _view(found), {**document.plain(response), "next_before": more})
            return
        _follow(control, asked, found[::-1], output)


def _pages(control: ControlClient, asked: pb.ListAuditRequest, most: int) -> list[pb.AuditLine]:
    found: list[pb.AuditLine] = []
    while len(found) < most:
        request = pb.ListAuditRequest()
        request.CopyFrom(asked)
        request.most = min(PAGE, most - len(found))
        if found:
            request.before = found[-1].id
        page = control.list_audit(request).lines
        found.extend(page)
        if len(page) < request.most:
            break
    return found


def _follow(control: ControlClient, asked: pb.ListAuditRequest, found: list[pb.AuditLine], output: Format) -> None:
    request = pb.ListAuditRequest()
    request.CopyFrom(asked)
    request.ClearField("before")
    request.most = PAGE
    # An empty log has no newest line; whatever comes then is new.
    request.after = found[-1].id if found else 0
    try:
        _print(found, output)
        for lines in _news(control, request):
            _print(lines, output)
    except KeyboardInterrupt:
        return


def _news(control: ControlClient, request: pb.ListAuditRequest) -> Iterator[Sequence[pb.AuditLine]]:
    lost = False
    while True:
        try:
            lines = list(control.list_audit(request).lines)
        except (Unavailable, DeadlineExpired) as error:
            if not lost:
                terminal.remark(f"{error}; it goes on trying")
            lost, lines = True, []
        else:
            lost = False
        if lines:
            yield lines
            request.after = lines[-1].id
        if len(lines) < PAGE:
            time.sleep(EVERY)


def _print(lines: Sequence[pb.AuditLine], output: Format) -> None:
    for line in lines:
        match output:
            case Format.TABLE:
                sys.stdout.write("  ".join(_cells(line)).rstrip() + "\n")
            case Format.JSON:
                sys.stdout.write(json.dumps(document.plain(line), ensure_ascii=False) + "\n")
            case Format.YAML:
                sys.stdout.write(f"---\n{document.as_yaml(document.plain(line))}\n")
    sys.stdout.flush()


def _view(lines: Sequence[pb.AuditLine]) -> RenderableType:
    headers = ("id", "when", "who", "what", "to", "detail")
    return listing_view.table(
        headers, (_cells(line) for line in lines), nothing="nothing was changed, or nothing like it"
    )


def _cells(line: pb.AuditLine) -> tuple[str, ...]:
    return (str(line.id), figures.moment(line.at), line.actor, line.action, line.subject, _detail(line))


def _detail(line: pb.AuditLine) -> str:
    detail = document.plain(line)["detail"] or {}
    said = {name: value for name, value in detail.items() if value not in ("", None, [], {})}
    return ", ".join(f"{name} {_words(name, value)}" for name, value in said.items())


def _words(name: str, value: object) -> str:
    """A detail as people write it: a Struct has all numbers as floats, and moments as seconds since 1970."""
    match value:
        case str():
            return value
        case float() if name in _MOMENTS:
            return figures.moment(Timestamp(seconds=int(value)))
        case float() if value.is_integer():
            return str(int(value))
        case list() if len(value) == 1:
            return _words(name, value[0])
        case list():
            return f"[{'; '.join(_words(name, each) for each in value)}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at.astimezone(UTC).replace(tzinfo=None))
    return stamp
