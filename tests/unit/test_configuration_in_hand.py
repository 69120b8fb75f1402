"""The configuration in a worker's hand is never older than the capture that it is used for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fakes import KnownConfiguration
from multishadow_server.core.configuration import Configuration
from multishadow_server.service.configuration_in_hand import ConfigurationInHand
from waiting import until


async def test_it_is_read_once_for_all_captures_that_it_is_new_enough_for() -> None:
    source = KnownConfiguration(Configuration(revision=7))
    in_hand = ConfigurationInHand(source, check_interval=60)
    configurations = await asyncio.gather(*(in_hand.at_least(revision) for revision in (3, 7, 5, 7)))
    assert {configuration.revision for configuration in configurations} == {7}
    assert source.reads == 1


async def test_a_newer_capture_has_it_read_anew() -> None:
    source = KnownConfiguration(Configuration(revision=7))
    in_hand = ConfigurationInHand(source, check_interval=60)
    await in_hand.at_least(7)
    source.configuration = replace(source.configuration, revision=8)
    assert (await in_hand.at_least(7)).revision == 7
    assert (await in_hand.at_least(8)).revision == 8
    assert in_hand.revision == 8


async def test_while_the_store_is_away_a_newer_capture_waits_and_an_older_one_does_not() -> None:
    source = KnownConfiguration(Configuration(revision=7))
    in_hand = ConfigurationInHand(source, check_interval=60)
    await in_hand.at_least(7)
    source.configuration = replace(source.configuration, revision=8)
    source.away = 3
    newer = asyncio.create_task(in_hand.at_least(8))
    assert (await in_hand.at_least(7)).revision == 7
    assert not newer.done()
    await until(newer.done)
    assert newer.result().revision == 8


async def test_an_aged_one_is_compared_with_the_stores_and_read_only_if_it_changed() -> None:
    source = KnownConfiguration(Configuration(revision=7))
    in_hand = ConfigurationInHand(source, check_interval=0)
    await in_hand.at_least(7)
    await in_hand.at_least(7)
    assert source.reads == 1
    source.configuration = replace(source.configuration, revision=9)
    assert (await in_hand.at_least(7)).revision == 9


async def test_an_aged_one_stays_in_use_while_the_store_is_away() -> None:
    source = KnownConfiguration(Configuration(revision=7))
    in_hand = ConfigurationInHand(source, check_interval=0)
    await in_hand.at_least(7)
    source.away = 1
    assert (await in_hand.at_least(6)).revision == 7


async def test_a_revision_that_the_store_never_heard_of_is_not_waited_for() -> None:
    in_hand = ConfigurationInHand(KnownConfiguration(Configuration(revision=7)), check_interval=60)
    assert (await in_hand.at_least(100)).revision == 7
