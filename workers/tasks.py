"""The one Celery task: run a micro-batch. The message holds only its id; the items come with the claim."""

from celery import Celery

from scheduler.messages import RUN_BATCH
from workers.resident import Resident


def register_tasks(application: Celery, resident: Resident) -> None:
    """Puts the task on a Celery application, bound to this process's engine."""

    @application.task(name=RUN_BATCH)  # type: ignore[untyped-decorator]
    def run_batch(batch_id: str) -> None:
        resident.run(batch_id)
