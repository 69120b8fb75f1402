"""The NATS client on the event loop that routers and workers run on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from multishadow_server.adapters import nats_connection
from multishadow_server.adapters.embedded import EmbeddedNats
from multishadow_server.entrypoints import event_loop
from waiting import until


def test_a_connection_whose_server_is_gone_is_closed_without_complaint(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats")
    url = server.start()

    async def lose_and_close() -> None:
        client = await nats_connection.connect(url, name="test")
        await asyncio.to_thread(server.kill)
        await until(lambda: not client.is_connected)
        # Something is left to be said, and nobody there to hear it.
        await client.publish("a.subject", b"?")
        await nats_connection.disconnect(client)
        assert not client.is_connected

    try:
        with asyncio.Runner(loop_factory=event_loop.factory("worker")) as runner:
            runner.run(lose_and_close())
    finally:
        server.stop()
