"""What is sent to do harm is refused in time, in little memory, and without what hosts said; the loop stays free."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from PIL import Image

from api.errors import ApiError
from api.media.fetching import Media
from api.media.references import ImageReference
from tests.api.hostile_images import MOST_BYTES, Hostile, data_uri, hostile_images, hostile_urls
from tests.api.media_calls import MIB, NAME, growth, limits, with_media
from tests.api.media_host import MediaHost, media_host
from tests.pooling.vision.pictures import encoded, noise, png


@pytest.fixture(scope="module")
def host() -> Iterator[MediaHost]:
    with media_host({"good.png": encoded(noise(40, 30), "PNG")}) as host:
        yield host


async def refused(media: Media, each: Hostile) -> tuple[str, float]:
    """What is said of one, and how many seconds it took."""
    began = time.monotonic()
    with pytest.raises(ApiError) as caught:
        await media.fetched([ImageReference(each.url, "input[3]")])
    assert caught.value.status == 400, each.name
    assert caught.value.param == "input[3]"
    return caught.value.message, time.monotonic() - began


def test_hostile_images_are_refused_each_in_a_second_and_in_little_memory() -> None:
    listed = hostile_images()
    assert len(listed) >= 40

    async def all_of_them(media: Media) -> None:
        for each in listed:
            said, seconds = await refused(media, each)
            assert each.says in said, each.name
            assert seconds < 1, each.name
            assert len(said) < 300, each.name

    with growth() as grown:
        with_media(all_of_them, limits())
    assert grown() < 150 * MIB


def test_hostile_urls_are_refused_in_time_and_without_what_their_hosts_said(host: MediaHost) -> None:
    listed = hostile_urls(host, NAME, "the public network, where images are fetched from unless")
    assert len(listed) >= 40

    async def all_of_them(media: Media) -> None:
        quick = [each for each in listed if not each.until_timeout]
        for each in quick:
            said, seconds = await refused(media, each)
            assert each.says in said, each.name
            assert "secret" not in said, each.name
            assert seconds < 1, each.name
        keeping = await asyncio.gather(*(refused(media, each) for each in listed if each.until_timeout))
        assert keeping
        for said, seconds in keeping:
            assert "--media-timeout" in said
            assert 0.9 < seconds < 2

    with growth() as grown:
        with_media(all_of_them, limits(seconds=1.0), allowed=["127.0.0.7"])
    assert set(host.reached) == {"127.0.0.7"}
    assert grown() < 100 * MIB


def test_the_largest_images_leave_the_loop_free_and_memory_bounded() -> None:
    width, height = 5_700, 5_700
    row = b"\0" + b"\x12\x34\x56\x78" * width
    largest = png(width, height, row * height, colour=6)
    lossless = encoded(Image.new("RGBA", (width, height), (9, 8, 7, 6)), "WEBP", lossless=True, quality=0, method=0)
    assert max(len(largest), len(lossless)) < MOST_BYTES
    pauses: list[float] = []

    async def work(media: Media) -> None:
        async def beat() -> None:
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.005)
                pauses.append(time.monotonic() - began)

        beating = asyncio.create_task(beat())
        # Different URLs: else each were decoded once.
        urls = [data_uri(data, f"image/{number}") for number in range(3) for data in (largest, lossless)]
        await media.fetched([ImageReference(url, "image") for url in urls])
        beating.cancel()

    with growth() as grown:
        with_media(work, limits())
    # Not in seconds: a busy machine doubles them. A loop that decoded would stand still nearly all the time.
    assert sum(each for each in pauses if each > 0.05) < 0.7 * sum(pauses)
    # Two at once, at 16 bytes a pixel.
    assert grown() < 2 * 16 * width * height + 100 * MIB
