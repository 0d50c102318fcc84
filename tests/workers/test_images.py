"""Items' images are fetched in one go, prepared once, and an item whose image is gone spoils no other."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from redis import Redis

from pooling.vision.patches_processor import PatchesProcessor
from scheduler.blobs import keep_blobs
from scheduler.connection import connect
from scheduler.keys import ModelKeys
from scheduler.messages import Failure, Item
from tests.pooling.vision.pictures import encoded, noise
from workers import images as images_module
from workers.images import ItemImages

KEYS = ModelKeys("m")


@pytest.fixture
def redis(clean_redis_url: str) -> Iterator[Redis]:
    with connect(clean_redis_url) as client:
        yield client


@pytest.fixture
def processor() -> PatchesProcessor:
    return PatchesProcessor({"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 2560}})


def stored(redis: Redis, data: bytes) -> bytes:
    digest = hashlib.sha256(data).digest()
    keep_blobs(KEYS, "r", {digest: data}, 10**9, 60_000).run_blocking(redis)
    return digest


def item(index: int, *digests: bytes, options: bytes = b"") -> Item:
    return Item("r", index, b"\1\0\0\0", 1, images=digests, image_options=options)


def test_items_without_images_ask_redis_for_nothing(processor: PatchesProcessor) -> None:
    nobody: Redis = None  # type: ignore[assignment]
    assert ItemImages(processor, KEYS).prepared(nobody, [item(0), item(1)]) == [(), ()]


def test_images_come_in_the_order_of_the_item_and_are_prepared_once(redis: Redis, processor: PatchesProcessor) -> None:
    one, two = (stored(redis, encoded(noise(width, 30), "PNG")) for width in (20, 44))
    images = ItemImages(processor, KEYS)
    first, second = images.prepared(redis, [item(0, one, two, one), item(1, two)])
    assert not isinstance(first, Failure)
    assert not isinstance(second, Failure)
    assert [each.tokens for each in first] == [processor.tokens(w, 30, {}) for w in (20, 44, 20)]
    assert first[0] is first[2]
    assert first[1] is second[0]
    redis.flushdb()
    (again,) = images.prepared(redis, [item(2, one)])
    assert again == (first[0],)


def test_options_make_another_image_of_the_same_file(redis: Redis, processor: PatchesProcessor) -> None:
    digest = stored(redis, encoded(noise(40, 40), "PNG"))
    whole, small = ItemImages(processor, KEYS).prepared(
        redis, [item(0, digest), item(1, digest, options=b'{"image_size":16}')]
    )
    assert not isinstance(whole, Failure)
    assert not isinstance(small, Failure)
    assert small[0].tokens < whole[0].tokens
    assert small[0].key != whole[0].key


def test_an_image_that_is_gone_or_broken_fails_its_own_item_only(redis: Redis, processor: PatchesProcessor) -> None:
    good = stored(redis, encoded(noise(20, 20), "PNG"))
    broken = stored(redis, b"no image")
    found = ItemImages(processor, KEYS).prepared(redis, [item(0, b"\0" * 32), item(1, good), item(2, good, broken)])
    assert isinstance(found[0], Failure)
    assert (found[0].status, found[0].code) == (503, "image_lost")
    assert not isinstance(found[1], Failure)
    assert isinstance(found[2], Failure)
    assert (found[2].status, found[2].code) == (400, "invalid_image")


def test_no_more_is_remembered_than_is_allowed(
    redis: Redis, processor: PatchesProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "KEPT_BYTES", 40_000)
    images = ItemImages(processor, KEYS)
    for number in range(20):
        digest = stored(redis, encoded(noise(40, 40 + number), "PNG"))
        (found,) = images.prepared(redis, [item(0, digest)])
        assert not isinstance(found, Failure)
        assert images._kept.bytes <= 40_000
    assert np.isclose(images._kept.bytes, sum(each.patches.nbytes for each, _ in images._kept._values.values()))


def test_an_image_that_is_known_is_there_for_its_item_though_others_of_the_batch_take_its_place(
    redis: Redis, processor: PatchesProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "KEPT_BYTES", 40_000)
    images = ItemImages(processor, KEYS)
    known = stored(redis, encoded(noise(40, 40), "PNG"))
    images.prepared(redis, [item(0, known)])
    others = [stored(redis, encoded(noise(40, 41 + number), "PNG")) for number in range(20)]
    found = images.prepared(redis, [*(item(number, each) for number, each in enumerate(others)), item(20, known)])
    assert not any(isinstance(each, Failure) for each in found)
