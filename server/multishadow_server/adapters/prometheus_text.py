"""Metrics in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from multishadow_server.core import metric_catalogue
from multishadow_server.core.latency_ladder import RUNGS, Distribution
from multishadow_server.core.metric_catalogue import Metric as Described
from multishadow_server.core.metric_samples import Sample, sample

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# How long a scrape holds up callers in one go, in seconds.
BRIEF_SECONDS = 0.0005


class Exposition:
    """Everything that one process exposes; its state is read when somebody asks, and costs nothing until then.

    Args:
        role: router, worker or control: all metrics of its in the catalogue are exposed, also those without a value.
        read: the present values.
    """

    def __init__(self, role: str, read: Callable[[], Iterable[Sample]]) -> None:
        self._described = metric_catalogue.of_role(role)
        self._read = read
        self._build = sample("build_info", 1, program=version("multishadow"))
        # Memory, processor time, start and open files of the process, as every program with this library names them.
        self._process = ProcessCollector(registry=None)

    async def text(self) -> bytes:
        """The values, with what they mean.

        Raises:
            LookupError: there is a value of a metric, or of a label, that the catalogue does not have for this role.
        """
        written = []
        begun = time.perf_counter()
        for family in (*self.families(), *self._process.collect()):
            # A router's callers come between: a scrape must not be their p99.
            if time.perf_counter() - begun > BRIEF_SECONDS:
                await asyncio.sleep(0)
                begun = time.perf_counter()
            written.append(generate_latest(_One(family)))
        return b"".join(written)

    def families(self) -> Iterator[Metric]:
        """The values by metric, in the catalogue's order."""
        values: dict[str, list[Sample]] = defaultdict(list)
        for each in (self._build, *self._read()):
            values[each.name].append(each)
        for described in self._described:
            yield _family(described, values.pop(described.name, ()))
        if values:
            raise LookupError(f"the catalogue does not have these metrics for this role: {', '.join(sorted(values))}")


class _One(CollectorRegistry):
    """A registry of one family, to write that and nothing else."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _family(described: Described, samples: Sequence[Sample]) -> Metric:
    if described.kind == "histogram":
        return _histograms(described, samples)
    kind = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
    family = kind(described.name, described.help, labels=described.labels)
    for each in samples:
        assert not isinstance(each.value, Distribution)
        family.add_metric(_labels(described, each), float(each.value))
    return family


def _histograms(described: Described, samples: Sequence[Sample]) -> Metric:
    family = HistogramMetricFamily(described.name, described.help, labels=described.labels)
    for each in samples:
        assert isinstance(each.value, Distribution)
        buckets, total = [], 0
        for bound, count in zip((*map(str, RUNGS), "+Inf"), each.value.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(_labels(described, each), buckets=buckets, sum_value=each.value.seconds)
    return family


def _labels(described: Described, of: Sample) -> list[str]:
    given = {"role": described.path, **of.labels} if described.path else dict(of.labels)
    if given.keys() != set(described.labels):
        raise LookupError(f"{described.name} has the labels {described.labels}, and not {tuple(given)}")
    return [given[label] for label in described.labels]
