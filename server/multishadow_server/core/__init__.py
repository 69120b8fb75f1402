"""The domain: routing, comparison, statistics, experiments. Pure: no IO, no clock, no asyncio."""
