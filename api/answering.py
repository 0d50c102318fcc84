"""From token ids to results: hands a request to the queue and waits, as long as its caller does."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import Request

from api.admission import REFUSED, check_within_bounds, full
from api.callers import Caller
from api.deadlines import deadline_of
from api.errors import ApiError, RefusedError, Rehearsed, bad_request
from api.keeping import kept_images
from api.limiting import admitted, check_within_limits
from api.picturing import check_no_places
from api.replaying import LANE_HEADER, REHEARSAL
from api.sequences import Sequences
from api.serving import ServedModel
from api.state import caller_of, state_of, timings_of
from pooling.overrides import refusal
from pooling.pooler_config import Activation, PoolingType
from pooling.vision.processors import canonical
from scheduler.errors import QueueFullError
from scheduler.keys import Lane
from scheduler.messages import Failure, Item, Result, Vector

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a caller that left: it is only ever seen in the log and the metrics."""


@dataclass(frozen=True)
class PoolingCall:
    """What every dialect makes of its request: sequences for one model, and how they are pooled.

    Attributes:
        dimensions, normalize: of embeddings; None leaves them to the model.
        pooling_type, activation: other than the model's own.
        priority: among the requests of the same tenant in the same lane, the lower the earlier.
    """

    model: ServedModel
    sequences: Sequences
    dimensions: int | None = None
    normalize: bool | None = None
    pooling_type: PoolingType | None = None
    activation: Activation | None = None
    priority: int = 0

    @property
    def reply_bytes(self) -> int:
        """What comes of it, in bytes of float32: so much lies in Redis until it is fetched."""
        pooler, ids = self.model.spec.pooler, self.sequences.ids
        match self.pooling_type or pooler.pooling_type:
            case PoolingType.ALL:
                rows = self.sequences.tokens
            case PoolingType.STEP:
                rows = sum(int(np.count_nonzero(each == pooler.step_tag_id)) for each in ids)
            case _:
                rows = len(ids)
        return rows * (self.dimensions or self.model.spec.row_width) * 4


async def pooled(request: Request, call: PoolingCall) -> list[bytes]:
    """What the model gives for each sequence, little-endian float32: a vector, or the rows of a result end to end.

    Raises:
        ApiError: as `pooled_each`, or what became of an item.
        Rehearsed: as `pooled_each`.
    """
    vectors = []
    for index, result in enumerate(await pooled_each(request, call)):
        if isinstance(result, Failure):
            raise failure_error(call.sequences, index, result)
        vectors.append(result.data)
    return vectors


async def pooled_each(request: Request, call: PoolingCall) -> list[Result]:
    """What became of each sequence: its vector as of `pooled`, or why it has none. A refused call is counted.

    When the caller disconnects, or the awaiting task is cancelled at its deadline, the request is abandoned: what has
    not run yet never will.

    Raises:
        ApiError: 499 when the caller left, 400 for a lane that there is not or what the model cannot do, 413 for what
            would be too large a reply or never fit into the queue, 403 for a lane that is not the key's, 429 when the
            key's limits are reached or the queue is full.
        Rehearsed: it was only asked whether the call could run, and it could.
    """
    lane = lane_of(request.headers.get(LANE_HEADER, Lane.INTERACTIVE))
    caller_of(request).check_lane(lane)
    try:
        return await _let_in(request, call, lane)
    except RefusedError as error:
        REFUSED.labels(call.model.name, lane, error.reason).inc()
        raise


async def _let_in(request: Request, call: PoolingCall, lane: Lane) -> list[Result]:
    """`pooled_each` in a lane that is the caller's."""
    state, timings, caller = state_of(request), timings_of(request), caller_of(request)
    check_possible(call, state.options.max_response_bytes)
    check_no_places(call.model, call.sequences)
    check_within_bounds(call.sequences.tokens, state.options, call.sequences.field)
    if getattr(request.state, REHEARSAL, False):
        check_within_limits(caller, call.sequences.tokens)
        raise Rehearsed
    seconds = deadline_of(request).left(timings)
    timings.tokens += call.sequences.tokens
    timings.cut += call.sequences.cut
    request_id = state.new_request_id()
    items = items_of(request_id, call, seconds, caller)
    async with admitted(state.redis, caller, call.sequences.tokens, seconds) as admission:
        timings.allowance = admission.headers
        try:
            async with kept_images(request, call.model, request_id, call.sequences, seconds):
                results = await _results(request, call.model, lane, items)
        except QueueFullError as error:
            raise full(error, lane, caller, state.options) from error
    # Those of the item that came back last, as far as the worker's clocks tell.
    vectors = (result for result in results if isinstance(result, Vector))
    last = max(vectors, key=lambda vector: vector.queued_us + vector.forward_us, default=Vector(b""))
    timings.add("queue", last.queued_us / 1e6)
    timings.add("inference", last.forward_us / 1e6)
    return results


async def _results(request: Request, model: ServedModel, lane: Lane, items: Sequence[Item]) -> list[Result]:
    """The items' results, waited for until the caller leaves."""
    with timings_of(request).stage("wait"):
        submitted = state_of(request).callers.submit(model.keys, lane, items[0].request_id, items)
        waiting = asyncio.ensure_future(submitted)
        leaving = asyncio.ensure_future(_disconnect(request))
        try:
            await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ApiError(CLIENT_CLOSED_REQUEST, "The caller left.", code="client_closed_request")
            return waiting.result()
        finally:
            for task in (waiting, leaving):
                task.cancel()
            await asyncio.gather(waiting, leaving, return_exceptions=True)


def check_possible(call: PoolingCall, longest: int) -> None:
    """Refuses before it is queued what a worker could not do, or should not: a 400 or a 413.

    Args:
        longest: the most bytes that may come of it.
    """
    why = refusal(call.model.spec, call.pooling_type, call.activation)
    if why is not None:
        raise bad_request(why, "model", "task_not_supported")
    if call.reply_bytes > longest:
        raise ApiError(
            413,
            f"{call.sequences.field}: {len(call.sequences.ids)} sequences with {call.sequences.tokens} tokens would "
            f"give {call.reply_bytes} bytes of numbers, over the limit of {longest} of one reply: send fewer at once, "
            "or raise --max-response-bytes.",
            param=call.sequences.field,
            code="response_too_large",
        )


def items_of(request_id: str, call: PoolingCall, seconds: float, caller: Caller) -> list[Item]:
    """The items of a request that is accepted now, one a sequence; `seconds` are left until its deadline."""
    created_ms = time.time_ns() // 1_000_000
    sequences, none = call.sequences, [()] * len(call.sequences.ids)
    image_options = canonical(sequences.image_options)
    return [
        Item(
            request_id,
            index,
            ids.astype("<i4", copy=False).tobytes(),
            created_ms,
            call.dimensions,
            call.normalize,
            second,
            call.priority,
            caller.name,
            created_ms + round(seconds * 1000),
            call.pooling_type,
            call.activation,
            caller.weight,
            tuple(image.digest for image in images),
            image_options,
            call.model.computed(ids, pictured=bool(images)),
        )
        for index, (ids, second, images) in enumerate(
            zip(sequences.ids, sequences.second_from or [None] * len(none), sequences.images or none, strict=True)
        )
    ]


def lane_of(given: str) -> Lane:
    """The lane that a header names; raises a 400 that lists them when there is none of this name."""
    if given not in list(Lane):
        raise bad_request(f"{LANE_HEADER} is {given!r}; it must be one of {', '.join(Lane)}.", LANE_HEADER)
    return Lane(given)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def failure_error(sequences: Sequences, index: int, failure: Failure) -> ApiError:
    """The error for an item that the queue has given up."""
    # The queue has tried before: a client that tries again by itself would only take more workers down.
    return ApiError(
        failure.status,
        f"{sequences.place(index)}: {failure.message}",
        param=sequences.field,
        code=failure.code,
        headers={"x-should-retry": "false"},
    )
