"""The embedded Redis on a port: another worker joins by the printed command, and carries on when the first is gone."""

import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from tests.server import TINY_BERT, Millpond, client_of, free_ports, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Millpond]:
    (port,) = free_ports(1)
    with serving("--engine-worker-queue-port", str(port)) as server:
        yield server


def url_of(server: Millpond) -> str:
    line = server.wait_for_line("more workers join with")
    found = re.search(r"cat ([^)]+)\)", line)
    assert found
    path = Path(found.group(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text().strip()


def test_the_port_asks_for_a_password_that_no_command_line_shows(server: Millpond) -> None:
    url = url_of(server)
    password = url.split(":")[2].split("@")[0]
    assert Redis.from_url(url).ping()
    with pytest.raises(AuthenticationError):
        Redis.from_url(url.replace(password, "wrong")).ping()
    with pytest.raises(AuthenticationError):
        Redis.from_url(re.sub(r":[^@/]+@", "", url)).ping()
    for process in server.role_processes("redis"):
        assert password not in " ".join(process.cmdline())
    assert password not in server.output


def test_a_worker_that_joined_carries_on_alone(server: Millpond) -> None:
    name = ["--served-model-name", "tiny-bert"]
    joined = Millpond("worker", ["--redis-url", url_of(server), "--model", str(TINY_BERT), *name])
    try:
        joined.wait_for_line("workers ready")
        with client_of(server) as client:
            for process in server.role_processes("workers"):
                process.send_signal(signal.SIGSTOP)
            for number in range(20):
                assert client.post("/v1/embeddings", json={"input": f"text {number}"}).status_code == 200
            for process in server.role_processes("workers"):
                process.send_signal(signal.SIGKILL)
            assert client.post("/v1/embeddings", json={"input": "after the kill"}).status_code == 200
            assert client.get("/ready").status_code == 200
    finally:
        joined.stop()


def test_a_redis_of_ones_own_needs_no_port(server: Millpond) -> None:
    other = Millpond("serve", ["--redis-url", url_of(server), "--engine-worker-queue-port", "7142"])
    assert other.process.wait(30) == 2
    assert "--engine-worker-queue-port is for the embedded Redis" in other.output
