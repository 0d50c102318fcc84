"""The files that items refer to, images so far: kept in Redis by their SHA-256, within a budget.

A file is kept once, however many requests need it. When there is no room, those go that have not been used for the
longest time; none goes that a request needs which is not over. Items carry digests only, so no other step knows of it.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from scheduler.connection import end_if_cancelled, persist
from scheduler.errors import BlobsFullError, QueueUnavailableError
from scheduler.keys import ModelKeys
from scheduler.lua import Argument, Step
from scheduler.results import ENQUEUE_SECONDS

log = logging.getLogger(__name__)

KEEP_SECONDS = 20.0
"""How long a caller is kept while Redis is away or full, before its files are refused."""

GRACE_MS = 1000 * round(KEEP_SECONDS + ENQUEUE_SECONDS + 10)
"""How long a request counts that is not in Redis yet: as long as keeping its files and handing it in may take."""

OVERHEAD = 1024
"""Bytes that Redis needs for a file beside its own, for its names and users: they count in the budget."""

PIECE_BYTES = 16 * 1024 * 1024
"""Most bytes that one step keeps, or one file: Redis does nothing else meanwhile, and holds them three times."""

PIECE_FILES = 256
"""Most files that one step looks at."""


def taken(files: Mapping[bytes, bytes]) -> int:
    """What files take of a budget, in bytes."""
    return sum(len(data) + OVERHEAD for data in files.values())


def use_blobs(
    keys: ModelKeys, request_id: str, digests: Sequence[bytes], ttl_ms: int, grace_ms: int = GRACE_MS
) -> Step:
    """Notes that a request needs files; its reply are the names, in hex, of those that are not there.

    Args:
        ttl_ms: how long they are kept at least.
        grace_ms: for which the request counts though it is not handed in.
    """
    return _step("use_blobs", keys, request_id, grace_ms, ttl_ms, *(each.hex() for each in digests))


def keep_blobs(
    keys: ModelKeys, request_id: str, files: Mapping[bytes, bytes], budget: int, ttl_ms: int, grace_ms: int = GRACE_MS
) -> Step:
    """Keeps files that a request needs, by their digests, all or none.

    Its reply is: `room`, where they are kept, or `full`, or `more`, where `free_blobs` has to go on; the bytes of all
    files; and what `free_blobs` asks for: the count and bytes of those that are new, and the step's moment.

    Args:
        budget: what all files of the model may take, as `taken` counts.
        ttl_ms, grace_ms: as of `use_blobs`.
    """
    named: list[Argument] = []
    for digest, data in files.items():
        named += (digest.hex(), data)
    return _step("keep_blobs", keys, request_id, grace_ms, ttl_ms, budget, *named)


def free_blobs(keys: ModelKeys, count: int, size: int, budget: int, moment: int) -> Step:
    """Goes on making room after `keep_blobs` replied `more`; its reply is one of the same words, and the bytes of all.

    Args:
        count, size, moment: as `keep_blobs` replied.
    """
    return _step("free_blobs", keys, count, size, budget, moment)


async def keep(
    redis: AsyncRedis, keys: ModelKeys, request_id: str, files: Mapping[bytes, bytes], budget: int, ttl_ms: int
) -> None:
    """Keeps the files of a request that is about to be handed in; what is there already is not sent again.

    `let_go` should follow when the request is over, and when it is not handed in at all.

    Args:
        files: by their digests.
        budget: what all files of the model may take, as `taken` counts.
        ttl_ms: how long they are kept at least: no shorter than the request may wait.

    Raises:
        BlobsFullError: there is no room, for what is kept is needed by requests that are not over.
        QueueUnavailableError: Redis did not take them in time.
    """
    deadline = asyncio.get_running_loop().time() + KEEP_SECONDS
    for digests in _pieces(dict.fromkeys(files, 0)):
        looking = use_blobs(keys, request_id, digests, ttl_ms)
        missing = [bytes.fromhex(name.decode()) for name in await _reply(redis, looking, deadline)]
        for piece in _pieces({each: len(files[each]) for each in missing}):
            keeping = keep_blobs(keys, request_id, {each: files[each] for each in piece}, budget, ttl_ms)
            await _make_room_and_keep(redis, keys, keeping, budget, deadline)


async def let_go(redis: AsyncRedis, keys: ModelKeys, request_id: str, digests: Sequence[bytes]) -> None:
    """Notes that a request needs its files no more; else they are its own until its grace is over and its hash gone."""
    try:
        async with redis.pipeline(transaction=False) as pipeline:
            for digest in digests:
                pipeline.zrem(keys.blob_users(digest.hex()), request_id)
            await pipeline.execute()
    except (RedisError, OSError) as error:
        end_if_cancelled()
        log.info("the files of request %s are left to run out by themselves: %s", request_id, error)


def fetched(redis: Redis, keys: ModelKeys, digests: Sequence[bytes]) -> list[bytes | None]:
    """The files of these digests, None for one that is gone; from a thread."""
    found: list[bytes | None] = redis.mget([keys.blob(each.hex()) for each in digests])
    return found


def kept_bytes(redis: Redis, keys: ModelKeys) -> tuple[int, int]:
    """The bytes of all files of a model, and how many were let go because there was no room; from a thread."""
    total, evicted = redis.hmget(keys.blob_sizes, "total", "evicted")
    # They are counted out when the next file is kept.
    ended = redis.zrangebyscore(keys.blob_ends, "-inf", time.time_ns() // 1_000_000)
    gone = sum(int(size or 0) for size in redis.hmget(keys.blob_sizes, ended)) if ended else 0
    return max(0, int(total or 0) - gone), int(evicted or 0)


async def _make_room_and_keep(redis: AsyncRedis, keys: ModelKeys, keeping: Step, budget: int, deadline: float) -> None:
    while True:
        state, total, count, size, moment = await _reply(redis, keeping, deadline)
        if state == b"room":
            return
        freeing = free_blobs(keys, count, size, budget, moment)
        while state == b"more":
            state, total = await _reply(redis, freeing, deadline)
        if state == b"full":
            raise BlobsFullError(budget, total, size)


async def _reply(redis: AsyncRedis, step: Step, deadline: float) -> Any:
    """The reply of a step that may run several times, until a time of the event loop."""
    left = deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise QueueUnavailableError(f"The queue did not keep the files of a request within {KEEP_SECONDS:g} seconds.")
    return await persist(lambda: step.run(redis), left, "keep the files of a request")


def _pieces(sizes: Mapping[bytes, int]) -> Iterator[list[bytes]]:
    """Files by their sizes, in pieces that one step takes."""
    piece, together = list[bytes](), 0
    for digest, size in sizes.items():
        if piece and (together + size > PIECE_BYTES or len(piece) == PIECE_FILES):
            yield piece
            piece, together = [], 0
        piece.append(digest)
        together += size
    if piece:
        yield piece


def _step(name: str, keys: ModelKeys, *arguments: Argument) -> Step:
    steady = (keys.blob_prefix, keys.blob_users_prefix, keys.request_prefix, OVERHEAD)
    return Step(name, [keys.blobs, keys.blob_sizes, keys.blob_ends], [*steady, *arguments], shared=("prelude", "blobs"))
