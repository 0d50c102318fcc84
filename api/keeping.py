"""The images of a request into Redis, before the request itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from api.errors import RefusedError
from api.sequences import Sequences
from api.serving import ServedModel
from api.state import state_of
from scheduler.blobs import GRACE_MS, keep, let_go, taken
from scheduler.errors import BlobsFullError

AGAIN_SECONDS = 5


@asynccontextmanager
async def kept_images(
    request: Request, model: ServedModel, request_id: str, sequences: Sequences, seconds: float
) -> AsyncIterator[None]:
    """Keeps the images of sequences for the workers until the request is over; nothing for sequences without.

    Afterwards they lie there for the next request that has the same, as long as there is room.

    Args:
        seconds: until the request's deadline.

    Raises:
        RefusedError: 413, they are larger than all that may be kept; 429, what is kept is needed by others.
    """
    files = {image.digest: image.data for images in sequences.images for image in images}
    if not files:
        yield
        return
    state = state_of(request)
    budget = state.options.media_cache_mb * 1024 * 1024
    together = taken(files)
    if together > budget:
        raise RefusedError(
            "too_large",
            413,
            f"{sequences.field}: the images take {together} bytes together, over the {budget} that may be kept "
            "(--media-cache-mb): send fewer or smaller ones.",
            param=sequences.field,
            code="request_too_large",
        )
    ttl_ms = GRACE_MS + round(1000 * max(seconds, state.options.media_cache_ttl))
    try:
        await keep(state.redis, model.keys, request_id, files, budget, ttl_ms)
        yield
    except BlobsFullError as error:
        raise RefusedError(
            "images_full",
            429,
            f"The server is busy: the images of waiting requests have {error.in_use} bytes, near the {error.budget} of "
            f"--media-cache-mb. Try again in {AGAIN_SECONDS} s.",
            code="queue_full",
            headers={"Retry-After": str(AGAIN_SECONDS)},
        ) from error
    finally:
        await let_go(state.redis, model.keys, request_id, list(files))
