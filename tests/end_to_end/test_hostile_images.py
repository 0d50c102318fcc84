"""Images and URLs that are sent to do harm: each a 400 in its time, memory bounded, and the server ready afterwards."""

import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.api.hostile_images import MOST_BYTES, Hostile, hostile_images, hostile_urls
from tests.api.media_host import MediaHost, media_host
from tests.end_to_end.test_images import IMAGES, VISION
from tests.server import Millpond, client_of, serving

MOST_GROWTH = 400 << 20
"""Bytes: two decoders at once, of images of up to 33 million pixels."""


@pytest.fixture(scope="module")
def host() -> Iterator[MediaHost]:
    with media_host({"good.png": IMAGES["square.png"]}) as running:
        yield running


@pytest.fixture(scope="module")
def server(host: MediaHost) -> Iterator[Millpond]:
    limits = ("--max-image-bytes", str(MOST_BYTES), "--media-timeout", "1")
    allowed = ("--allowed-media-domains", f"127.0.0.1:{host.port}")
    with serving(*limits, *allowed, model=VISION / "qwen2-vl") as running:
        yield running


def memory(server: Millpond) -> int:
    return sum(each.memory_info().rss for each in server.role_processes("api"))


def refused(client: httpx.Client, each: Hostile) -> float:
    """The seconds until the refusal."""
    part = {"type": "image_url", "image_url": {"url": each.url}}
    began = time.monotonic()
    reply = client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": [part]}]})
    assert reply.status_code == 400, (each.name, reply.text)
    assert "messages[0].content[0].image_url.url" in reply.json()["error"]["message"], each.name
    return time.monotonic() - began


def test_all_that_is_hostile_is_refused_in_time_and_the_server_stays_ready(server: Millpond, host: MediaHost) -> None:
    listed = [*hostile_images(), *hostile_urls(host, "127.0.0.1", "--allowed-media-domains")]
    assert len(listed) >= 100
    with client_of(server) as client:
        before = memory(server)
        for each in listed:
            assert refused(client, each) < 3, each.name
        assert memory(server) - before < MOST_GROWTH
        assert client.get("/ready").status_code == 200
        assert psutil.pid_exists(server.process.pid)
    assert not any("Traceback" in line for line in server.lines)
