"""What stock OpenFeature clients, unmodified, make of the flags that control serves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from multishadow_server.adapters.embedded import EmbeddedPostgres
from served_flags import CASES, FLAGS, Case
from serving_flags import PROVIDERS, Reader, Serving, put_flags, python_reader, serving

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def control(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[Serving]:
    """Control with flags that no test here changes."""
    name = f"stock_clients_{next(_numbers)}"
    url = postgres.create_database(name, template=migrated_template)
    put_flags(url, FLAGS)
    with serving(url) as control:
        yield control
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def readers(control: Serving) -> Iterator[Mapping[str, Reader]]:
    with ExitStack() as stack:
        yield {mode: stack.enter_context(python_reader(make(control))) for mode, make in PROVIDERS.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{'-'.join(map(str, case[3].values()))}")
@pytest.mark.parametrize("mode", PROVIDERS)
def test_python_reads_it(readers: Mapping[str, Reader], mode: str, case: Case) -> None:
    kind, key, default, context, expected = case
    answer = readers[mode].read(kind, key, default, context)
    assert replace(answer, metadata=None) == expected
