"""From token ids to results: hands a request to the queue and waits, for no longer than its caller does."""

import asyncio
import time
from collections.abc import Sequence

from fastapi import Request

from api.errors import ApiError
from api.sequences import Sequences
from api.serving import ServedModel
from pooling.tokenizing import TokenIds
from scheduler.keys import Lane
from scheduler.messages import Failure, Item, Vector
from scheduler.results import Callers

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a caller that left: it is only ever seen in the log and the metrics."""


async def vectors_of(
    request: Request,
    callers: Callers,
    model: ServedModel,
    request_id: str,
    sequences: Sequences,
    *,
    dimensions: int | None = None,
    normalize: bool | None = None,
    seconds: float,
) -> list[bytes]:
    """What the model gives for each sequence, little-endian float32: a vector, or the rows of a result end to end.

    When the caller disconnects or the time is up, the request is abandoned: what has not run yet never will.

    Raises:
        ApiError: 504 after `seconds`, 499 when the caller left, or what became of an item.
    """
    items = items_of(request_id, sequences.ids, sequences.second_from, dimensions, normalize)
    waiting = asyncio.ensure_future(callers.submit(model.keys, Lane.INTERACTIVE, request_id, items))
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((waiting, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise _gave_up(leaving.done(), seconds)
        results = waiting.result()
    finally:
        for task in (waiting, leaving):
            task.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)
    vectors = []
    for index, result in enumerate(results):
        if isinstance(result, Failure):
            raise _failure(sequences, index, result)
        assert isinstance(result, Vector)
        vectors.append(result.data)
    return vectors


def items_of(
    request_id: str,
    ids: Sequence[TokenIds],
    second_from: Sequence[int | None] = (),
    dimensions: int | None = None,
    normalize: bool | None = None,
) -> list[Item]:
    """The items of a request that is accepted now, one a sequence; `second_from` may be left out without pairs."""
    created_ms = time.time_ns() // 1_000_000
    return [
        Item(request_id, index, each.astype("<i4", copy=False).tobytes(), created_ms, dimensions, normalize, second)
        for index, (each, second) in enumerate(zip(ids, second_from or [None] * len(ids), strict=True))
    ]


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _gave_up(caller_left: bool, seconds: float) -> ApiError:
    if caller_left:
        return ApiError(CLIENT_CLOSED_REQUEST, "The caller left.", code="client_closed_request")
    return ApiError(
        504, f"There was no result within {seconds:g} seconds (--request-timeout).", code="deadline_exceeded"
    )


def _failure(sequences: Sequences, index: int, failure: Failure) -> ApiError:
    # The queue has tried before: a client that tries again by itself would only take more workers down.
    return ApiError(
        failure.status,
        f"{sequences.place(index)}: {failure.message}",
        param=sequences.field,
        code=failure.code,
        headers={"x-should-retry": "false"},
    )
