"""Metrics in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/.

The client library's writer takes 5 ms for eight histograms, in one go: an eternity for a router's callers
(docs/decisions/metrics.md). This one lets them come between.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import chain

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector

from multishadow_server.core import metric_catalogue
from multishadow_server.core.latency_ladder import RUNGS, Distribution
from multishadow_server.core.metric_catalogue import Metric
from multishadow_server.core.metric_samples import Sample, sample

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# How long a scrape holds up callers in one go, in seconds.
BRIEF_SECONDS = 0.0003

_BOUNDS = (*map(str, RUNGS), "+Inf")
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Exposition:
    """Everything that one process exposes; its state is read when somebody asks, and costs nothing until then.

    Args:
        role: router, worker or control: all metrics of its in the catalogue are exposed, also those without a value.
        read: the present values, each of which is made when it is asked for.
    """

    def __init__(self, role: str, read: Callable[[], Iterable[Sample]]) -> None:
        self._metrics = metric_catalogue.of_role(role)
        self._read = read
        self._build = sample("build_info", 1, program=version("multishadow"))
        # Memory, processor time, start and open files of the process, as every program with the library names them.
        self._process = ProcessCollector(registry=None)

    async def text(self) -> bytes:
        """The values, with what they mean.

        Raises:
            LookupError: there is a value of a metric, or of a label, that the catalogue does not have for this role.
        """
        written: dict[str, list[str]] = defaultdict(list)
        begun = time.perf_counter()
        for each in chain((self._build,), self._read()):
            written[each.name].extend(_lines(each))
            if time.perf_counter() - begun > BRIEF_SECONDS:
                await asyncio.sleep(0)
                begun = time.perf_counter()
        pieces = [f"{_head(metric)}{''.join(written.pop(metric.name, ()))}" for metric in self._metrics]
        if written:
            raise LookupError(f"the catalogue does not have these metrics for this role: {', '.join(sorted(written))}")
        return "".join((*pieces, *self._of_process())).encode()

    def _of_process(self) -> Iterator[str]:
        for family in self._process.collect():
            total = "_total" if family.type == "counter" else ""
            yield f"# HELP {family.name}{total} {family.documentation}\n# TYPE {family.name}{total} {family.type}\n"
            for each in family.samples:
                yield f"{each.name} {_number(each.value)}\n"


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _head(metric: Metric) -> str:
    about = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {metric.name} {about}\n# TYPE {metric.name} {metric.kind}\n"


def _lines(each: Sample) -> Iterator[str]:
    metric = metric_catalogue.BY_NAME.get(each.name)
    if metric is None:
        raise LookupError(f"the catalogue does not have the metric {each.name}")
    labels = _labels(metric, each)
    if isinstance(each.value, Distribution):
        yield from _histogram(metric.name, labels, each.value)
    else:
        braced = f"{{{labels}}}" if labels else ""
        yield f"{metric.name}{braced} {_number(each.value)}\n"


def _histogram(name: str, labels: str, value: Distribution) -> Iterator[str]:
    total = 0
    for bound, count in zip(_BOUNDS, value.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {total}\n'
    yield f"{name}_count{{{labels}}} {total}\n"
    yield f"{name}_sum{{{labels}}} {_number(value.seconds)}\n"


def _labels(metric: Metric, of: Sample) -> str:
    given = {"role": metric.path, **of.labels} if metric.path else of.labels
    if len(given) != len(metric.labels) or any(label not in given for label in metric.labels):
        raise LookupError(f"{metric.name} has the labels {metric.labels}, and not {tuple(given)}")
    return ",".join(f'{label}="{given[label].translate(_ESCAPED)}"' for label in metric.labels)
