"""What `shadowctl alarms` and `shadowctl probes` show, and the line about alarms beneath other views."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1.alarms_pb2 import (
    Alarm,
    ListAlarmHistoryResponse,
    ListAlarmsResponse,
    ListProbeChangesResponse,
    ListProbesResponse,
    ProbeStanding,
)
from multishadow_client import _prediction_json
from multishadow_client.cli import figures
from multishadow_client.cli.listing_view import table

MOST_NAMED = 4


def alarms(response: ListAlarmsResponse) -> RenderableType:
    """The alarms that are on, each with what was found and what to do."""
    if not response.alarms:
        return Text("no alarm is on", style="green")
    now = _time(response.read_at)
    return Group(*(line for alarm in response.alarms for line in _alarm(alarm, now)))


def _alarm(alarm: Alarm, now: datetime) -> Iterator[Text]:
    style = "dim" if alarm.HasField("acknowledged_at") else "bold red"
    since = f", on for {figures.span(now.timestamp() - alarm.raised_at.seconds)}"
    yield Text.assemble((f"{alarm.id}  ", "dim"), (_named(alarm), style), (since, "dim"))
    yield Text(f"    {alarm.detail}")
    yield Text(f"    → {alarm.remedy}", style="dim")
    if alarm.HasField("acknowledged_at"):
        note = f": {alarm.note}" if alarm.note else ""
        yield Text(
            f"    acknowledged by {alarm.acknowledged_by} {figures.ago(alarm.acknowledged_at, now)}{note}", style="dim"
        )


def _named(alarm: Alarm) -> str:
    return f"{alarm.kind} {alarm.subject}{f' ({alarm.model})' if alarm.model else ''}"


def history(response: ListAlarmHistoryResponse) -> RenderableType:
    """Alarms on or over, newest first."""
    rows = (
        (
            str(alarm.id),
            figures.moment(alarm.raised_at),
            figures.span(alarm.cleared_at.seconds - alarm.raised_at.seconds) if alarm.HasField("cleared_at") else "on",
            alarm.acknowledged_by or figures.NONE,
            f"{_named(alarm)}: {alarm.detail}",
        )
        for alarm in response.alarms
    )
    headers = ("id", "raised", "lasted", "acknowledged", "what, as it was found last")
    return table(headers, rows, nothing="there never was an alarm")


def acknowledged(alarms_: Sequence[Alarm]) -> Text:
    """What an acknowledgement did."""
    if not alarms_:
        return Text("every alarm that is on was acknowledged already", style="dim")
    named = ", ".join(f"{alarm.id} {alarm.kind} {alarm.subject}" for alarm in alarms_)
    return Text(f"acknowledged: {named}. They stay on until what raised them is over.")


def footer(alarms_: Sequence[Alarm]) -> Iterator[Text]:
    """One line about the alarms that are on; nothing when none is."""
    if not alarms_:
        return
    fresh = [alarm for alarm in alarms_ if not alarm.HasField("acknowledged_at")]
    named = ", ".join(f"{alarm.kind} {alarm.subject}" for alarm in (fresh or alarms_)[:MOST_NAMED])
    more = f" and {len(fresh or alarms_) - MOST_NAMED} more" if len(fresh or alarms_) > MOST_NAMED else ""
    what = "alarms: " if fresh else "alarms, all acknowledged: "
    yield Text.assemble(
        (what, "bold red" if fresh else "dim"),
        (f"{named}{more}", "red" if fresh else "dim"),
        (" (shadowctl alarms)", "dim"),
    )


def probes(response: ListProbesResponse) -> RenderableType:
    """How versions stand with probes."""
    now = _time(response.read_at)
    rows = (
        (
            standing.model,
            standing.version,
            standing.probe,
            standing.outcome,
            _since(standing, now),
            _figure(standing),
            figures.ago(standing.asked_at, now) if standing.HasField("asked_at") else figures.NONE,
            _answer(standing),
        )
        for standing in response.standings
    )
    headers = ("model", "version", "probe", "stands", "since", "similarity", "asked", "answer")
    listed = table(headers, rows, nothing="no probes: put `probes` into a model's file and `shadowctl apply` it")
    notes = [Text(line, style="yellow") for standing in response.standings for line in _notes(standing, now)]
    return Group(listed, *notes) if notes else listed


def probe_changes(response: ListProbeChangesResponse) -> RenderableType:
    """What became of probes."""
    rows = (
        (
            figures.moment(change.at),
            change.version,
            change.probe,
            f"{change.before} → {change.after}",
            change.detail,
        )
        for change in response.changes
    )
    return table(("when", "version", "probe", "change", "detail"), rows, nothing="nothing changed yet")


def probe_summary(standings: Sequence[ProbeStanding]) -> Iterator[Text]:
    """One line about all probes, for `shadowctl status`; nothing without any."""
    if not standings:
        return
    counted = {
        outcome: sum(standing.outcome == outcome for standing in standings)
        for outcome in ("ok", "wrong", "failing", "not asked yet")
    }
    parts = ", ".join(f"{number} {outcome}" for outcome, number in counted.items() if number)
    bad = counted["wrong"] + counted["failing"]
    yield Text.assemble("probes: ", (parts, "yellow" if bad else ""), (" (shadowctl probes)", "dim"))


def _notes(standing: ProbeStanding, now: datetime) -> Iterator[str]:
    who = f"{standing.version}, {standing.probe}"
    if standing.outcome == "wrong":
        yield f"{who}: not the known answer (`live` here): {standing.detail or standing.reason}"
    if standing.outcome == "failing":
        yield f"{who}: {standing.detail or standing.reason}"
    if standing.HasField("changed_at"):
        often = "once" if standing.changes == 1 else f"{figures.count(standing.changes)} times"
        yield (
            f"{who}: the answer changed {often} at the same address {standing.address}, last "
            f"{figures.ago(standing.changed_at, now)}"
        )


def _since(standing: ProbeStanding, now: datetime) -> str:
    return figures.span(now.timestamp() - standing.since.seconds) if standing.HasField("since") else figures.NONE


def _figure(standing: ProbeStanding) -> str:
    return f"{standing.similarity:.4f}" if standing.HasField("similarity") else figures.NONE


def _answer(standing: ProbeStanding) -> str:
    if not standing.HasField("answer"):
        return figures.NONE
    told = _prediction_json.plain(standing.answer)
    text = json.dumps(told, ensure_ascii=False) if told is not None else "no output that is known here"
    return text if len(text) <= 60 else f"{text[:59]}…"


def _time(at: Timestamp) -> datetime:
    return datetime.fromtimestamp(at.seconds, UTC)
