"""What it costs to shadow, and what a smaller share of the requests would save.

Of versions that get the same share f of rps requests per second, and of which a GPU answers the same number per second:

    gpus = ceil(rps · f · N / (rps_per_gpu · utilisation)),    utilisation = 0.70 unless a version says otherwise
    cost = gpus · price · 24 · days
    multiplier = 1 + Σ f,    the requests that are answered, as a multiple of those that callers send

N being the number of these versions. Versions that differ are reckoned apart and added up. The formula lets alike
versions share GPUs; where each has its own, no version gets by with less than one: `gpus_apart`.

A decision takes a number of comparisons, whoever pays for them: a share that is half as large takes twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

DAY_SECONDS = 86_400.0
USUAL_FRACTIONS = (0.05, 0.10, 0.25, 0.50, 1.0)
# What a float is off by is no GPU.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Shadow:
    """A version that gets copies.

    Args:
        version: its name.
        fraction: of live requests, in [0, 1].
        rps_per_gpu: requests per second that one GPU answers; None where nobody said.
        utilisation: the share of that which may be used.
        assumed: whether `rps_per_gpu` is the version's declared capacity, taken for that of one GPU.
    """

    version: str
    fraction: float
    rps_per_gpu: float | None = None
    utilisation: float = 0.7
    assumed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Live requests, as they were measured.

    Args:
        rps: per second, on average.
        measured: how, in words; empty where somebody named the rate.
        requests, seconds: what it was measured from.
    """

    rps: float
    measured: str = ""
    requests: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How far the comparison is from being decided, and how fast it goes.

    Args:
        needed: further comparisons of each candidate that it probably takes; 0 when it is decided, None when nobody
            can tell.
        fraction: of live requests, at which `per_second` was measured or reckoned.
        per_second: comparisons of each candidate.
        basis: where `needed` comes from, in words.
    """

    needed: int | None
    fraction: float
    per_second: float
    basis: str

    def days_at(self, fraction: float) -> float | None:
        """Days until the decision if every candidate got this share; None when nobody can tell."""
        if self.needed == 0:
            return 0.0
        rate = self.per_second * fraction / self.fraction if self.fraction else 0.0
        return None if self.needed is None or rate <= 0 else self.needed / rate / DAY_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What a GPU costs for an hour."""

    gpu_hour: float
    currency: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """What some shadows take.

    Args:
        copies_per_second: of all shadows.
        multiplier: requests answered, as a multiple of callers'.
        gpus: by the formula; None where it is not known how much a GPU does.
        gpus_apart: where no version shares its GPUs with another.
        per_day: cost of `gpus` for a day; None without a price.
        for_box: for the whole time box.
        to_come: for what is left of it.
    """

    copies_per_second: float
    multiplier: float
    gpus: int | None
    gpus_apart: int | None
    per_day: float | None
    for_box: float | None
    to_come: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """What it would be if every shadow got this share.

    Args:
        fraction: of live requests.
        bill: what that takes.
        saves: of the cost that is to come, beside the present share's; below 0 it costs more; None without a price.
        days: until the decision; None when nobody can tell.
        later: than with the present share, in days; below 0 it is sooner.
        in_time: whether the decision comes within the time box; None when nobody can tell.
    """

    fraction: float
    bill: Bill
    saves: float | None
    days: float | None
    later: float | None
    in_time: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What an experiment costs.

    Args:
        model: the model's name.
        experiment_id: which experiment.
        live: the version that answers callers.
        shadows: who gets copies.
        traffic: live requests.
        price: None where nobody said.
        box_days, days_left: of the experiment's time box.
        present: what it takes as it is.
        pace: how far it is from its decision.
        options: at other shares, the smallest first.
        missing: what was not said and how to say it, a sentence each.
    """

    model: str
    experiment_id: int
    live: str
    shadows: tuple[Shadow, ...]
    traffic: Traffic
    price: Price | None
    box_days: float
    days_left: float
    present: Bill
    pace: Pace
    options: tuple[Option, ...]
    missing: tuple[str, ...] = ()

    @property
    def fraction(self) -> float:
        """The largest share that a shadow gets."""
        return max((shadow.fraction for shadow in self.shadows), default=0.0)

    @property
    def decides_in_days(self) -> float | None:
        """At the present share."""
        return self.pace.days_at(self.fraction)


def gpus_for(rps: float, *, fraction: float, shadows: int, rps_per_gpu: float, utilisation: float = 0.7) -> int:
    """GPUs for so many alike shadows: ceil(rps · f · N / (rps_per_gpu · utilisation))."""
    return math.ceil(rps * fraction * shadows / (rps_per_gpu * utilisation) - _ROUNDING)


def cost_of(gpus: int, *, gpu_hour: float, days: float) -> float:
    """What GPUs cost that are there all the time: gpus · price · 24 · days."""
    return gpus * gpu_hour * 24 * days


def estimate(
    *,
    model: str,
    experiment_id: int,
    live: str,
    shadows: Sequence[Shadow],
    traffic: Traffic,
    price: Price | None,
    box_days: float,
    days_left: float,
    pace: Pace,
    fractions: Iterable[float] = (),
) -> Estimate:
    """Work out what an experiment costs, at its shares and at others.

    Args:
        model: see Estimate; so are those below.
        experiment_id: likewise.
        live: likewise.
        shadows: likewise.
        traffic: likewise.
        price: likewise.
        box_days: likewise.
        days_left: likewise.
        pace: likewise.
        fractions: the other shares; none: the usual ones.
    """

    def bill(of: Sequence[Shadow]) -> Bill:
        return _bill(of, traffic.rps, price, box_days=box_days, days_left=days_left)

    present = bill(shadows)
    made = Estimate(
        model=model,
        experiment_id=experiment_id,
        live=live,
        shadows=tuple(shadows),
        traffic=traffic,
        price=price,
        box_days=box_days,
        days_left=days_left,
        present=present,
        pace=pace,
        options=(),
        missing=tuple(_missing(model, shadows, price)),
    )
    now = made.decides_in_days
    present_share = {made.fraction} if made.fraction else set[float]()
    wanted: list[float] = sorted({*(fractions or USUAL_FRACTIONS)} | present_share)
    options = []
    for fraction in wanted:
        its_bill = bill([replace(shadow, fraction=fraction) for shadow in shadows])
        options.append(_option(fraction, its_bill, made, now))
    return replace(made, options=tuple(options))


def _bill(shadows: Sequence[Shadow], rps: float, price: Price | None, *, box_days: float, days_left: float) -> Bill:
    alike: dict[tuple[float, float | None, float], int] = {}
    for shadow in shadows:
        key = (shadow.fraction, shadow.rps_per_gpu, shadow.utilisation)
        alike[key] = alike.get(key, 0) + 1
    gpus, apart = 0, 0
    known = all(shadow.rps_per_gpu for shadow in shadows)
    for (fraction, rps_per_gpu, utilisation), number in alike.items() if known else ():
        assert rps_per_gpu is not None
        one = {"fraction": fraction, "rps_per_gpu": rps_per_gpu, "utilisation": utilisation}
        gpus += gpus_for(rps, shadows=number, **one)
        apart += number * gpus_for(rps, shadows=1, **one)
    total = sum(shadow.fraction for shadow in shadows)

    def cost(days: float) -> float | None:
        return cost_of(gpus, gpu_hour=price.gpu_hour, days=days) if price and known else None

    return Bill(
        copies_per_second=rps * total,
        multiplier=1 + total,
        gpus=gpus if known else None,
        gpus_apart=apart if known else None,
        per_day=cost(1),
        for_box=cost(box_days),
        to_come=cost(max(days_left, 0.0)),
    )


def _option(fraction: float, bill: Bill, made: Estimate, now: float | None) -> Option:
    days, present = made.pace.days_at(fraction), made.present.to_come
    return Option(
        fraction=fraction,
        bill=bill,
        saves=None if bill.to_come is None or present is None else present - bill.to_come,
        days=days,
        later=None if days is None or now is None else days - now,
        in_time=None if days is None else days <= made.days_left,
    )


def _missing(model: str, shadows: Sequence[Shadow], price: Price | None) -> Iterable[str]:
    if price is None:
        yield (
            f"what a GPU costs is not known: put `cost: {{gpu_hour: 2.50, currency: USD}}` into the file of {model}, "
            "and `shadowctl apply` it"
        )
    if unknown := [shadow.version for shadow in shadows if not shadow.rps_per_gpu]:
        which = ", ".join(f"{version}: 40" for version in unknown)
        yield (
            f"how many requests a second one GPU answers is not known of {', '.join(unknown)}: put "
            f"`cost: {{rps_per_gpu: {{{which}}}}}` (or one number for all) into the file of {model}, and "
            "`shadowctl apply` it"
        )


def prorated(counts: Iterable[tuple[float, float, int]], *, since: float, until: float) -> tuple[float, float]:
    """Requests between two times, of counts that only say when they began and when they were told last.

    Args:
        counts: (began, told last, requests), each spread evenly over its own time.
        since: seconds since the Unix epoch.
        until: likewise.

    Returns:
        Requests, and the seconds of that time from the first that anybody counted in it.
    """
    rows = list(counts)
    requests, first = 0.0, until
    for began, told, number in rows:
        overlap = min(told, until) - max(began, since)
        # Told once only: all of it happened then.
        if told <= began:
            requests += number if since <= told < until else 0
        elif overlap > 0:
            requests += number * overlap / (told - began)
        if told >= since and began < until:
            first = min(first, max(began, since))
    return requests, until - first
