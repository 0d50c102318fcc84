"""The files of a request's images, in Redis before its items are queued: workers read them there."""

from fastapi import Request

from api.sequences import Sequences
from api.serving import ServedModel


async def keep_images(request: Request, model: ServedModel, request_id: str, sequences: Sequences) -> None:
    """Keeps the files of all images of a request until it is over, each distinct one once.

    Args:
        request_id: the request's name inside the queue.
    """
    raise NotImplementedError("images are not kept for workers yet")
