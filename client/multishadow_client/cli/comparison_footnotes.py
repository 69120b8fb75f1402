"""What `shadowctl compare` says beneath its tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.text import Text

from multishadow.v1.control_pb2 import CompareResponse
from multishadow_client.cli import figures, quality_view, review_view


def footnotes(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    """One line for each thing that there is to say."""
    for report in response.candidates:
        for name, reasons in (
            ("errors", report.errors_by_reason),
            ("dropped", report.dropped_by_reason),
            ("not compared", report.uncomparable_by_reason),
        ):
            if reasons:
                yield Text(f"{labels[report.version]}: {name}: {_tally(reasons.items())}", style="dim")
    yield from _moved(response, labels)
    yield from _noise(response, labels)
    yield from _bursts(response, labels)
    if response.live_failures:
        one = response.live_failures == 1
        which = "1 sampled request counts" if one else f"{figures.count(response.live_failures)} sampled requests count"
        yield Text(f"{which} for nobody: live itself failed on {'it' if one else 'them'}.", style="dim")
    yield from review_view.verdicts(response.review_verdicts, labels)
    if response.HasField("quality"):
        yield from quality_view.footnotes(response.quality, labels)
    if 0 < response.sampling_share < 1:
        share = figures.percent(response.sampling_share)
        yield Text(f"Routers sample {share} of what flags say: workers do not keep up.", style="yellow")
    yield from _still_needed(response, labels)
    pairs = f"; family of {response.family_size} pair{'s' if response.family_size > 1 else ''}"
    family = pairs if response.family_size else ""
    yield Text(f"Test: {response.test_name}; α = {response.alpha:g}{family}.", style="dim")


def _moved(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    if moved := [labels[report.version] for report in response.candidates if report.rate_moved]:
        yield Text(
            f"{', '.join(moved)}: the divergence rate has changed since the epoch began; the interval is of all "
            "comparisons together, so it says little about the rate now (`shadowctl gates`, drift).",
            style="yellow",
        )


def _noise(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    if not response.HasField("noise_floor"):
        return
    floor = response.noise_floor
    yield Text(
        f"Noise floor: live {response.live_version} differs from itself on "
        f"{figures.percent(floor.divergence.estimate)} of {figures.count(floor.n)} requests that it got twice.",
        style="dim",
    )
    over = [
        f"{labels[report.version]} {figures.points(report.over_noise.estimate)} "
        f"{figures.points_range(report.over_noise.lower, report.over_noise.upper)}"
        for report in response.candidates
        if report.HasField("over_noise")
    ]
    if over:
        yield Text(f"Above it, on the same requests, in percentage points: {', '.join(over)}.", style="dim")


def _bursts(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    repeated = [
        f"{labels[report.version]} {figures.count(report.duplicates)}"
        for report in response.candidates
        if report.duplicates
    ]
    if repeated:
        yield Text(f"Repeated inputs, counted once per time bucket: {', '.join(repeated)} left out.", style="dim")
    if any(report.duplicates > report.n for report in response.candidates):
        yield Text(
            "More copies repeat an input than count: somebody asks the same again and again, or sessions use an id of "
            "former ones, whose turns count already. They are sent to nobody; give each session an id of its own.",
            style="yellow",
        )
    moved = {report.version for report in response.candidates if report.rate_moved}
    for pair in response.pairs:
        # A rate that has changed varies too; that is said already, and no longer run mends it.
        if pair.overdispersed and not moved & {pair.first, pair.second}:
            named = f"{labels.get(pair.first, pair.first)} − {labels.get(pair.second, pair.second)}"
            yield Text(
                f"{named}: requests come in bursts: over time the difference varies {pair.dispersion:.1f} times as "
                "much as with independent ones, so its interval and p are too narrow. Let the experiment run longer.",
                style="yellow",
            )


def _still_needed(response: CompareResponse, labels: Mapping[str, str]) -> Iterator[Text]:
    requests = [
        f"{labels.get(pair.first, pair.first)} − {labels.get(pair.second, pair.second)} {_about(pair.requests_needed)}"
        for pair in response.pairs
        if pair.HasField("requests_needed")
    ]
    comparisons = [
        f"{labels[report.version]} {_about(report.comparisons_needed)}"
        for report in response.candidates
        if report.HasField("comparisons_needed")
    ]
    by_session = response.unit == "session"
    if requests:
        unit = "sessions" if by_session else "requests"
        yield Text(f"More {unit} to decide a pair, at present rates: {', '.join(requests)}.", style="dim")
    if comparisons:
        unit = "sessions" if by_session else "comparisons"
        yield Text(f"More {unit} to confirm a band, at present rates: {', '.join(comparisons)}.", style="dim")


def _about(number: int) -> str:
    """A forecast to two figures; more would claim what nobody knows."""
    return f"≈ {figures.count(round(float(f'{number:.2g}')))}"


def _tally(reasons: Iterable[tuple[str, int]]) -> str:
    largest_first = sorted(reasons, key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{figures.count(number)} {reason}" for reason, number in largest_first)
