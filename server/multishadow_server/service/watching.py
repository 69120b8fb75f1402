"""Control looks for what is wrong, and keeps alarms."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from multishadow_server.core import alarm_rules, alarms
from multishadow_server.core import flags as flag_rules
from multishadow_server.core.alarm_rules import AlarmLimits, Facts
from multishadow_server.core.alarms import Alarm, AlarmKey, AlarmKind, Turn
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.probe_state import ProbeState
from multishadow_server.core.process_standing import Process
from multishadow_server.errors import InvalidInput, MultishadowError, NotFound
from multishadow_server.service import names, probing
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import (
    AlarmStore,
    ControlStore,
    Past,
    ProbeKey,
    ProbeStore,
    ProcessStatus,
    Span,
)

READINGS = 12
"""Readings that are kept in the time that a look goes back, at least."""
LONGEST_BACK = 6 * 3_600.0
"""A worker that is further behind is an alarm of its own; its counts then go into buckets that nobody looks at."""
MOST_LISTED = 500

_log = logging.getLogger(__name__)


class AlarmRounds:
    """One control process's looks; several processes may make them, one at a time, see `AlarmStore.turn`.

    Args:
        store: tells what there is.
        alarms: where alarms are kept.
        probes: tells how versions stand with probes.
        limits: from where on something is an alarm.
        clear_after: seconds without a finding that end an alarm.
        interval: seconds between looks.
    """

    def __init__(
        self,
        store: ControlStore,
        alarms: AlarmStore,
        probes: ProbeStore,
        *,
        limits: AlarmLimits,
        clear_after: float,
        interval: float,
    ) -> None:
        self._store = store
        self._alarms = alarms
        self._probes = probes
        self._limits = limits
        self._clear_after = clear_after
        self._interval = interval
        self._raised = 0
        self._cleared = 0
        self._failed_rounds = 0

    def counters(self) -> Mapping[str, int]:
        """What was done since the start."""
        return {
            "alarms.raised": self._raised,
            "alarms.cleared": self._cleared,
            "alarms.failed_rounds": self._failed_rounds,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set. A look that fails is logged, and the next one tries again."""
        while not stop.is_set():
            try:
                await self._look()
            except MultishadowError as error:
                self._failed_rounds += 1
                _log.warning("alarms: %s", error)
            except Exception:  # noqa: BLE001  control that ended because of one odd count could roll nothing back
                self._failed_rounds += 1
                _log.exception("a look for alarms failed")
            await set_within(stop, self._interval)

    async def _look(self) -> None:
        configuration = await self._store.read()
        processes = [_process(each) for each in await self._alarms.processes()]
        states = {ProbeKey(each.model, each.version, each.probe): each for each in await self._probes.states()}
        open_epochs = [epoch for epoch in configuration.epochs if epoch.until_revision is None]
        reading = await self._alarms.reading(open_epochs, back=self._back(processes))

        def decide(past: Past) -> Turn:
            facts = Facts(
                now=reading.at,
                epochs=open_epochs,
                addresses=_addresses(configuration),
                shares=_shares(configuration),
                present=reading,
                recent=past.recent,
                window=past.window,
                probes=[view.state for view in probing.present(configuration.models, states) if view.state],
                processes=processes,
                held={alarm.key for alarm in past.standing},
                acknowledged={alarm.key: alarm.acknowledged_at for alarm in past.standing if alarm.acknowledged_at},
            )
            found = alarm_rules.findings(facts, self._limits)
            return alarms.turn(past.standing, found, now=reading.at, clear_after=self._clear_after)

        turn = await self._alarms.turn(reading, self._span, decide)
        if turn is not None:
            self._note(turn)
            await self._settle(turn, states.values())

    async def _settle(self, turn: Turn, states: Iterable[ProbeState]) -> None:
        """A change whose alarm is over stays settled when the experiment that began after it has ended, too."""
        over = {alarm.key for alarm in turn.cleared}
        for state in states:
            key = AlarmKey(AlarmKind.ANSWER_CHANGED, state.model, f"{state.version}/{state.probe}")
            if key in over and state.changed_at is not None:
                await self._probes.settle(ProbeKey(state.model, state.version, state.probe), state.changed_at)

    @property
    def _span(self) -> Span:
        recent, window = self._limits.silent_after, self._limits.window
        return Span(recent=recent, window=window, apart=min(recent, window) / READINGS)

    def _back(self, processes: Sequence[Process]) -> float:
        """How long ago a request may have been received that is counted now: workers may be behind."""
        lag = max((each.counters.get("lag_ms", 0) / 1000 for each in processes if each.role == "worker"), default=0.0)
        return min(LONGEST_BACK, max(self._limits.window, self._limits.silent_after) + lag)

    def _note(self, turn: Turn) -> None:
        self._raised += len(turn.raised)
        self._cleared += len(turn.cleared)
        for finding in turn.raised:
            _log.warning("alarm %s: %s", finding.key.kind, finding.detail)
        for alarm in turn.cleared:
            _log.info("alarm %s of %s is over", alarm.key.kind, alarm.key.subject)


def _process(said: ProcessStatus) -> Process:
    return Process(
        role=said.role,
        instance=said.instance,
        host=said.host,
        started_at=said.started_at,
        seen_at=said.seen_at,
        counters=said.counters,
    )


def _addresses(configuration: Configuration) -> Mapping[tuple[str, str], str]:
    return {
        (model.name, version.name): version.address
        for model in configuration.models.values()
        for version in model.versions
    }


def _shares(configuration: Configuration) -> Mapping[tuple[str, str], float]:
    """The share of requests that each version is to shadow; none where targeting rules decide.

    Requests that it claims `live` for it may answer itself, and then it gets no copy of them.
    """
    found = {}
    for model in configuration.models.values():
        for version in model.versions:
            definition = configuration.flags.get(version.flag_key, {})
            copied, live = flag_rules.copied_share(definition), flag_rules.live_percent(definition)
            if copied is not None and live is not None and copied > live / 100:
                found[model.name, version.name] = copied - live / 100
    return found


async def list_alarms(store: ControlStore, records: AlarmStore, *, model: str = "") -> Sequence[Alarm]:
    """The alarms that are on, of a model (and those that are of all models) or of everything.

    Raises:
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    await _check_model(store, model)
    return await records.alarms(model)


async def history(
    store: ControlStore, records: AlarmStore, *, model: str, most: int, before: int | None = None
) -> Sequence[Alarm]:
    """Alarms on or over, the newest first; with `before`, of those whose number is below it.

    Raises:
        InvalidInput: too many are asked for.
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    if not 1 <= most <= MOST_LISTED:
        raise InvalidInput(f"most: {most} is out of range; allowed are 1 to {MOST_LISTED}")
    await _check_model(store, model)
    return await records.history(model, most=most, before=before)


async def acknowledge(
    store: ControlStore, records: AlarmStore, *, ids: Iterable[int], model: str, actor: str, note: str
) -> Sequence[Alarm]:
    """Put on record that somebody knows of alarms that are on.

    Raises:
        NotFound: there is no such model, or one of the numbers is of no alarm that is on; nothing is acknowledged then.
        StoreUnavailable: the database is away.
    """
    wanted = list(dict.fromkeys(ids))
    await _check_model(store, model)
    if wanted:
        on = {alarm.id for alarm in await records.alarms()}
        if strange := [number for number in wanted if number not in on]:
            raise NotFound(
                f"no alarm {names.listed(str(number) for number in strange)} is on; on are "
                f"{names.listed(str(number) for number in sorted(on))} (`shadowctl alarms`)"
            )
    return await records.acknowledge(wanted, model=model, actor=actor, note=note)


async def _check_model(store: ControlStore, model: str) -> None:
    if model:
        names.model_of(await store.read(experiments=False), model)
