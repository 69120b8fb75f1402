"""Whether a promotion or a rollback has arrived: every router follows it, and the version answers callers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from rich.text import Text

from multishadow.v1.rollouts_pb2 import GetAcknowledgementResponse, RouterStanding, ServedRequests
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import MultishadowError
from multishadow_client.cli import document, figures
from multishadow_client.cli.exit_code import ExitCode

# Routers report at once when they follow, so the first looks are close together.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
# Routers say every second whom they chose. Where nobody calls, waiting longer shows nothing.
TRAFFIC_SECONDS = 5.0


class Standing(StrEnum):
    """What is known of it."""

    SERVING = "serving"
    NO_TRAFFIC = "no_traffic"
    NO_ROUTER = "no_router"
    FAILING = "failing"
    OTHERS_SERVE = "others_serve"
    STRAGGLERS = "stragglers"
    UNKNOWN = "unknown"


_EXIT_CODES = {
    Standing.FAILING: ExitCode.FAILED,
    Standing.STRAGGLERS: ExitCode.NOT_YET,
    Standing.OTHERS_SERVE: ExitCode.NOT_YET,
    Standing.UNKNOWN: ExitCode.NOT_YET,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """What was seen of a revision.

    Args:
        version: who should answer.
        share: of the requests, in percent.
        seen: control's last answer.
        problem: why control could not be asked; empty when it could.
    """

    version: str
    share: float
    seen: GetAcknowledgementResponse
    problem: str = ""

    @property
    def standing(self) -> Standing:
        """What is known by it."""
        if self.problem:
            return Standing.UNKNOWN
        if self.seen.stragglers:
            return Standing.STRAGGLERS
        if not self.seen.acknowledged:
            return Standing.NO_ROUTER
        own = self._own
        # A pipeline goes on after "serving": who fails most of its callers is not.
        if own.requests > own.failed and 2 * own.failed <= own.requests:
            others = any(each.version != self.version and each.requests for each in self.seen.served)
            return Standing.OTHERS_SERVE if others and self.share >= 100 else Standing.SERVING
        if own.failed:
            return Standing.FAILING
        return Standing.OTHERS_SERVE if self.seen.served and self.share >= 100 else Standing.NO_TRAFFIC

    @property
    def exit_code(self) -> ExitCode:
        """0 when it has arrived as far as anybody can see; 3 when it is not known to have; 1 when it fails callers."""
        return _EXIT_CODES.get(self.standing, ExitCode.YES)

    def document(self) -> Mapping[str, Any]:
        """For programs."""
        return {"standing": str(self.standing), **document.plain(self.seen)}

    def render(self) -> Text:
        """For people."""
        if self.problem:
            return Text(f"Whether routers follow is not known: {self.problem}. The flag stands.", style="yellow")
        lines = [self._routers(), *map(_straggler, self.seen.stragglers)]
        if not self.seen.stragglers and self.seen.acknowledged:
            lines.append(self._traffic())
        return Text("\n").join(lines)

    @property
    def _own(self) -> ServedRequests:
        return next((each for each in self.seen.served if each.version == self.version), ServedRequests())

    def _routers(self) -> Text:
        following, all_ = len(self.seen.acknowledged), len(self.seen.acknowledged) + len(self.seen.stragglers)
        if not all_:
            return Text("No router runs, so nobody had to follow.", style="yellow")
        style = "yellow" if self.seen.stragglers else "green"
        said = Text(f"{following} of {all_} routers follow", style=style)
        return said.append("; the flag stands, and these may still answer by the one before:" * bool(following < all_))

    def _traffic(self) -> Text:
        own, asked = self._own, "requests since"
        answered = own.requests - own.failed
        others = [f"{each.version} {figures.count(each.requests)}" for each in self.seen.served if each is not own]
        beside = f"; {', '.join(others)}" if others else ""
        failed = f", {figures.count(own.failed)} failed" if own.failed else ""
        match self.standing:
            case Standing.NO_TRAFFIC:
                return Text("No request came in the time, so who answers was not seen.", style="yellow")
            case Standing.FAILING:
                of = f"{figures.count(own.failed)} of {figures.count(own.requests)}"
                text = f"{self.version} failed {of} {asked}; `shadowctl rollback` takes it back"
                return Text(text, style="bold red")
            case Standing.OTHERS_SERVE:
                text = f"{self.version} answered {figures.count(answered)} {asked}{failed}{beside}"
                return Text(f"{text}: the flags were changed again, see `shadowctl get flags`", style="yellow")
            case _:
                style = "yellow" if own.failed else "green"
                return Text(f"{self.version} answered {figures.count(answered)} {asked}{failed}{beside}", style=style)


def wait(control: ControlClient, model: str, revision: int, *, version: str, share: float, within: float) -> Arrival:
    """Wait until every router acts on the revision and the version was seen to answer.

    Args:
        control: is asked again and again; no call waits there.
        model: the model's name.
        revision: of the flags, as the promotion answered it.
        version: who should answer.
        share: of the requests, in percent.
        within: seconds. Requests, or one that does not fail, are waited for no longer than TRAFFIC_SECONDS of these.

    What goes wrong in asking is part of what is returned: the flag stands all the same.
    """
    deadline = time.monotonic() + within
    arrival = Arrival(version=version, share=share, seen=GetAcknowledgementResponse(model=model, revision=revision))
    pause, followed_at = FIRST_PAUSE, None
    while True:
        try:
            arrival = replace(arrival, seen=control.acknowledgement(model, revision), problem="")
        except MultishadowError as error:
            arrival = replace(arrival, problem=str(error))
        now = time.monotonic()
        if arrival.standing in {Standing.STRAGGLERS, Standing.UNKNOWN}:
            until = deadline
        elif arrival.standing in {Standing.NO_TRAFFIC, Standing.FAILING}:
            # The first request to fail may be one that its caller got wrong; a pipeline would roll back for it.
            followed_at = followed_at or now
            until = min(deadline, followed_at + TRAFFIC_SECONDS)
        else:
            return arrival
        if now >= until:
            return arrival
        time.sleep(min(pause, until - now))
        pause = min(2 * pause, LONGEST_PAUSE)


def _straggler(router: RouterStanding) -> Text:
    old = router.age_seconds >= 1
    heard = f"last heard of {figures.span(router.age_seconds)} ago" if old else "heard of just now"
    where = f"  {router.instance} on {router.host} (pid {router.pid}): at revision {router.revision}, {heard}"
    silent = ", silent: it may have lost the database, and goes on answering" if router.silent else ""
    return Text(where + silent)
