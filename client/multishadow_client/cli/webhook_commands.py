"""webhook create, list, show, test, rotate, delete, deliveries, retry: who is told of decisions and alarms."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import webhooks_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, document, duration, terminal, webhook_view
from multishadow_client.cli.exit_code import ExitCode, Mistake
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Output, Server, Timeout, actor, examples
from multishadow_client.cli.terminal import Format

CREATE_EXAMPLES = examples(
    "shadowctl webhook create ci https://ci.example/hooks/multishadow",
    "cat url.txt | shadowctl webhook create pager - --event alarm.raised --event alarm.cleared",
    "shadowctl webhook create spam-team https://chat.example/x --model spam -o json | jq -r .secret > secret.txt",
)
LIST_EXAMPLES = examples("shadowctl webhook list", "shadowctl webhook list -o json")
SHOW_EXAMPLES = examples("shadowctl webhook show ci")
TEST_EXAMPLES = examples("shadowctl webhook test ci")
ROTATE_EXAMPLES = examples("shadowctl webhook rotate ci --grace 2h", "shadowctl webhook rotate ci --now")
DELETE_EXAMPLES = examples("shadowctl webhook delete ci --yes")
DELIVERIES_EXAMPLES = examples(
    "shadowctl webhook deliveries ci",
    "shadowctl webhook deliveries --state parked",
    "shadowctl webhook deliveries -o json | jq '.deliveries[0].body | fromjson'",
)
RETRY_EXAMPLES = examples("shadowctl webhook retry 4711", "shadowctl webhook retry --all --webhook ci")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The webhook's name.", show_default=False)]


def create(
    *,
    name: Name,
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="Where to post; `-` reads it from stdin.", show_default=False),
    ],
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            metavar="EVENT",
            help="What it is told of; once for each; default: everything.",
            autocompletion=completion.events,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Whose; once for each; default: all.",
            autocompletion=completion.models,
        ),
    ] = None,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Have decisions and alarms posted to a URL. Its secret is told once, here.

    What is posted is signed as Standard Webhooks says, so that its receiver knows who sent it; most languages have a
    library that checks it. Of the URL, control shows scheme, host and port only.
    """
    request = pb.CreateWebhookRequest(
        name=name, url=_read() if url == "-" else url, events=event or [], models=model or [], actor=actor()
    )
    with ControlClient(server, timeout=timeout) as control:
        response = control.create_webhook(request)
    terminal.show(output, webhook_view.secret(response.webhook, response.secret), document.plain(response))


def list_webhooks(
    *, server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """List who is told, of what, and how many messages wait for each or were given up."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_webhooks()
    terminal.show(output, webhook_view.listing(response.webhooks), document.plain(response))


def show(
    *, name: Name, server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """Show one, with what was sent to it last."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.get_webhook(name)
        last = control.list_deliveries(pb.ListDeliveriesRequest(webhook=name, page_size=5))
    answer = document.plain(response) | {"last_deliveries": document.plain(last)["deliveries"]}
    terminal.show(output, webhook_view.whole(response.webhook, last.deliveries), answer)


def send_test(
    *, name: Name, server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """Send it a `webhook.test` now, and tell what came back; exits with 1 unless it answered with a success."""
    with ControlClient(server, timeout=max(timeout, _PATIENCE)) as control:
        response = control.test_webhook(pb.TestWebhookRequest(name=name, actor=actor()))
    terminal.show(output, webhook_view.tested(name, response), document.plain(response))
    if not response.delivered:
        raise typer.Exit(ExitCode.FAILED)


def rotate(
    *,
    name: Name,
    grace: Annotated[
        int,
        typer.Option(
            "--grace",
            metavar="TIME",
            parser=duration.seconds,
            show_default="1d",
            help="How long what is sent is signed with the present secret, too.",
        ),
    ] = 86_400,
    now: Annotated[bool, typer.Option("--now", help="End the present secret at once.")] = False,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Give it another secret. Receivers that check with either miss nothing while they change over."""
    request = pb.RotateWebhookSecretRequest(name=name, grace_seconds=0 if now else grace, actor=actor())
    with ControlClient(server, timeout=timeout) as control:
        response = control.rotate_webhook_secret(request)
    terminal.show(output, webhook_view.secret(response.webhook, response.secret), document.plain(response))


def delete(
    *,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """End one; what waits for it is sent to nobody."""
    with ControlClient(server, timeout=timeout) as control:
        if not yes:
            _ask(control.get_webhook(name).webhook)
        response = control.delete_webhook(pb.DeleteWebhookRequest(name=name, actor=actor()))
    left = f"; {response.waited} messages waited for it" if response.waited else ""
    terminal.show(output, Text(f"{name} is deleted{left}"), document.plain(response))


def deliveries(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of one webhook; default: of all.")] = "",
    state: Annotated[str, typer.Option("--state", metavar="STATE", help="Only waiting, delivered or parked.")] = "",
    most: Annotated[int, typer.Option("--most", min=1, max=1000, metavar="N", help="At most so many.")] = 50,
    before: Annotated[
        int, typer.Option("--before", min=0, metavar="ID", show_default=False, help="The page after this one.")
    ] = 0,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List what was sent, or waits to be, newest first. Parked ones were given up after a day of attempts."""
    request = pb.ListDeliveriesRequest(webhook=name, state=state, page_size=most, before_id=before)
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_deliveries(request)
    terminal.show(output, webhook_view.deliveries(response.deliveries), document.plain(response))
    if response.next_before_id and output is Format.TABLE:
        terminal.remark(f"there are more: --before {response.next_before_id}")


def retry(
    *,
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, show_default=False, help="Which.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that were given up, instead of some by ID.")] = False,
    webhook: Annotated[str, typer.Option("--webhook", metavar="NAME", help="Only those of one webhook.")] = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Send those again that were given up; they get a whole day of attempts once more."""
    if bool(ids) == all_:
        raise Mistake("which ones? Name their IDs (`shadowctl webhook deliveries --state parked`), or say --all")
    request = pb.RetryDeliveriesRequest(webhook=webhook, ids=ids or [], actor=actor())
    with ControlClient(server, timeout=timeout) as control:
        response = control.retry_deliveries(request)
    terminal.show(output, Text(f"{response.count} are sent again"), document.plain(response))


# Control gives a receiver ten seconds.
_PATIENCE = 15


def _read() -> str:
    url = sys.stdin.readline().strip()
    if not url:
        raise Mistake("there is no URL on stdin; it is read from the first line")
    return url


def _ask(webhook: pb.Webhook) -> None:
    if not sys.stdin.isatty():
        raise Mistake("there is nobody here to ask whether to delete; pass --yes to go without asking")
    if not terminal.confirmed(f"delete {webhook.name} ({webhook.origin}, {webhook.waiting} messages wait) for good?"):
        raise typer.Abort
