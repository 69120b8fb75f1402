"""What an experiment costs, measured on real traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from multishadow_server.core import cost
from multishadow_server.core import flags as flag_rules
from multishadow_server.core.cost import Estimate, Pace, Price, Shadow, Traffic
from multishadow_server.core.experiment import Epoch, Experiment, collected_for
from multishadow_server.core.findings import Report, State
from multishadow_server.core.model import Model
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.serving import Flags
from multishadow_server.core.statistics import power
from multishadow_server.core.statistics.ranking import Verdict
from multishadow_server.core.weeks import WEEK_SECONDS
from multishadow_server.errors import InvalidInput
from multishadow_server.service import comparison_report
from multishadow_server.service.comparison_report import Subject
from multishadow_server.service.ports import ControlStore, WeeklyReportStore

# What a comparison is planned for before it has shown how its candidates differ; as `shadowctl power` has it.
PLANNED = (0.03, 0.04)
MOST_FRACTIONS = 20


async def estimate(
    store: ControlStore,
    reports: WeeklyReportStore,
    *,
    model: str,
    experiment_id: int = 0,
    fractions: Sequence[float] = (),
    rps: float | None = None,
    now: float,
) -> Estimate:
    """What a model's experiment costs, at its share of the requests and at others.

    Args:
        store: where experiments and counts are.
        reports: where it is kept what routers counted of callers' requests.
        model: empty: the only model there is, or the experiment's.
        experiment_id: 0: the running experiment, or else the latest.
        fractions: other shares of live requests, in (0, 1]; none: the usual ones.
        rps: live requests per second; None: as they were measured.
        now: seconds since the Unix epoch.

    Raises:
        InvalidInput: a number is out of range, or the model must be named.
        NotFound: no such model or experiment.
        FailedPrecondition: there is no experiment yet.
        StoreUnavailable: the database is away.
    """
    check(fractions, rps)
    subject = await comparison_report.subject_of(store, model=model, experiment_id=experiment_id)
    found = await comparison_report.evidence_on(store, subject, now=now)
    buckets = await store.buckets(subject.epoch.id, ["live"])
    traffic = Traffic(rps=rps) if rps is not None else await measured(reports, subject, now=now)
    return of_experiment(subject, found.report, buckets, traffic=traffic, now=now, fractions=fractions)


def check(fractions: Sequence[float], rps: float | None) -> None:
    """Raise InvalidInput unless they can be reckoned with."""
    # Written so that NaN fails: every comparison with it is false.
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise InvalidInput(f"fractions: {fraction:g} is out of range; allowed are shares in (0, 1], such as 0.25")
    if len(fractions) > MOST_FRACTIONS:
        raise InvalidInput(f"fractions: {len(fractions)} are too many; at most {MOST_FRACTIONS} are allowed")
    if rps is not None and not 0 < rps <= 1e12:
        raise InvalidInput(f"rps: {rps:g} is out of range; allowed are requests per second above 0")


async def measured(reports: WeeklyReportStore, subject: Subject, *, now: float) -> Traffic:
    """Live requests per second: over the last week of the experiment's time, by what routers counted."""
    until = min(now, subject.experiment.stopped_at or math.inf)
    since = max(subject.experiment.started_at, until - WEEK_SECONDS)
    counts = await reports.live_counts(subject.experiment.model, since=since, until=until)
    requests, seconds = cost.prorated(counts, since=since, until=until)
    if not counts:
        return Traffic(rps=0.0, measured="routers have counted no request yet")
    if seconds < 1:
        return Traffic(rps=0.0, measured="routers have counted requests for less than a second")
    return Traffic(
        rps=requests / seconds,
        measured=f"about {requests:,.0f} live requests in {seconds / 3600:,.1f} h, as routers counted them",
        requests=round(requests),
        seconds=seconds,
    )


def of_experiment(
    subject: Subject,
    report: Report,
    buckets: Mapping[int, Rollup],
    *,
    traffic: Traffic,
    now: float,
    fractions: Sequence[float] = (),
) -> Estimate:
    """The estimate, from what was read.

    Args:
        subject: the experiment and its epoch.
        report: on the epoch.
        buckets: its counts by time, of any family: when it collected.
        traffic: live requests.
        now: seconds since the Unix epoch.
        fractions: see `estimate`.
    """
    experiment, epoch = subject.experiment, subject.epoch
    model = subject.configuration.models[experiment.model]
    terms = model.cost
    shadows = shadows_of(model, subject.configuration.flags, experiment, epoch)
    left = 0.0 if not experiment.running else max(0.0, experiment.ends_at - now)
    return cost.estimate(
        model=model.name,
        experiment_id=experiment.id,
        live=epoch.live,
        shadows=shadows,
        traffic=traffic,
        price=None if terms.gpu_hour is None else Price(gpu_hour=terms.gpu_hour, currency=terms.currency),
        box_days=(experiment.ends_at - experiment.started_at) / cost.DAY_SECONDS,
        days_left=left / cost.DAY_SECONDS,
        pace=pace_of(report, epoch, buckets, shadows, traffic, experiment=experiment, now=now),
        fractions=fractions,
    )


def shadows_of(model: Model, flags: Flags, experiment: Experiment, epoch: Epoch) -> tuple[Shadow, ...]:
    """Who gets copies: the candidates with the shares of their flags, and live itself for the noise floor."""
    shadows = []
    for version in model.versions:
        if version.name in epoch.candidates:
            definition = flags.get(version.flag_key)
            share = None if definition is None else flag_rules.copied_share(definition)
            usual = experiment.present_percent / 100
            shadows.append(_shadow(model, version.name, usual if share is None or not experiment.running else share))
    if experiment.noise_percent:
        again = _shadow(model, epoch.live, experiment.noise_percent / 100)
        shadows.append(Shadow(version=NOISE, **{name: getattr(again, name) for name in _RATES}))
    return tuple(shadows)


_RATES = ("fraction", "rps_per_gpu", "utilisation", "assumed")


def _shadow(model: Model, name: str, fraction: float) -> Shadow:
    version = model.version(name)
    limits = version.limits if version is not None else None
    said, capacity = model.cost.rps_of(name), limits.capacity if limits else None
    return Shadow(
        version=name,
        fraction=fraction,
        rps_per_gpu=capacity if said is None else said,
        utilisation=limits.utilisation if limits else 0.7,
        assumed=said is None and capacity is not None,
    )


def pace_of(
    report: Report,
    epoch: Epoch,
    buckets: Mapping[int, Rollup],
    shadows: Sequence[Shadow],
    traffic: Traffic,
    *,
    experiment: Experiment,
    now: float,
) -> Pace:
    """How many more comparisons the decision takes by the report's own forecast, and how fast they come."""
    fraction = max((shadow.fraction for shadow in shadows if shadow.version != NOISE), default=0.0)
    until = min(now, experiment.ends_at, experiment.stopped_at or math.inf)
    seconds = collected_for(epoch, buckets, until=until)
    most = max((candidate.n for candidate in report.candidates), default=0)
    # What is compared tells of drops, windows and limits too; before there is enough of it, what flags ask for.
    per_second = most / seconds if most and seconds >= 1 else traffic.rps * fraction
    needed, basis = forecast_of(report)
    return Pace(needed=needed, fraction=fraction, per_second=per_second, basis=basis)


def forecast_of(report: Report) -> tuple[int | None, str]:
    """Comparisons of each candidate until the report is decided, and where that is from."""
    if report.state is State.DECIDED:
        return 0, "the comparison is decided"
    best = [candidate for candidate in report.candidates if candidate.in_best_set]
    names = {candidate.version for candidate in best}
    open_pairs = [
        pair for pair in report.pairs if pair.verdict is Verdict.UNDECIDED and {pair.first, pair.second} <= names
    ]
    needed = (
        [pair.requests_needed for pair in open_pairs]
        if len(report.candidates) > 1
        else [candidate.comparisons_needed for candidate in best]
    )
    known = [number for number in needed if number is not None]
    if known and len(known) == len(needed):
        return max(known), "the report's forecast, at the present rates of divergence"
    if max((candidate.n for candidate in report.candidates), default=0) >= 1_000:
        return None, "the candidates are too much alike, or changing, for a forecast"
    better, worse = PLANNED
    planned = power.requests_to_decide(better, worse, candidates=max(2, len(report.candidates)), alpha=report.alpha)
    return planned, (
        f"planned, since little was compared yet: an even chance to tell {100 * better:g} % from {100 * worse:g} % "
        "divergence (`shadowctl power`)"
    )
