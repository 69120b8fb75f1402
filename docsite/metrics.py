"""Every metric of `/metrics`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from docsite.markdown import page, prose, table

CATALOGUE = "multishadow_server.core.metric_catalogue"
SOURCE = "server/multishadow_server/core/metric_catalogue.py"
INTRODUCTION = """\
What routers, workers and control say at `/metrics`, in Prometheus' text format. *Of* names the roles that have it.
A counter's name ends with `_total`; a histogram has `_bucket`, `_sum` and `_count` besides."""


class Metric(Protocol):
    """As the catalogue has it."""

    @property
    def name(self) -> str:
        """As Prometheus knows it."""
        ...

    @property
    def kind(self) -> str:
        """For example "counter"."""
        ...

    @property
    def help(self) -> str:
        """What it counts, with its unit."""
        ...

    @property
    def labels(self) -> Iterable[str]:
        """Names of its labels."""
        ...

    @property
    def roles(self) -> Iterable[str]:
        """Who has it."""
        ...


def catalogue() -> list[Metric]:
    """The metrics, in their order; none of a program that has no catalogue."""
    if importlib.util.find_spec(CATALOGUE) is None:
        return []
    return list(importlib.import_module(CATALOGUE).METRICS)


def omissions(of: Sequence[Metric] | None = None) -> Iterator[str]:
    """Metrics that do not say what they count, or whose they are; of the catalogue, unless some are given."""
    for metric in catalogue() if of is None else of:
        if not metric.help:
            yield f"the metric `{metric.name}` has no help"
        if not list(metric.roles):
            yield f"the metric `{metric.name}` is of no role"


def pages(of: Sequence[Metric] | None = None) -> Iterator[tuple[str, str]]:
    """The one page of metrics, where there are any; of the catalogue, unless some are given."""
    rows = [
        (
            f"`{metric.name}`",
            str(metric.kind),
            ", ".join(f"`{label}`" for label in metric.labels),
            ", ".join(map(str, metric.roles)),
            prose(metric.help),
        )
        for metric in (catalogue() if of is None else of)
    ]
    if rows:
        body = [INTRODUCTION, table(("metric", "kind", "labels", "of", ""), rows)]
        yield "metrics.md", page(title="Metrics", source=SOURCE, parts=body)
