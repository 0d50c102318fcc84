"""Finds out whether a forward really goes the whole way: through the queue, a worker and back."""

import asyncio
import time
import uuid

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.serving import ServedModel
from scheduler.errors import SchedulerError
from scheduler.keys import Lane
from scheduler.messages import Failure, Item
from scheduler.results import Callers

FRESH_SECONDS = 5.0
"""A forward that came back so lately is proof enough."""

PATIENCE_SECONDS = 10.0
"""How long a canary may take before the way counts as blocked."""


class Canary:
    """Sends one tiny item when asked, unless one came back lately; many askers share one."""

    def __init__(self, redis: Redis, callers: Callers, model: ServedModel) -> None:
        self._redis = redis
        self._callers = callers
        self._model = model
        self._back_at = -FRESH_SECONDS
        self._asking = asyncio.Lock()

    async def trouble(self) -> str | None:
        """None when a forward went the whole way lately; else the reason why none does."""
        async with self._asking:
            if time.monotonic() - self._back_at < FRESH_SECONDS:
                return None
            try:
                trouble = await self._trouble_with_workers() or await self._trouble_on_the_way()
            except (RedisError, OSError, SchedulerError) as error:
                return f"Redis does not answer: {error}"
            if trouble is None:
                self._back_at = time.monotonic()
            return trouble

    async def _trouble_with_workers(self) -> str | None:
        """Looks for a worker of this very model: one of another checkpoint would answer nonsense."""
        keys = self._model.keys
        ids = [member.decode() for member in await self._redis.smembers(keys.workers)]
        found = [await self._redis.hget(keys.worker(worker_id), "fingerprint") for worker_id in ids]
        fingerprints = {each.decode() for each in found if each}
        if not fingerprints:
            return f"no worker of {self._model.name} lives"
        if fingerprints != {self._model.spec.fingerprint}:
            return (
                f"a worker serves another checkpoint as {self._model.name}, or with other options: give api and "
                "workers the same --model, --pooler-config, --max-model-len and the like"
            )
        return None

    async def _trouble_on_the_way(self) -> str | None:
        request_id = uuid.uuid4().hex
        (ids,) = self._model.tokenizer.encode(["ready?"])
        items = [Item(request_id, 0, ids.astype("<i4", copy=False).tobytes(), time.time_ns() // 1_000_000)]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                (result,) = await self._callers.submit(self._model.keys, Lane.INTERACTIVE, request_id, items)
        except TimeoutError:
            return f"no forward came back within {PATIENCE_SECONDS:g} s"
        return f"a forward failed: {result.message}" if isinstance(result, Failure) else None
