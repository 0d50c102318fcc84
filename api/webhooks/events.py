"""The news that webhooks carry, in the form of OpenAI's events."""

import hashlib

import orjson

from api.webhooks.target import Target
from scheduler.webhooks import Webhook


def webhook_about(target: Target, kind: str, subject_id: str, created_at: int) -> Webhook:
    """The webhook that tells a target of an end, for the step that writes this end.

    Its body is `{"id": "evt_...", "object": "event", "created_at", "type": kind, "data": {"id": subject_id}}`
    (https://platform.openai.com/docs/api-reference/webhook-events). Its id is made of kind and subject alone: however
    often the same end is handed in, it is the same webhook, delivered once by the outbox.

    Args:
        kind: what happened, `batch.completed` or `job.succeeded`.
        subject_id: the batch or job it happened to.
        created_at: Unix seconds of the end.
    """
    digest = hashlib.sha256(f"{kind}\n{subject_id}".encode()).hexdigest()[:32]
    event = {
        "id": f"evt_{digest}",
        "object": "event",
        "created_at": created_at,
        "type": kind,
        "data": {"id": subject_id},
    }
    return Webhook(f"msg_{digest}", target.url, target.secrets, orjson.dumps(event))
