"""Celery between the command and its executors: a message says which chunk, the ledger says whether it is to be done.

A message that is lost is sent again once the queue is empty, and one that comes twice finds its chunk done or held. So
delivery at most once is enough here too, as it is for micro-batches (`scheduler/broker.py`).
"""

from celery import Celery
from redis.exceptions import RedisError

from scheduler.broker import celery_application
from scheduler.connection import connect
from scheduler.keys import CELERY_KEY_PREFIX, backfill_queue

RUN_CHUNK = "millpond.run_chunk"
"""The task: backfill id and chunk number, as JSON."""


class Carrier:
    """The command's end. Its calls block; while the broker is away they raise errors of Redis, kombu or the system."""

    def __init__(self, broker_url: str, backfill_id: str) -> None:
        self._backfill_id = backfill_id
        self._queue = backfill_queue(backfill_id)
        self._redis = connect(broker_url)
        self._application: Celery = celery_application(broker_url)

    def waiting(self) -> int:
        """How many messages no executor has fetched."""
        return int(self._redis.llen(CELERY_KEY_PREFIX + self._queue))

    def send(self, number: int) -> None:
        """Puts a chunk into the queue."""
        self._application.send_task(RUN_CHUNK, args=[self._backfill_id, number], queue=self._queue, retry=False)

    def close(self) -> None:
        """Lets go of the broker."""
        self._redis.close()
        self._application.close()

    def discard(self) -> None:
        """Removes the queue with what nobody will fetch; where that cannot be, it is a few hundred bytes."""
        try:
            self._redis.delete(CELERY_KEY_PREFIX + self._queue, f"{CELERY_KEY_PREFIX}_kombu.binding.{self._queue}")
        except (RedisError, OSError):
            return
