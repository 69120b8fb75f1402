"""Asking processes for their metrics, as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from multishadow_server.core import metric_catalogue
from waiting import PATIENCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Scraped:
    """What a process exposes: values by name and labels, and the names and kinds of its own families."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    families: Mapping[str, str]

    def value(self, name: str, **labels: str) -> float | None:
        """One value; None when it is not there."""
        return self.values.get((f"multishadow_{name}", frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum over all values with these labels."""
        wanted = frozenset(labels.items())
        return sum(value for (of, has), value in self.values.items() if of == f"multishadow_{name}" and wanted <= has)


def read(text: str) -> Scraped:
    """What stands in the text format."""
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    families = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith(metric_catalogue.PREFIX):
            families[f"{family.name}_total" if family.type == "counter" else family.name] = family.type
        for each in family.samples:
            key = each.name, frozenset(each.labels.items())
            assert key not in values, f"{key} is there twice"
            values[key] = each.value
    return Scraped(values=values, families=families)


async def scrape(address: str, *, client: httpx.AsyncClient | None = None) -> Scraped:
    """What the process at that address exposes."""
    if client is None:
        async with httpx.AsyncClient(trust_env=False) as own:
            return await scrape(address, client=own)
    response = await client.get(f"http://{address}/metrics", timeout=PATIENCE)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return read(response.text)


def described(role: str) -> Mapping[str, str]:
    """The names and kinds that the catalogue has for a role."""
    return {metric.name: metric.kind for metric in metric_catalogue.of_role(role)}
