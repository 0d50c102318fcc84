"""The Celery application that both ends share: the scheduler sends with it, the workers' tasks are registered on it.

Celery only carries a micro-batch's id to the one worker that it was leased for. What is done and what is not is decided
by leases, so delivery at most once is enough here, and Celery's own redelivery, which waits for a visibility timeout,
is not used.
"""

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from celery import Celery
from kombu.serialization import dumps

from scheduler.keys import CELERY_KEY_PREFIX, celery_queue
from scheduler.messages import RUN_BATCH, Posting


def celery_application(broker_url: str) -> Celery:
    """A Celery application on `broker_url`, a plain or Sentinel Redis (a cluster cannot carry Celery)."""
    application = Celery("millpond", broker=_kombu_url(broker_url), set_as_current=False)
    application.conf.update(
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "global_keyprefix": CELERY_KEY_PREFIX,
            # Without these a publish to a dead broker waits for ever.
            "socket_connect_timeout": 3.0,
            "socket_timeout": 10.0,
            "socket_keepalive": not broker_url.startswith(("unix://", "redis+socket://")),
            "health_check_interval": 10,
        },
    )
    return application


def _kombu_url(url: str) -> str:
    """kombu calls a Unix socket `redis+socket://...?virtual_host=N`, redis-py `unix://...?db=N`; both are taken."""
    if url.startswith("unix://"):
        return url.replace("unix://", "redis+socket://", 1).replace("db=", "virtual_host=")
    return url


class CeleryBroker:
    """The scheduler's end.

    Where the broker is the queue's own Redis, a micro-batch's message is posted by the step that makes its lease, which
    saves a round trip and leaves no moment between the two. Else kombu sends it; it blocks while it talks to Redis, so
    it does that in one thread of its own.
    """

    def __init__(self, broker_url: str, redis_url: str) -> None:
        self._application = celery_application(broker_url)
        self._posts = _kombu_url(broker_url) == _kombu_url(redis_url)
        self._forms: dict[str, _Form] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="celery-broker")

    def posting(self, worker_id: str, batch_id: str) -> Posting | None:
        """The message to post with the lease; None where it must be sent on its own."""
        if not self._posts:
            return None
        queue = celery_queue(worker_id)
        if queue not in self._forms:
            self._forms[queue] = _Form.of(self._application, queue)
        return Posting(CELERY_KEY_PREFIX + queue, self._forms[queue].message(batch_id))

    async def send(self, worker_id: str, batch_id: str) -> None:
        """Puts a micro-batch into a worker's queue."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._publish, worker_id, batch_id)

    async def discard(self, worker_id: str) -> None:
        """Removes the queue of a worker that is gone, with what it never fetched."""
        self._forms.pop(celery_queue(worker_id), None)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._delete, worker_id)

    def _publish(self, worker_id: str, batch_id: str) -> None:
        # Sent twice after a broken connection is harmless: what is committed twice counts once.
        self._application.send_task(
            RUN_BATCH,
            args=[batch_id],
            queue=celery_queue(worker_id),
            retry=True,
            retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
        )

    def _delete(self, worker_id: str) -> None:
        queue = celery_queue(worker_id)
        self._application.amqp.queues.pop(queue, None)
        with self._application.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue)


_ID, _BODY = "{id of the batch}", "{body of the message}"


@dataclass(frozen=True)
class _Form:
    """The messages of one queue, which differ in the id of the batch only: made once, as Celery takes half a
    millisecond for one."""

    envelope: str
    body: str

    @classmethod
    def of(cls, application: Celery, queue: str) -> "_Form":
        """What `send_task` would put into a queue.

        Headers and body are Celery's own; the envelope is that of kombu's Redis transport
        (kombu/transport/virtual/base.py, `Channel.prepare_message` and `basic_publish`).
        """
        task = application.amqp.as_task_v2(_ID, RUN_BATCH, args=[_ID])
        content_type, encoding, body = dumps(task.body, serializer="json")
        properties = {
            **task.properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": _ID,
        }
        envelope = {
            "body": _BODY,
            "content-encoding": encoding,
            "content-type": content_type,
            "headers": task.headers,
            "properties": properties,
        }
        return cls(json.dumps(envelope), body)

    def message(self, batch_id: str) -> bytes:
        """The message of a batch, whose id needs no escaping in JSON; without a thread and a round trip."""
        body = base64.b64encode(self.body.replace(_ID, batch_id).encode()).decode()
        return self.envelope.replace(_ID, batch_id).replace(_BODY, body).encode()
