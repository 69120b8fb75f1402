"""docs/client.md's programs, run from top to bottom against a router and a control."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import routers
from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import prediction_pb2
from routers import saying, version
from running_control import asked, control_address
from waiting import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
SPAM = prediction_pb2.PredictResponse(classification=prediction_pb2.Classification(label="spam"))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_the_pages_programs_do_what_they_say(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, tmp_path: Path
) -> None:
    answering = await stack.enter_async_context(version(saying(SPAM.SerializeToString())))
    address = await stack.enter_async_context(control_address(database_url))
    control = await stack.enter_async_context(asked(address))
    terms = pb.LabelTerms(delay_seconds=60, keep_seconds=3600)
    await control.apply("first", "A", address=answering.address, labels=terms)
    router = await stack.enter_async_context(routers.router(database_url, nats_url, log_name))
    program = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    program = program.replace("127.0.0.1:50051", router.address).replace("127.0.0.1:50052", address)
    (tmp_path / "page.py").write_text(program)

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "page.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Classification(label='spam'" in done.stdout
    assert "OutcomeCounts(recorded=1" in done.stdout
    assert "spam.A shadow 25 % since revision" in done.stdout
    assert 'there is no model "ham"' in done.stdout
    assert await control.flags() == {"first": "live", "A": "shadow 25 %"}
    tally = await control.stub.GetLabelTally(pb.GetLabelTallyRequest(model="spam"))
    assert tally.waiting == 1


async def test_a_flag_that_is_set_from_code_reaches_the_provider(database_url: str, stack: AsyncExitStack) -> None:
    address = await stack.enter_async_context(control_address(database_url))
    control = await stack.enter_async_context(asked(address))
    await control.apply("base", "A")
    program = f"""
from openfeature import api
from openfeature.event import ProviderEvent
import threading
from multishadow_client import Flags
from multishadow_client.openfeature import MultishadowProvider

provider = MultishadowProvider({address!r})
api.set_provider_and_wait(provider)
client, changed, keys = api.get_client(), threading.Event(), []
def hear(details):
    keys.extend(details.flags_changed)
    changed.set()
client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, hear)
assert client.get_string_value("spam.A", "none") == "off"
with Flags({address!r}) as flags:
    written = flags.set("spam", "A", "shadow")
assert changed.wait(60)
assert client.get_string_value("spam.A", "none") == "shadow"
assert provider.revision == str(written.revision)
assert keys == ["spam.A"]
api.shutdown()
"""
    command = [sys.executable, "-c", program]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
