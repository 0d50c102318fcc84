"""Removes files whose time is over, and what a process that died left: uploads without an end, parts of batches."""

import asyncio
import time

from redis.asyncio import Redis

from api.batches.places import folder
from api.files.storage import Storage, content_name
from scheduler.files import remove_file
from scheduler.keys import EXPIRING_FILES, file_key

SWEPT = 1_000
"""Files that one sweep looks at."""

BATCH_PREFIX = "batch_"
"""How the ids of batches begin, and those of files do not."""


async def sweep(redis: Redis, storage: Storage) -> None:
    """Removes what is due; what a batch still reads stays until its end, and is looked at again then."""
    for member in await redis.zrangebyscore(EXPIRING_FILES, "-inf", int(time.time()), start=0, num=SWEPT):
        name = member.decode()
        if name.startswith(BATCH_PREFIX):
            content = folder(name)
        elif await _is_read(redis, name):
            continue
        else:
            content = content_name(name)
        await asyncio.to_thread(storage.remove, content)
        await redis.zrem(EXPIRING_FILES, member)


async def _is_read(redis: Redis, file_id: str) -> bool:
    """Forgets a file, unless a batch reads it."""
    owner = await redis.hget(file_key(file_id), "owner") or b""
    return bool(await remove_file(file_id, owner.decode()).run(redis))
