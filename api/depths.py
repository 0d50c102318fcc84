"""How much waits in a lane, for callers who send more or less by it; asked of Redis at most once a second."""

import logging
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

from scheduler.keys import Lane, ModelKeys

log = logging.getLogger(__name__)

KEPT_SECONDS = 1.0
"""How old the answer may be: bulk callers ask with every call."""


class QueueDepths:
    """The items that wait in the lanes, as one api process last saw them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: dict[str, tuple[float, int]] = {}

    async def of(self, keys: ModelKeys, lane: Lane) -> int | None:
        """The items in a model's lane, those of batches on their way included; None when Redis does not say."""
        stream, now = keys.lane(lane), time.monotonic()
        asked, depth = self._known.get(stream, (0.0, 0))
        if stream in self._known and now - asked < KEPT_SECONDS:
            return depth
        try:
            depth = int(await self._redis.xlen(stream))
        except (RedisError, OSError) as error:
            log.info("the depth of %s is not known: %s", stream, error)
            return None
        self._known[stream] = now, depth
        return depth
