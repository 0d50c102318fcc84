"""The Celery worker of one model: threads that claim, prepare and commit, around an engine in a thread of its own."""

from collections.abc import Callable

from scheduler.broker import celery_application
from scheduler.consuming import consume
from scheduler.keys import celery_queue
from scheduler.settings import SLOTS
from workers.resident import Resident
from workers.settings import WorkerSettings
from workers.tasks import register_tasks

THREADS = 2 * SLOTS
"""More than slots: the scheduler hears of a free slot at the commit, a moment before Celery calls the thread free, and
a consumer that finds no free thread looks again only after a second."""


def serve_batches(settings: WorkerSettings, resident: Resident, on_ready: Callable[[], None]) -> int:
    """Runs micro-batches until SIGTERM; the exit status.

    While the engine runs one batch, the next one is claimed and waits at its door.
    """
    application = celery_application(settings.broker_url)
    register_tasks(application, resident)

    def ready() -> None:
        resident.start()
        on_ready()

    name = resident.worker_id
    return consume(application, celery_queue(name), name, ready, resident.leave, pool="threads", concurrency=THREADS)
