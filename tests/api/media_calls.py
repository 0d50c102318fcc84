"""Fetches images as the api does, with a network that takes an address of this machine for a public one."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psutil
import pytest

from api.addresses import Reachable
from api.errors import ApiError
from api.media.fetching import Media
from api.media.references import FetchedImage, ImageReference, MediaLimits
from api.public_network import PublicNetwork
from tests.api.hostile_images import MOST_BYTES

NAME = "media.example.com"
"""Of a host on 127.0.0.7."""

MIB = 1 << 20

T = TypeVar("T")


def limits(**changed: Any) -> MediaLimits:
    """Limits that a test reaches soon."""
    values = {"image_bytes": MOST_BYTES, "image_pixels": 33_000_000, "images": 16, "seconds": 5.0, **changed}
    return MediaLimits(**values)


class Resolver:
    """Answers look-ups of each name in turn, the last answer for ever; counts them."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **kind: Any) -> list[Any]:
        address = self.addresses[min(len(self.asked), len(self.addresses) - 1)]
        self.asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


def with_media(
    work: Callable[[Media], Awaitable[T]],
    within: MediaLimits,
    allowed: Sequence[str] | None = None,
    resolver: Resolver | None = None,
) -> T:
    """What work gives, done with a Media.

    Args:
        allowed: addresses of this machine that the network takes for public.
        resolver: of that network.
    """

    async def run() -> T:
        network = None
        if allowed is not None:
            network = PublicNetwork(
                Reachable.parse(allowed), "--allowed-media-domains", resolver or Resolver("127.0.0.7")
            )
        media = Media(within, network)
        try:
            async with asyncio.timeout(60):
                return await work(media)
        finally:
            await media.close()

    return asyncio.run(run())


def fetch(*urls: str, within: MediaLimits | None = None, **network: Any) -> list[FetchedImage]:
    """The images of these URLs; a host of the name media.example.com is on 127.0.0.7."""
    references = [ImageReference(url, f"messages[0].content[{index}]") for index, url in enumerate(urls)]
    return with_media(
        lambda media: media.fetched(references), within or limits(), **{"allowed": ["127.0.0.7"], **network}
    )


def refusal(*urls: str, **how: Any) -> str:
    """What is said of URLs that are refused."""
    with pytest.raises(ApiError) as refused:
        fetch(*urls, **how)
    assert refused.value.status == 400
    return refused.value.message


@contextmanager
def growth() -> Iterator[Callable[[], int]]:
    """How many bytes of memory this process took beyond those that it had, at the most."""
    process = psutil.Process()
    before = process.memory_info().rss
    highest = before
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, process.memory_info().rss)

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        try:
            yield lambda: highest - before
        finally:
            done.set()
            watching.result()
