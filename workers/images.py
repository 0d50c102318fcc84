"""From the digests that items carry to prepared images: fetched from Redis, decoded, cut into patches.

It runs in the threads that hold micro-batches, beside the engine's.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import orjson
from redis import Redis

from pooling.vision.errors import ImageError
from pooling.vision.images import MAX_PIXELS, decoded
from pooling.vision.processors import ImageProcessor, PreparedImage, image_key
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
        self._kept: OrderedDict[bytes, PreparedImage] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def prepared(self, redis: Redis, items: Sequence[Item]) -> list[tuple[PreparedImage, ...] | Failure]:
        """The images of each item in order, or why it cannot have them: Redis is asked once for all.

        Raises:
            RedisError: it is away.
        """
        if not any(item.images for item in items):
            return [()] * len(items)
        wanted = {_key(digest, item): digest for item in items for digest in item.images}
        missing = list({digest for key, digest in wanted.items() if self._known(key) is None})
        files = dict(zip(missing, fetched(redis, self._keys, missing), strict=True)) if missing else {}
        return [self._of(item, files) for item in items]

    def _of(self, item: Item, files: dict[bytes, bytes | None]) -> tuple[PreparedImage, ...] | Failure:
        found = []
        for digest in item.images:
            key = _key(digest, item)
            image = self._known(key)
            if image is None:
                data = files.get(digest)
                if data is None:
                    return Failure(503, "image_lost", f"{LOST}.")
                try:
                    image = self._made(key, data, item)
                except ImageError as error:
                    return Failure(400, "invalid_image", f"{error}.")
            found.append(image)
        return tuple(found)

    def _made(self, key: bytes, data: bytes, item: Item) -> PreparedImage:
        if self._processor is None:
            raise ImageError("this model takes text only")
        options = orjson.loads(item.image_options) if item.image_options else {}
        image = self._processor.prepared(key, decoded(data, self._most_pixels), options)
        with self._lock:
            if key not in self._kept and image.patches.nbytes <= KEPT_BYTES:
                self._kept[key] = image
                self._bytes += image.patches.nbytes
                while self._bytes > KEPT_BYTES:
                    _, oldest = self._kept.popitem(last=False)
                    self._bytes -= oldest.patches.nbytes
        return image

    def _known(self, key: bytes) -> PreparedImage | None:
        with self._lock:
            image = self._kept.get(key)
            if image is not None:
                self._kept.move_to_end(key)
            return image


def _key(digest: bytes, item: Item) -> bytes:
    return image_key(digest, orjson.loads(item.image_options) if item.image_options else {})
