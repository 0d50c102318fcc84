"""The one Celery task: run a micro-batch. The message holds only its id; the items come with the claim."""

from celery import Celery
from celery.worker.request import Request

from scheduler.messages import RUN_BATCH
from workers.resident import Resident


class Unacknowledged(Request):  # type: ignore[misc]
    """A message as Celery handles it, without the two commands to Redis by which kombu would acknowledge it.

    It was consumed without acknowledgement, so there is nothing in Redis that they could remove.
    """

    def acknowledge(self) -> None:
        """Notes that it is done with."""
        self.acknowledged = True


def register_tasks(application: Celery, resident: Resident) -> None:
    """Puts the task on a Celery application, bound to this process's engine."""

    @application.task(name=RUN_BATCH, Request=Unacknowledged)  # type: ignore[untyped-decorator]
    def run_batch(batch_id: str) -> None:
        resident.run(batch_id)
