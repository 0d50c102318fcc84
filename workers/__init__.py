"""The workers: Celery processes that run micro-batches through a resident engine and commit the results."""
