"""The processes that render chat templates, and an event loop to wait for them."""

import asyncio
from collections.abc import Iterator

import pytest

from api.rendering import Sandbox


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop that runs while a test waits for something."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def sandbox(runner: asyncio.Runner) -> Iterator[Sandbox]:
    """Processes that render."""
    sandbox = Sandbox()
    runner.run(sandbox.start())
    yield sandbox
    runner.run(sandbox.close())
