"""From the digests that items carry to prepared images: fetched from Redis, decoded, cut into patches.

It runs in the threads that hold micro-batches, beside the engine's.
"""

import threading
from collections.abc import Sequence

import orjson
from redis import Redis

from pooling.vision.errors import ImageError
from pooling.vision.images import MAX_PIXELS, decoded
from pooling.vision.kept import Kept
from pooling.vision.processors import ImageOptions, ImageProcessor, PreparedImage, image_key
from scheduler.blobs import fetched
from scheduler.keys import ModelKeys
from scheduler.messages import Failure, Item

KEPT_BYTES = 128 * 1024 * 1024
"""Of prepared images that may come again."""

LOST = "an image of it is no longer kept: send it again. --media-cache-mb says how much is kept"


class ItemImages:
    """The images of one worker's items."""

    def __init__(self, processor: ImageProcessor | None, keys: ModelKeys, most_pixels: int = MAX_PIXELS) -> None:
        self._processor = processor
        self._keys = keys
        self._most_pixels = most_pixels
        self._kept: Kept[PreparedImage] = Kept(KEPT_BYTES)
        self._lock = threading.Lock()

    def prepared(self, redis: Redis, items: Sequence[Item]) -> list[tuple[PreparedImage, ...] | Failure]:
        """The images of each item in order, or why it cannot have them: Redis is asked once for all.

        Raises:
            RedisError: it is away.
        """
        options = [orjson.loads(item.image_options) if item.image_options else {} for item in items]
        keys = [[image_key(digest, own) for digest in item.images] for item, own in zip(items, options, strict=True)]
        found: dict[bytes, PreparedImage | Failure] = {}
        missing: dict[bytes, tuple[bytes, ImageOptions]] = {}
        for item, own, item_keys in zip(items, options, keys, strict=True):
            for digest, key in zip(item.images, item_keys, strict=True):
                with self._lock:
                    kept = self._kept.get(key)
                # Held from here on: what is made for others of the batch may take its place among what is kept.
                if kept is None:
                    missing[key] = (digest, own)
                else:
                    found[key] = kept
        digests = list({digest for digest, _ in missing.values()})
        files = dict(zip(digests, fetched(redis, self._keys, digests), strict=True)) if digests else {}
        for key, (digest, own) in missing.items():
            found[key] = self._made(key, files[digest], own)
        return [_together([found[key] for key in item_keys]) for item_keys in keys]

    def _made(self, key: bytes, data: bytes | None, options: ImageOptions) -> PreparedImage | Failure:
        """An image of a file, or why there is none."""
        if data is None:
            return Failure(503, "image_lost", f"{LOST}.")
        try:
            if self._processor is None:
                raise ImageError("this model takes text only")
            image = self._processor.prepared(key, decoded(data, self._most_pixels), options)
        except ImageError as error:
            return Failure(400, "invalid_image", f"{error}.")
        with self._lock:
            self._kept.keep(key, image, image.patches.nbytes)
        return image


def _together(images: Sequence[PreparedImage | Failure]) -> tuple[PreparedImage, ...] | Failure:
    """An item's images, or why it cannot have the first that is missing."""
    whole = []
    for image in images:
        if isinstance(image, Failure):
            return image
        whole.append(image)
    return tuple(whole)
