"""The files that items refer to, images so far: kept in Redis by their SHA-256, within a budget.

A file is kept once, however many requests need it. When there is no room, those go that have not been used for the
longest time; none goes that a request needs which is not over. Items carry digests only, so no other step knows of it.
"""

from collections.abc import Mapping, Sequence

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from scheduler.connection import persist
from scheduler.errors import BlobsFullError
from scheduler.keys import ModelKeys
from scheduler.lua import Argument, Step
from scheduler.results import ENQUEUE_SECONDS

KEPT_MS = 3_600_000
"""How long a file is kept at least after its last use, if there is room."""

GRACE_MS = 2 * 1000 * round(ENQUEUE_SECONDS)
"""How long a request counts that is not in Redis yet: longer than handing it in may take."""

KEPT = -1


def use_blobs(keys: ModelKeys, request_id: str, digests: Sequence[bytes], kept_ms: int = KEPT_MS) -> Step:
    """Notes that a request needs files; its reply are the names, in hex, of those that are not there."""
    return Step("use_blobs", [keys.blobs], [*_shared(keys, request_id, kept_ms), *(each.hex() for each in digests)])


def keep_blob(
    keys: ModelKeys, request_id: str, digest: bytes, data: bytes, budget: int, kept_ms: int = KEPT_MS
) -> Step:
    """Keeps a file that a request needs; its reply is KEPT, or how many bytes others need where there is no room."""
    arguments = [*_shared(keys, request_id, kept_ms), budget, digest.hex(), data]
    return Step("keep_blob", [keys.blobs, keys.blob_sizes], arguments)


async def keep(
    redis: AsyncRedis, keys: ModelKeys, request_id: str, files: Mapping[bytes, bytes], budget: int, seconds: float
) -> None:
    """Keeps the files of a request that is about to be handed in; what is there already is not sent again.

    Args:
        files: by their digests.
        budget: the most bytes of all files of the model.
        seconds: until the request's deadline.

    Raises:
        BlobsFullError: there is no room, for what is kept is needed by others.
        QueueUnavailableError: Redis did not take them in time.
    """
    kept_ms = max(KEPT_MS, round(seconds * 1000) + GRACE_MS)
    look = use_blobs(keys, request_id, list(files), kept_ms)
    missing = await persist(lambda: look.run(redis), ENQUEUE_SECONDS, "look for files")
    for name in missing:
        digest = bytes.fromhex(name.decode())
        step = keep_blob(keys, request_id, digest, files[digest], budget, kept_ms)
        in_use = await persist(lambda step=step: step.run(redis), ENQUEUE_SECONDS, "keep a file")  # type: ignore[misc]
        if in_use != KEPT:
            raise BlobsFullError(budget, in_use, len(files[digest]))


def fetched(redis: Redis, keys: ModelKeys, digests: Sequence[bytes]) -> list[bytes | None]:
    """The files of these digests, None for one that is gone; from a thread."""
    found: list[bytes | None] = redis.mget([keys.blob(each.hex()) for each in digests])
    return found


def _shared(keys: ModelKeys, request_id: str, kept_ms: int) -> list[Argument]:
    return [request_id, GRACE_MS, kept_ms, keys.blob_prefix, keys.blob_users_prefix, keys.request_prefix]
