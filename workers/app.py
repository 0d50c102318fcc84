"""The Celery worker of one model: threads that claim, prepare and commit, around an engine in a thread of its own."""

import logging
import warnings
from collections.abc import Callable

from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from kombu import Exchange, Queue

from scheduler.broker import celery_application
from scheduler.keys import celery_queue
from scheduler.settings import SLOTS
from workers.resident import Resident
from workers.settings import WorkerSettings
from workers.tasks import register_tasks

THREADS = 2 * SLOTS
"""More than slots: the scheduler hears of a free slot at the commit, a moment before Celery calls the thread free, and
a consumer that finds no free thread looks again only after a second."""


def consume(settings: WorkerSettings, resident: Resident, on_ready: Callable[[], None]) -> int:
    """Runs micro-batches until SIGTERM; the exit status.

    While the engine runs one batch, the next one is claimed and waits at its door.
    """
    # Celery warns root of pickled messages, where this worker takes JSON only; and of a setting that concerns late
    # acknowledgement, which is not used.
    for category in (SecurityWarning, CPendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category)
    application = celery_application(settings.broker_url)
    register_tasks(application, resident)
    # Delivered is done, for Celery: acknowledgements would cost two round trips a message, and the leases need none.
    name = celery_queue(resident.worker_id)
    application.conf.task_queues = [Queue(name, Exchange(name), routing_key=name, no_ack=True)]

    def ready(**_: object) -> None:
        resident.start()
        on_ready()

    def shutting_down(**_: object) -> None:
        resident.leave()

    worker_ready.connect(ready)
    worker_shutting_down.connect(shutting_down)
    worker = application.Worker(
        pool="threads",
        concurrency=THREADS,
        hostname=f"{resident.worker_id}@millpond",
        loglevel=logging.WARNING,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
