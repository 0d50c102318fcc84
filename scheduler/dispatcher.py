"""The dispatch loop: whenever a worker has a free slot, the next micro-batch is formed, leased and sent.

There is no timer that holds work back: an idle worker gets work at once, and while all are busy the next batch grows.
While interactive callers come, a busy worker's next batch is formed only shortly before it has finished the one before,
as far as its costs tell: whoever comes meanwhile is in it.
One scheduler leads a model at a time. All it knows lies in a `Term`, which is thrown away whenever Redis fails it or
another takes over; the next term reads everything anew.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from scheduler import leases, metrics
from scheduler.connection import BLOCK_MS, end_if_cancelled, is_passing
from scheduler.errors import LeadershipLostError
from scheduler.fleet import Fleet, sample_of
from scheduler.keys import ModelKeys
from scheduler.messages import Posting
from scheduler.pace import Pace, publish
from scheduler.queue import READ_COUNT, LaneReader, drop
from scheduler.roster import Slot
from scheduler.settings import INTERACTIVE_TARGET_MS, STANDBY_SECONDS, TICK_SECONDS
from scheduler.urgency import Urgency
from scheduler.window import Window

log = logging.getLogger(__name__)

CANCEL_AGAIN_SECONDS = 0.1


class Broker(Protocol):
    """Carries the ids of micro-batches to workers."""

    def posting(self, worker_id: str, batch_id: str) -> Posting | None:
        """The message to post together with the lease; None where `send` must send it afterwards."""

    async def send(self, worker_id: str, batch_id: str) -> None:
        """Puts a micro-batch into a worker's queue."""

    async def discard(self, worker_id: str) -> None:
        """Removes the queue of a worker that is gone."""


class Dispatcher:
    """Leads one model whenever no other scheduler does.

    Args:
        target_ms: for how long the batches of other lanes may keep an interactive caller waiting.
    """

    def __init__(self, redis: Redis, model: str, broker: Broker, target_ms: int = INTERACTIVE_TARGET_MS) -> None:
        self._redis = redis
        self._keys = ModelKeys(model)
        self._broker = broker
        self._target_ms = target_ms

    async def run(self) -> None:
        """Serves term after term until cancelled."""
        while True:
            try:
                token = int(await leases.lead(self._keys, None).run(self._redis))
                end_if_cancelled()
                if token:
                    log.info("leading %s, term %d", self._keys.model, token)
                    await Term(self._redis, self._keys, token, self._broker, self._target_ms).serve()
            except (RedisError, OSError, LeadershipLostError) as error:
                end_if_cancelled()
                if isinstance(error, RedisError) and not is_passing(error):
                    raise
                log.warning("not leading %s: %s", self._keys.model, error)
            await asyncio.sleep(STANDBY_SECONDS)


class Term:
    """One leader's time in office, with its window on the lanes."""

    def __init__(self, redis: Redis, keys: ModelKeys, token: int, broker: Broker, target_ms: int) -> None:
        self._redis = redis
        self._keys = keys
        self._token = token
        self._broker = broker
        self._reader = LaneReader(redis, self._keys)
        self._window = Window()
        self._fleet = Fleet(redis, keys)
        self._pace = Pace()
        self._urgency = Urgency(target_ms / 1000)
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._joined = asyncio.Event()

    async def serve(self) -> None:
        """Dispatches until Redis fails, another leads, or the task is cancelled.

        Raises:
            RedisError, OSError, LeadershipLostError: whichever ended the term.
        """
        await self._look_at_workers()
        # Not a TaskGroup: cancelled while one of its tasks fails, it raises the failure and loses the cancellation.
        duties = [
            asyncio.create_task(duty)
            for duty in (
                self._listen(),
                self._welcome(),
                self._read_lanes(),
                self._fill_gaps(),
                self._keep_office(),
                self._dispatch(),
            )
        ]
        try:
            ended, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            ended.pop().result()
        finally:
            await _end(duties)
            with suppress(RedisError, OSError):
                await leases.resign(self._keys, self._token).run(self._redis)

    async def _read_lanes(self) -> None:
        """Takes what comes into the window."""
        while True:
            found = await self._reader.read(BLOCK_MS)
            self._window.add(found)
            self._urgency.note(found, time.monotonic())
            if found:
                self._wake.set()

    async def _fill_gaps(self) -> None:
        """Reads again what was passed over for want of room, once there is some."""
        while True:
            await self._room.wait()
            self._room.clear()
            for gap in self._window.gaps():
                found, read_to = await self._reader.read_again(gap.lane, gap.first, gap.last)
                self._window.fill(gap, found, read_to)
                self._room.set()  # there may be more of it
                self._wake.set()

    async def _listen(self) -> None:
        """Hears of slots that became free and of workers that came."""
        async with self._redis.pubsub() as subscription:
            await subscription.subscribe(self._keys.scheduler_channel)
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=BLOCK_MS / 1000)
                if message is None:
                    continue
                word, *rest = message["data"].decode().split()
                if word == "slot":
                    worker_id, batch_id, *measured = rest
                    sample = sample_of(measured)
                    self._fleet.freed(worker_id, batch_id, sample, time.monotonic())
                    self._pace.done(sample.tokens if sample else 0)
                    self._wake.set()
                else:
                    self._joined.set()

    async def _welcome(self) -> None:
        """Looks at the workers once some have come: once for all that have come while it looked."""
        while True:
            await self._joined.wait()
            self._joined.clear()
            await self._look_at_workers()
            self._wake.set()

    async def _keep_office(self) -> None:
        """Renews the leadership, takes back leases that ran out, drops what is late, and looks at the workers.

        The last because wake-ups may get lost.
        """
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if not await leases.lead(self._keys, self._token).run(self._redis):
                raise LeadershipLostError(f"another scheduler leads {self._keys.model}")
            await self._take_back_expired()
            await self._drop_expired()
            await self._look_at_workers()
            pace = self._pace.look(self._fleet.promised())
            await publish(self._redis, self._keys, pace, self._fleet.batch_seconds())
            self._wake.set()

    async def _take_back_expired(self) -> None:
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        for batch_id in await self._redis.zrangebyscore(self._keys.leases, "-inf", now_ms):
            step = leases.release(self._keys, batch_id.decode(), "the lease ran out", only_expired=True)
            reply = await step.run(self._redis)
            if reply:
                log.warning("lease of batch %s ran out: %d items go back, %d given up", batch_id.decode(), *reply)

    async def _drop_expired(self) -> None:
        """Drops items whose deadline has passed: they would take the place of others in the next batch.

        This process's clock only chooses whom to ask about; Redis's decides, and what it keeps stays in the window.
        """
        expired = self._window.expired(_now_ms())
        for begin in range(0, len(expired), READ_COUNT):
            asked = expired[begin : begin + READ_COUNT]
            gone = await drop(self._keys, asked).run(self._redis)
            self._window.remove(entry for entry, is_gone in zip(asked, gone, strict=True) if is_gone)
            self._room.set()

    async def _look_at_workers(self) -> None:
        for worker_id in await self._fleet.refresh():
            log.info("worker %s is gone", worker_id)
            try:
                await self._broker.discard(worker_id)
            except Exception as error:  # noqa: BLE001 - the broker's client raises errors of several libraries
                log.warning("the queue of worker %s is left behind: %s", worker_id, error)

    async def _dispatch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._fleet.opens_in(time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            while (slot := self._free_slot()) and await self._send_next(slot):
                pass
            if slot:
                self._pace.idled()

    def _free_slot(self) -> Slot | None:
        """A slot; while interactive callers come no sooner than needed, for who comes last may be the most urgent."""
        now = time.monotonic()
        late = self._urgency.brief_seconds(now) is not None
        return self._fleet.free_slot(now, urgent=self._window.urgent, late=late)

    async def _send_next(self, slot: Slot) -> bool:
        """Leases and sends one micro-batch to a worker. False when nothing waits."""
        await self._drop_expired()
        worker = slot.worker
        budget = worker.budget(self._urgency.brief_seconds(time.monotonic()), _now_ms())
        decision = self._window.next_batch(budget, urgent_only=slot.express)
        batch = decision.batch
        if not batch:
            return False
        batch_id, entries = uuid.uuid4().hex, [waiting.entry for waiting in batch]
        posting = self._broker.posting(worker.worker_id, batch_id)
        step = leases.lease(self._keys, self._token, batch_id, worker.worker_id, slot.slots, entries, posting)
        outcome = leases.leased_count(await step.run(self._redis))
        if outcome is leases.Refusal.FENCED:
            raise LeadershipLostError(f"another scheduler leads {self._keys.model}")
        if outcome is leases.Refusal.FULL:
            # The count kept here was wrong: a wake-up was lost, or the worker holds what an earlier leader sent.
            await self._look_at_workers()
            return True
        self._window.sent(decision)
        self._room.set()
        if outcome:
            worker.takes(batch_id, batch, time.monotonic())
            metrics.BATCH_SEQUENCES.labels(self._keys.model).observe(len(batch))
            metrics.BATCH_TOKENS.labels(self._keys.model).observe(sum(waiting.tokens for waiting in batch))
            if posting is None:
                await self._send_or_release(worker.worker_id, batch_id)
        return True

    async def _send_or_release(self, worker_id: str, batch_id: str) -> None:
        try:
            await self._broker.send(worker_id, batch_id)
        except Exception as error:  # noqa: BLE001 - the broker's client raises errors of several libraries
            log.warning("batch %s could not be sent, its items go back: %s", batch_id, error)
            await leases.release(self._keys, batch_id, f"not sent: {error}").run(self._redis)
            await asyncio.sleep(TICK_SECONDS)


async def _end(duties: Sequence["asyncio.Task[None]"]) -> None:
    """Cancels tasks until they have ended.

    Once is not enough: where a command's reply comes at the very moment, the cancellation is lost (`asyncio.wait_for`,
    by which redis-py sends, before Python 3.12), and the task goes on.
    """
    while not all(duty.done() for duty in duties):
        for duty in duties:
            duty.cancel()
        await asyncio.wait(duties, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*duties, return_exceptions=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
