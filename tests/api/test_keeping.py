"""The images of a request lie in Redis while it waits, and are free for others afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request
from redis.asyncio import Redis

from api.errors import RefusedError
from api.keeping import kept_images
from api.media.references import FetchedImage
from api.options import Options
from api.sequences import Sequences
from api.serving import ServedModel
from scheduler.blobs import GRACE_MS
from scheduler.connection import connect_async
from scheduler.keys import ModelKeys

KEYS = ModelKeys("m")
MIB = 1024 * 1024


def images(*sizes: int) -> Sequences:
    """A sequence with images of so many bytes."""
    found = [FetchedImage(bytes(size), size.to_bytes(32, "big"), 1, 1) for size in sizes]
    return Sequences("messages", [], images=[found, found[:1]] if found else ())


def users(size: int) -> str:
    return KEYS.blob_users(size.to_bytes(32, "big").hex())


Keeping = Callable[..., Any]


def keeping(url: str, use: Callable[[Redis, Keeping], Awaitable[None]], **options: int) -> None:
    """Runs a test with a real Redis and a `kept_images` of it."""

    async def run() -> None:
        async with connect_async(url) as redis:
            state = SimpleNamespace(redis=redis, options=Options(media_cache_mb=1, **cast("Any", options)))
            request = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(millpond=state)))
            model = SimpleNamespace(keys=KEYS)

            def kept(request_id: str, sequences: Sequences, seconds: float = 5.0) -> Any:
                stands = cast("Request", request), cast("ServedModel", model)
                return kept_images(*stands, request_id, sequences, seconds)

            await use(redis, kept)

    asyncio.run(run())


def test_images_are_needed_while_the_request_waits_and_no_longer(clean_redis_url: str) -> None:
    async def use(redis: Redis, kept: Keeping) -> None:
        async with kept("r", images(1_000, 2_000)):
            assert await redis.zrange(users(1_000), 0, -1) == [b"r"]
        assert not await redis.exists(users(1_000), users(2_000))
        assert await redis.hget(KEYS.blob_sizes, "total") == b"3000"

    keeping(clean_redis_url, use)


def test_images_are_free_though_the_request_failed(clean_redis_url: str) -> None:
    async def use(redis: Redis, kept: Keeping) -> None:
        with pytest.raises(ZeroDivisionError):
            async with kept("r", images(1_000)):
                raise ZeroDivisionError
        assert not await redis.exists(users(1_000))

    keeping(clean_redis_url, use)


def test_a_request_without_images_leaves_nothing_in_redis(clean_redis_url: str) -> None:
    async def use(redis: Redis, kept: Keeping) -> None:
        async with kept("r", images()):
            assert not await redis.keys("*")

    keeping(clean_redis_url, use)


def test_requests_that_need_all_the_room_make_the_next_wait_and_only_while_they_last(clean_redis_url: str) -> None:
    async def use(redis: Redis, kept: Keeping) -> None:
        async with kept("r", images(1_000, MIB // 2)):
            with pytest.raises(RefusedError, match="--media-cache-mb") as refused:
                async with kept("s", images(1_000, MIB // 2 - 1)):
                    raise AssertionError("there was no room")
            assert (refused.value.status, refused.value.reason) == (429, "images_full")
            assert refused.value.headers == {"Retry-After": "5"}
            assert await redis.zrange(users(1_000), 0, -1) == [b"r"], "what was refused holds nothing"
        async with kept("s", images(1_000, MIB // 2 - 1)):
            assert not await redis.exists(KEYS.blob((MIB // 2).to_bytes(32, "big").hex()))

    keeping(clean_redis_url, use)


def test_images_for_which_there_never_will_be_room_are_refused_at_once(clean_redis_url: str) -> None:
    async def use(redis: Redis, kept: Keeping) -> None:
        for sizes in ((MIB + 1,), (MIB,), (MIB // 2, MIB // 2 - 1)):
            with pytest.raises(RefusedError, match="--media-cache-mb") as refused:
                async with kept("r", images(*sizes)):
                    raise AssertionError("there was no room")
            assert (refused.value.status, refused.value.code) == (413, "request_too_large")
        assert not await redis.keys("*")

    keeping(clean_redis_url, use)


@pytest.mark.parametrize(("ttl", "seconds", "wanted"), [(100, 5.0, 100), (100, 900.0, 900)])
def test_images_are_kept_as_long_as_the_option_says_and_no_shorter_than_the_request_waits(
    clean_redis_url: str, ttl: int, seconds: float, wanted: int
) -> None:
    async def use(redis: Redis, kept: Keeping) -> None:
        async with kept("r", images(1_000), seconds):
            left = await redis.pttl(KEYS.blob((1_000).to_bytes(32, "big").hex()))
            assert wanted * 1000 + GRACE_MS - 10_000 < left <= wanted * 1000 + GRACE_MS

    keeping(clean_redis_url, use, media_cache_ttl=ttl)
