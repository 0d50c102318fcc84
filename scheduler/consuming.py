"""A Celery worker on one queue, as all of Millpond's are: messages only say what is to be done, and leases decide."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from kombu import Exchange, Queue


def consume(
    application: Celery,
    queue: str,
    name: str,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
    **pool: Any,
) -> int:
    """Runs the application's tasks until SIGTERM; the exit status.

    Args:
        queue: the one that is read.
        name: of this worker, like no other's.
        on_ready: is called when it hears.
        on_stop: is called at SIGTERM, before what runs is waited for.
        pool: Celery's `pool` and `concurrency`.
    """
    # Celery warns root of pickled messages, where this worker takes JSON only; and of a setting that concerns late
    # acknowledgement, which is not used.
    for category in (SecurityWarning, CPendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category)
    # Delivered is done, for Celery: acknowledgements would cost two round trips a message, and the leases need none.
    application.conf.task_queues = [Queue(queue, Exchange(queue), routing_key=queue, no_ack=True)]

    def ready(**_: object) -> None:
        on_ready()

    def shutting_down(**_: object) -> None:
        on_stop()

    worker_ready.connect(ready)
    worker_shutting_down.connect(shutting_down)
    worker = application.Worker(
        hostname=f"{name}@millpond",
        loglevel=logging.WARNING,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        **pool,
    )
    worker.start()
    return int(worker.exitcode or 0)
