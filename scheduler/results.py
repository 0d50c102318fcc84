"""How an api process waits for its requests: one subscription, and a look at Redis now and then.

A wake-up may get lost, and a request may be lost with a Redis that died before it wrote to disk. So whoever waits
subscribes first, then writes, then waits; and now and then asks Redis whether the request is still there, and hands it
in again if it is not.
"""

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from scheduler.connection import BLOCK_MS, end_if_cancelled, is_passing, persist
from scheduler.errors import QueueFullError, QueueUnavailableError
from scheduler.keys import Lane, ModelKeys, wake_channel
from scheduler.messages import Item, Result, decode_result
from scheduler.queue import UNBOUNDED, Bounds, abandon, announce_model, check_accepted, enqueue
from scheduler.settings import REQUEST_TTL_MS

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often waiting requests are looked after. Bounds the delay that a lost wake-up costs."""

ENQUEUE_SECONDS = 30.0
"""How long a caller is kept while Redis is away before it hears 503: longer than an embedded Redis takes to restart."""


@dataclass(slots=True)
class _Pending:
    keys: ModelKeys
    lane: Lane
    items: Sequence[Item]
    results: "asyncio.Future[list[Result]]" = field(repr=False)
    accepted: bool = False  # Redis has taken it: if it is not there, Redis has lost it


class Callers:
    """The requests of one api process that wait for their results."""

    def __init__(self, redis: Redis, bounds: Bounds = UNBOUNDED) -> None:
        self._redis = redis
        self._bounds = bounds
        self._channel = wake_channel(uuid.uuid4().hex)
        self._pending: dict[str, _Pending] = {}
        self._subscribed = asyncio.Event()
        self._taken: list[str] = []
        self._abandoning: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._pending)

    async def submit(self, keys: ModelKeys, lane: Lane, request_id: str, items: Sequence[Item]) -> list[Result]:
        """The results of a request's items, in the order of the items.

        When the awaiting task is cancelled, the request is abandoned: items that have not run yet never will.

        Raises:
            QueueUnavailableError: Redis did not take the request in time.
            QueueFullError: too much is queued already.
        """
        pending = _Pending(keys, lane, items, asyncio.get_running_loop().create_future())
        self._pending[request_id] = pending
        handing_in = asyncio.ensure_future(
            persist(lambda: self._hand_in(request_id, pending), ENQUEUE_SECONDS, "accept the request")
        )
        refused = False
        try:
            await asyncio.shield(handing_in)
            pending.accepted = True
            return await pending.results
        except QueueFullError:
            refused = True  # there is nothing of it in Redis
            raise
        finally:
            del self._pending[request_id]
            results = pending.results
            if not refused and (not results.done() or results.cancelled() or results.exception()):
                abandoning = asyncio.ensure_future(self._abandon(request_id, pending, handing_in))
                self._abandoning.add(abandoning)
                abandoning.add_done_callback(self._abandoning.discard)
                if handing_in.done():
                    await asyncio.shield(abandoning)

    async def _hand_in(self, request_id: str, pending: _Pending) -> None:
        async with asyncio.timeout(ENQUEUE_SECONDS):
            await self._subscribed.wait()
        # What was accepted once, and Redis has lost, is not asked to wait.
        bounds = None if pending.accepted else self._bounds
        step = enqueue(pending.keys, pending.lane, request_id, pending.items, self._channel, bounds)
        check_accepted(await step.run(self._redis))

    async def _abandon(self, request_id: str, pending: _Pending, handing_in: "asyncio.Future[None]") -> None:
        # What is on its way into Redis would come after its own removal: it is let in first.
        await asyncio.gather(handing_in, return_exceptions=True)
        try:
            await abandon(self._redis, pending.keys, [request_id])
        except (RedisError, OSError) as error:
            log.info("request %s is left to run out by itself: %s", request_id, error)

    def give_up(self, reason: str) -> None:
        """Ends every wait with a `QueueUnavailableError`: this process stops before the results can come."""
        for pending in self._pending.values():
            if not pending.results.done():
                pending.results.set_exception(QueueUnavailableError(reason))

    async def run(self, models: Sequence[str]) -> None:
        """Listens for wake-ups and looks after what waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(models))
            group.create_task(self._look_after())

    async def _listen(self, models: Sequence[str]) -> None:
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(self._channel)
                    for model in models:
                        await announce_model(self._redis, model)
                    self._subscribed.set()
                    while True:
                        # The client swallows a cancellation that comes while it connects.
                        end_if_cancelled()
                        message = await subscription.get_message(
                            ignore_subscribe_messages=True, timeout=BLOCK_MS / 1000
                        )
                        if message is not None:
                            await self._hear(message["data"])
            except (RedisError, OSError) as error:
                end_if_cancelled()
                if not is_passing(error):
                    raise
                self._subscribed.clear()
                log.warning("redis is away: %s", error)
                await asyncio.sleep(0.1)

    async def _hear(self, news: bytes) -> None:
        """Takes what a wake-up brings along, and fetches the rest."""
        left = []
        for request_id, values in msgpack.unpackb(news, raw=True):
            if values:
                self._answer(request_id.decode(), dict(zip(values[::2], values[1::2], strict=True)))
            else:
                left.append(request_id.decode())
        if left:
            await self._fetch(left)

    async def _fetch(self, request_ids: Sequence[str]) -> None:
        """Takes complete results out of Redis and hands them to those who wait."""
        found = [(each, self._pending[each]) for each in request_ids if each in self._pending]
        # What was taken is deleted with the next fetch and not with its own: were a reply lost, so were the results.
        done, self._taken = self._taken, []
        async with self._redis.pipeline(transaction=False) as pipeline:
            for request_id, pending in found:
                pipeline.hgetall(pending.keys.result(request_id))
            if done:
                pipeline.delete(*done)
            replies = await pipeline.execute()
        for (request_id, _), values in zip(found, replies, strict=False):
            self._answer(request_id, values)

    def _answer(self, request_id: str, values: dict[bytes, bytes]) -> None:
        pending = self._pending.get(request_id)
        # A request that was found complete twice, by wake-up and by looking, is answered only the first time.
        if pending and len(values) == len(pending.items) and not pending.results.done():
            ordered = [decode_result(values[b"%d" % item.index]) for item in pending.items]
            pending.results.set_result(ordered)
            self._taken += [pending.keys.result(request_id), pending.keys.request(request_id)]

    async def _look_after(self) -> None:
        """Keeps what waits alive, finds what completed unheard, and hands in again what Redis lost."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            waiting = [(each, pending) for each, pending in self._pending.items() if pending.accepted]
            try:
                if not (waiting or self._taken):
                    continue
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for request_id, pending in waiting:
                        pipeline.hget(pending.keys.request(request_id), "remaining")
                        pipeline.pexpire(pending.keys.request(request_id), REQUEST_TTL_MS)
                    remaining = (await pipeline.execute())[::2]
                complete = [each for (each, _), left in zip(waiting, remaining, strict=True) if left == b"0"]
                await self._fetch(complete)
                for (request_id, pending), left in zip(waiting, remaining, strict=True):
                    if left is None and request_id in self._pending and not pending.results.done():
                        log.warning("redis lost request %s: handing it in again", request_id)
                        await self._hand_in(request_id, pending)
            except (RedisError, OSError, QueueUnavailableError) as error:
                log.warning("waiting requests could not be looked after: %s", error)
