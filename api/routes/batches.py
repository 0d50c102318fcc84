"""OpenAI's batches: hand in, look at, list and cancel."""

import hashlib
import time
import uuid
from collections.abc import Mapping

import orjson
from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.errors import ApiError, bad_request
from api.jobs.submitting import idempotency_key_of, idempotency_key_reused
from api.paging import ids_after, page_number
from api.protocol.batches import BatchList, BatchObject, BatchRequest, batch_object
from api.protocol.files import page_of
from api.protocol.schema import request_body
from api.state import caller_of, state_of
from api.webhooks.target import parse_target
from scheduler.batches import Creation, cancel_batch, create_batch
from scheduler.connection import persist
from scheduler.durability import run_durably
from scheduler.keys import Lane, batch_key, batches_of
from scheduler.lua import Argument
from scheduler.results import ENQUEUE_SECONDS

router = APIRouter()

MOST_LISTED = 100


@router.post("/v1/batches", summary="Hand in a batch", openapi_extra=request_body(BatchRequest))
async def create(request: Request, response: Response) -> BatchObject:
    """A file of requests, one a line, that are answered in the bulk lane and end as a file of replies."""
    state, caller = state_of(request), caller_of(request)
    call = BatchRequest.parse(await read_json(request))
    _check_endpoint(request, call.endpoint)
    caller.check_lane(Lane.BULK)
    now = time.time_ns()
    seconds = now // 10**9
    fields: dict[str, Argument] = {
        "endpoint": call.endpoint,
        "input": call.input_file_id,
        "window": call.completion_window,
        "created": seconds,
        "expires": seconds + call.window_seconds,
        "output_life": call.output_life,
    }
    metadata = call.checked_metadata()
    if metadata is not None:
        fields["metadata"] = orjson.dumps(metadata)
    if call.webhook is not None:
        fields["webhook"] = parse_target(call.webhook, state.options).encode()
    key = idempotency_key_of(request)
    step = create_batch(
        f"batch_{uuid.uuid4().hex}",
        caller.name,
        call.input_file_id,
        now // 1000,
        fields,
        key,
        _fingerprint(fields) if key else "",
    )
    word, batch_id = Creation.of(await run_durably(state.redis, step))
    if word is Creation.NONE:
        raise ApiError(404, f"There is no file {call.input_file_id!r}.", param="input_file_id", code="file_not_found")
    if word is Creation.OTHER:
        raise idempotency_key_reused(batch_id)
    if word is Creation.SAME:
        response.headers["Idempotent-Replayed"] = "true"
    return await _own_batch(request, batch_id)


def _fingerprint(fields: Mapping[str, Argument]) -> str:
    """Tells what is asked for from something else, whenever it is asked for."""
    asked = {name: value for name, value in fields.items() if name not in ("created", "expires")}
    return hashlib.sha256(repr(sorted(asked.items())).encode()).hexdigest()


@router.get("/v1/batches", summary="List batches")
async def list_batches(request: Request) -> BatchList:
    """The key's batches, the newest first."""
    redis, owner = state_of(request).redis, caller_of(request).name
    limit = page_number(request, "limit", 20, MOST_LISTED)
    ids = await ids_after(redis, batches_of(owner), request.query_params.get("after"), True, limit + 1)
    async with redis.pipeline(transaction=False) as pipeline:
        for each in ids:
            pipeline.hgetall(batch_key(each))
        hashes = await pipeline.execute()
    gone = [each for each, values in zip(ids, hashes, strict=True) if not values]
    if gone:
        await redis.zrem(batches_of(owner), *gone)
    found = [batch_object(each, values) for each, values in zip(ids, hashes, strict=True) if values]
    return BatchList(**page_of(found[:limit], len(ids) > limit))


@router.get("/v1/batches/{batch_id}", summary="Look at a batch")
async def get_batch(batch_id: str, request: Request) -> BatchObject:
    """Its status, its counts as of now, and at its end its files."""
    return await _own_batch(request, batch_id)


@router.post("/v1/batches/{batch_id}/cancel", summary="Cancel a batch")
async def cancel(batch_id: str, request: Request) -> BatchObject:
    """Ends a batch with what is done of it. One that has ended stays as it is."""
    step = cancel_batch(batch_id, caller_of(request).name, int(time.time()))
    await run_durably(state_of(request).redis, step)
    return await _own_batch(request, batch_id)


async def _own_batch(request: Request, batch_id: str) -> BatchObject:
    redis = state_of(request).redis
    values = await persist(lambda: redis.hgetall(batch_key(batch_id)), ENQUEUE_SECONDS, "look for the batch")
    if not values or values[b"owner"].decode() != caller_of(request).name:
        raise ApiError(404, f"There is no batch {batch_id!r}.", code="batch_not_found")
    return batch_object(batch_id, values)


def _check_endpoint(request: Request, endpoint: str) -> None:
    """Raises a 400 that lists the routes, when this one is not for lines of a batch."""
    known = request.app.state.pooling_routes
    if endpoint not in known:
        raise bad_request(
            f"endpoint is {endpoint!r}; batches are for {', '.join(sorted(known))}.", "endpoint", "invalid_endpoint"
        )
