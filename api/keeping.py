"""The images of a request into Redis, before the request itself."""

from fastapi import Request

from api.errors import RefusedError
from api.sequences import Sequences
from api.serving import ServedModel
from api.state import state_of
from scheduler.blobs import keep
from scheduler.errors import BlobsFullError

AGAIN_SECONDS = 5


async def keep_images(
    request: Request, model: ServedModel, request_id: str, sequences: Sequences, seconds: float
) -> None:
    """Keeps the images of sequences for the workers; nothing for sequences without.

    Args:
        seconds: until the request's deadline.

    Raises:
        RefusedError: 413, an image is larger than all that may be kept; 429, what is kept is needed by others.
    """
    files = {image.digest: image.data for images in sequences.images for image in images}
    if not files:
        return
    state = state_of(request)
    budget = state.options.media_cache_mb * 1024 * 1024
    together = sum(map(len, files.values()))
    if together > budget:
        raise RefusedError(
            "too_large",
            413,
            f"{sequences.field}: the images have {together} bytes together, over the {budget} that may be kept "
            "(--media-cache-mb): send fewer or smaller ones.",
            param=sequences.field,
            code="request_too_large",
        )
    try:
        await keep(state.redis, model.keys, request_id, files, budget, seconds)
    except BlobsFullError as error:
        raise RefusedError(
            "images_full",
            429,
            f"The server is busy: the images of waiting requests have {error.in_use} bytes, near the {error.budget} of "
            f"--media-cache-mb. Try again in {AGAIN_SECONDS} s.",
            code="queue_full",
            headers={"Retry-After": str(AGAIN_SECONDS)},
        ) from error
