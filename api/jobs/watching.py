"""How an api process hears that jobs have ended: one subscription for all who wait, and a look at times."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from scheduler.connection import BLOCK_MS, end_if_cancelled, is_passing
from scheduler.jobs import FoundJob
from scheduler.keys import JOB_NEWS

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often a job is looked at that somebody waits for. Bounds the delay that lost news cost."""


class JobNews:
    """The ends of jobs, as Redis tells them. It listens from the first time on that somebody waits."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None
        self._stopping = False

    async def watch(
        self,
        job_id: str,
        seconds: float,
        look: Callable[[], Awaitable[FoundJob]],
        suffices: Callable[[FoundJob], bool],
        has_left: Callable[[], Awaitable[bool]],
    ) -> FoundJob:
        """The job when it suffices, or as it is after so many seconds, when its caller left, or when the process stops.

        What `look` raises ends the wait.
        """
        until = asyncio.get_running_loop().time() + seconds
        with self._heard(job_id) as heard:
            while True:
                heard.clear()
                found = await look()
                left = until - asyncio.get_running_loop().time()
                if suffices(found) or left <= 0 or self._stopping or await has_left():
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_SECONDS)):
                        await heard.wait()

    def stop_waiting(self) -> None:
        """Ends every wait: whoever waits hears how its job stands, and asks another process."""
        self._stopping = True
        for job_id in self._waiting:
            self._tell(job_id)

    async def close(self) -> None:
        """Ends the listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    @contextmanager
    def _heard(self, job_id: str) -> Iterator[asyncio.Event]:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _tell(self, job_id: str) -> None:
        for event in self._waiting.get(job_id, ()):
            event.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(JOB_NEWS)
                    while True:
                        end_if_cancelled()
                        message = await subscription.get_message(
                            ignore_subscribe_messages=True, timeout=BLOCK_MS / 1000
                        )
                        if message is not None:
                            self._tell(message["data"].decode())
            except (RedisError, OSError) as error:
                end_if_cancelled()
                if not is_passing(error):
                    raise
                log.warning("redis is away: %s", error)
                await asyncio.sleep(0.1)
