"""The resident engine: one model in memory, run by one thread, and everything that keeps its work honest.

Celery's threads claim a micro-batch, hand it to the engine's thread, and commit what comes back. One more thread keeps
the leases and the heartbeat, and ends the process when it no longer does what it is there for: a supervisor starts a
new one, and the leases bring the work back.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import numpy as np
from redis import Redis
from redis.exceptions import RedisError

from pooling.engine import PoolingEngine, PoolingInput
from pooling.pooler_config import Activation, PoolingType
from pooling.started import Started
from pooling.vision.processors import ImageProcessor, PreparedImage
from scheduler import leases
from scheduler.connection import is_passing
from scheduler.cost import Sample
from scheduler.keys import ModelKeys
from scheduler.messages import Failure, LeasedItem, MicroBatch, Result, Vector, encode_profile
from scheduler.metrics import STAGE_SECONDS
from scheduler.settings import BATCH_SECONDS_LIMIT, RENEWAL_SECONDS, SLOTS
from workers.engine_thread import EngineThread
from workers.hearing import Hearing
from workers.images import ItemImages
from workers.profiling import sample_of
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

COMMIT_SECONDS = 60.0
"""How long finished results are held for a Redis that is away. After that the items are simply run again."""

EXIT_HUNG, EXIT_DEAF, EXIT_NO_HEARTBEAT = 70, 71, 72

T = TypeVar("T")


class Resident:
    """One engine, the micro-batches it holds, and its worker's life signs."""

    def __init__(
        self,
        redis: Redis,
        engine: PoolingEngine,
        engine_thread: EngineThread,
        settings: WorkerSettings,
        profile: Sequence[Sample] = (),
        processor: ImageProcessor | None = None,
    ) -> None:
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._redis = redis
        self._engine = engine
        self._keys = ModelKeys(settings.model)
        self._life_signs: dict[str, str | bytes | int] = {
            "slots": SLOTS,
            "max_num_seqs": settings.max_num_seqs,
            "max_num_batched_tokens": settings.max_num_batched_tokens,
            "fingerprint": engine.spec.fingerprint,
            "profile": encode_profile(profile),
        }
        self._images = ItemImages(processor, self._keys, settings.max_image_pixels)
        self._engine_thread = engine_thread
        self._held: dict[str, float] = {}
        self._hearing = Hearing()
        self._timing = threading.Lock()
        self._finished_ns = 0
        self._leaving = threading.Event()

    def start(self) -> None:
        """Begins to be seen by the scheduler."""
        threading.Thread(target=self._keep_alive, name="heartbeat", daemon=True).start()

    def leave(self) -> None:
        """Takes this worker's slots away from the scheduler; what it holds it still finishes."""
        self._leaving.set()
        try:
            self._redis.delete(self._keys.worker(self.worker_id))
        except RedisError as error:
            log.info("the heartbeat is left to run out: %s", error)

    def run(self, batch_id: str) -> None:
        """Claims a micro-batch, runs it and commits its results; nothing at all when it is not to be had any more."""
        self._hearing.heard()
        reply = _insist(leases.claim(self._keys, batch_id, self.worker_id).run_blocking, self._redis, "claim")
        batch = leases.claimed_batch(batch_id, reply)
        if batch is None:
            return
        queued_us = self._queued_us(batch)
        self._held[batch_id] = time.monotonic()
        try:
            self._run_claimed(batch, queued_us)
        finally:
            del self._held[batch_id]

    def _run_claimed(self, batch: MicroBatch, queued_us: Sequence[int]) -> None:
        try:
            images = self._prepared(batch)
            inputs = [
                _pooling_input(leased, each)
                for leased, each in zip(batch.items, images, strict=True)
                if not isinstance(each, Failure)
            ]
            forward_us, found = 0, list[np.ndarray]()
            if inputs:
                begun = self._engine_thread.submit(lambda: self._begun(inputs), urgent=batch.urgent)
                found, forward_us = self._fetched(*begun.result())
            vectors = iter(found)
        except Exception as error:
            log.exception("a forward of %d sequences, %d tokens failed", len(batch.items), batch.tokens)
            step = leases.release(self._keys, batch.batch_id, f"{type(error).__name__}: {error}")
            _insist(step.run_blocking, self._redis, "give back a batch")
            return
        answers: list[tuple[LeasedItem, Result]] = [
            (leased, each if isinstance(each, Failure) else Vector(next(vectors).tobytes(), queued, forward_us))
            for leased, each, queued in zip(batch.items, images, queued_us, strict=True)
        ]
        with STAGE_SECONDS.labels(self._keys.model, "commit").time():
            run = [leased.item.tokens for leased, answer in answers if isinstance(answer, Vector)]
            sample = sample_of(run, forward_us / 1e6) if run else None
            _insist(leases.commit(self._keys, batch.batch_id, answers, sample).run_blocking, self._redis, "commit")

    def _prepared(self, batch: MicroBatch) -> list[tuple[PreparedImage, ...] | Failure]:
        """The images of each item, decoded here, beside the engine's thread; of most there are none."""
        items = [leased.item for leased in batch.items]
        if not any(item.images for item in items):
            return [()] * len(items)
        with STAGE_SECONDS.labels(self._keys.model, "images").time():
            return _insist(lambda redis: self._images.prepared(redis, items), self._redis, "fetch images")

    def _begun(self, inputs: list[PoolingInput]) -> tuple[int, Started]:
        """When the engine began, in the engine's thread, and what it is at."""
        return time.perf_counter_ns(), self._engine.start(inputs)

    def _fetched(self, began_ns: int, started: Started) -> tuple[list[np.ndarray], int]:
        """What the engine makes of the inputs, and the microseconds that it took.

        They count from the moment when it had finished the forward before, on a device that computes while the engine's
        thread goes on.
        """
        vectors = started.rows()
        with self._timing:
            taken_ns = max(1000, started.finished_ns - max(began_ns, self._finished_ns))
            self._finished_ns = max(self._finished_ns, started.finished_ns)
        STAGE_SECONDS.labels(self._keys.model, "forward").observe(taken_ns / 1e9)
        return vectors, taken_ns // 1000

    def _queued_us(self, batch: MicroBatch) -> list[int]:
        """How long each item has waited until now, in microseconds."""
        now_us = time.time_ns() // 1000
        # Where the clocks of two machines disagree, an item may seem to come from the future.
        queued_us = [max(0, now_us - leased.item.created_ms * 1000) for leased in batch.items]
        stage = STAGE_SECONDS.labels(self._keys.model, "queued")
        for each in queued_us:
            stage.observe(each / 1e6)
        return queued_us

    def _keep_alive(self) -> None:
        try:
            self._renew_for_ever()
        except Exception:
            log.exception("this worker can keep its leases no more: ending it")
            os._exit(EXIT_NO_HEARTBEAT)

    def _renew_for_ever(self) -> NoReturn:
        while True:
            try:
                for batch_id, since in list(self._held.items()):
                    self._end_if_hung(batch_id, since)
                    leases.renew(self._keys, batch_id, self.worker_id).run_blocking(self._redis)
                if not self._leaving.is_set():
                    step = leases.heartbeat(self._keys, self.worker_id, self._life_signs)
                    self._end_if_deaf(step.run_blocking(self._redis))
            except (RedisError, OSError) as error:
                if not is_passing(error):
                    raise
                log.warning("redis is away: %s", error)
                self._hearing.reset()
            time.sleep(RENEWAL_SECONDS)

    def _end_if_hung(self, batch_id: str, since: float) -> None:
        seconds = time.monotonic() - since
        if seconds > BATCH_SECONDS_LIMIT:
            log.critical("batch %s has run for %.0f s: ending this worker", batch_id, seconds)
            os._exit(EXIT_HUNG)

    def _end_if_deaf(self, sent: int) -> None:
        if self._hearing.is_deaf(sent=sent > len(self._held)):
            log.critical("work waits and the broker delivers none: ending this worker")
            os._exit(EXIT_DEAF)


def _pooling_input(leased: LeasedItem, images: tuple[PreparedImage, ...]) -> PoolingInput:
    item = leased.item
    return PoolingInput(
        np.frombuffer(item.ids, "<i4"),
        item.second_from,
        item.dimensions,
        item.normalize,
        None if item.pooling_type is None else PoolingType(item.pooling_type),
        None if item.activation is None else Activation(item.activation),
        images,
    )


def _insist(call: Callable[[Redis], T], redis: Redis, what: str) -> T:
    """The reply of a step, tried again while Redis is away: a step changes nothing the second time."""
    deadline, pause = time.monotonic() + COMMIT_SECONDS, 0.02
    while True:
        try:
            return call(redis)
        except (RedisError, OSError) as error:
            if not is_passing(error) or time.monotonic() + pause > deadline:
                raise
            log.info("waiting for redis to %s: %s", what, error)
        time.sleep(pause)
        pause = min(pause * 2, 1.0)
