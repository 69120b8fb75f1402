"""Looking at a comparison again and again: how often a claim is false, and how soon a true one is made.

    python bench/simulation.py                  # the tables, in seconds
    python bench/simulation.py --plot docs/images

Three candidates diverge on 3 % of requests, independently of each other, and somebody looks every 500 requests until
50,000. False claims are counted where all three are equal; time to a proof where one is worse. Beside ours, what a
McNemar test at the same level claims when it is repeated at every look.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from multishadow_server.core.statistics import power, ranking
from multishadow_server.core.statistics.betting import Floats
from multishadow_server.core.statistics.evidence import log_evidence

Claims = NDArray[np.bool_]

ALPHA = 0.05
LOOK, LAST = 500, 50_000
RUNS = 2_000
RATE = 0.03
K = 3
_PATTERNS = np.array(list(product((0, 1), repeat=K)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Discordance:
    """Of every run, pair and look: on how many requests only the first was bad, and only the second.

    Args:
        only_first, only_second: shape (pairs, runs, looks), whole numbers.
    """

    only_first: Floats
    only_second: Floats


def simulate(rates: Sequence[float], *, runs: int, seed: int) -> Discordance:
    """Counts at every look, for candidates that are bad independently of each other at these rates."""
    draw = np.random.default_rng(seed)
    chances = np.prod(np.where(_PATTERNS == 1, rates, 1 - np.array(rates)), axis=1)
    # One multinomial draw of outcome patterns for each stretch between two looks stands for its 500 requests.
    counts = draw.multinomial(LOOK, chances, size=(runs, LAST // LOOK)).cumsum(axis=1).astype(float)
    pairs = list(combinations(range(K), 2))
    alone = [(_PATTERNS[:, i] > _PATTERNS[:, j], _PATTERNS[:, j] > _PATTERNS[:, i]) for i, j in pairs]
    return Discordance(
        only_first=np.stack([counts[..., first].sum(axis=-1) for first, _ in alone]),
        only_second=np.stack([counts[..., second].sum(axis=-1) for _, second in alone]),
    )


def ours(seen: Discordance) -> Claims:
    """Whether a pair is proven different, at each look: shape (pairs, runs, looks)."""
    threshold = np.log(ranking.pair_threshold(K, ALPHA))
    b, c = seen.only_first.ravel(), seen.only_second.ravel()
    proven: Claims = np.maximum(log_evidence(b, c), log_evidence(c, b)) >= threshold
    return proven.reshape(seen.only_first.shape)


def naive(seen: Discordance) -> Claims:
    """The same by McNemar's exact test, without correction for pairs or looks, as it is often done."""
    fewer, discordant = np.minimum(seen.only_first, seen.only_second), seen.only_first + seen.only_second
    return np.asarray(2 * binom.cdf(fewer, discordant, 0.5) <= ALPHA)


def ever(claims: Claims) -> Floats:
    """Share of runs in which any pair was ever claimed different by each look, shape (looks,)."""
    share: Floats = np.logical_or.accumulate(claims.any(axis=0), axis=1).mean(axis=0)
    return share


def first_look(claims: Claims) -> Floats:
    """Requests until the claim, of each run; inf without one."""
    return np.where(claims.any(axis=1), (claims.argmax(axis=1) + 1.0) * LOOK, np.inf)


def upper_end(share: float, runs: int) -> float:
    """Upper end of the 95 % Wilson interval of a share: what the simulation itself leaves open."""
    z = norm.isf(0.025)
    middle = share + z * z / (2 * runs)
    return float((middle + z * np.sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs))) / (1 + z * z / runs))


def tables(runs: int) -> Iterator[str]:
    """The tables of docs/statistics.md."""
    null = simulate([RATE] * K, runs=runs, seed=1)
    yield f"{runs:,} runs; k = {K}, θ = {RATE:.0%}, a look every {LOOK:,} requests until {LAST:,}, α = {ALPHA}"
    yield ""
    yield "| | naive McNemar | ours | bar |"
    yield "|---|---|---|---|"
    shares = [float(ever(method(null))[-1]) for method in (naive, ours)]
    naively, properly = (f"{share:.1%} (at most {upper_end(share, runs):.1%})" for share in shares)
    yield f"| false claim ever, any of {K} pairs | {naively} | {properly} | ≤ 3 % |"
    for worse, bar in ((0.04, "≤ 8,500"), (0.05, "≤ 3,000")):
        # The third candidate is as good as the first; the pair of the first and the second is asked about.
        found = simulate([RATE, worse, RATE], runs=runs, seed=2)
        looks = first_look(ours(found)[0])
        median = f"{np.median(looks):,.0f}"
        planned = power.requests_to_decide(RATE, worse, candidates=K, alpha=ALPHA)
        yield f"| median n to prove {RATE:.0%} < {worse:.0%} | – | {median} (planned {planned:,}) | {bar} |"


def plot(folder: Path, runs: int) -> None:
    """Two pictures: false claims by look, and proofs by look."""
    import matplotlib as mpl  # noqa: PLC0415 -- the tables need no plots

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- after the choice above

    mpl.rcParams["svg.hashsalt"] = "multishadow"
    looks = np.arange(1, LAST // LOOK + 1) * LOOK
    figure, (false, true) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    null = simulate([RATE] * K, runs=runs, seed=1)
    for method, label, colour in ((naive, "McNemar, repeated", "tab:red"), (ours, "ours", "tab:blue")):
        false.plot(looks, 100 * ever(method(null)), color=colour, label=label)
    false.axhline(100 * ALPHA, color="grey", linewidth=0.8, linestyle="--", label="α")
    false.set(title="No candidate differs", xlabel="requests", ylabel="runs with a false claim so far, %")
    for worse, style in ((0.05, "-"), (0.04, "--")):
        proven = first_look(ours(simulate([RATE, worse, RATE], runs=runs, seed=2))[0])
        share = [100 * float((proven <= n).mean()) for n in looks]
        true.plot(looks, share, style, color="tab:blue", label=f"{RATE:.0%} against {worse:.0%}")
    true.set(title="One candidate is worse", xlabel="requests", ylabel="runs with it proven so far, %")
    for axes in (false, true):
        axes.set_ylim(0, 100)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "peeking.svg", metadata={"Date": None})


def main() -> None:
    """Print the tables; with --plot draw them too."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=RUNS)
    arguments.add_argument("--plot", type=Path, metavar="FOLDER", help="write peeking.svg there")
    chosen = arguments.parse_args()
    begin = time.perf_counter()
    for line in tables(chosen.runs):
        print(line)
    if chosen.plot:
        plot(chosen.plot, chosen.runs)
    print(f"\n{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
