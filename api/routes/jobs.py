"""`/v1/jobs`: calls that are handed in now and whose replies are fetched later."""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from api.body import read_json
from api.errors import ApiError, bad_request, openai_error
from api.jobs.submitting import Accepted, accepted, found_job, idempotency_key_of, webhook_of_end
from api.protocol.jobs import (
    JobList,
    JobObject,
    JobRequest,
    JobWithResult,
    ListQuery,
    WaitQuery,
    etag_of,
    job_fields,
    job_path,
    job_with_result,
    matches,
)
from api.protocol.schema import query_parameters, request_body
from api.replaying import Reply
from api.state import caller_of, state_of
from api.webhooks.target import parse_target
from scheduler import jobs
from scheduler.connection import persist
from scheduler.durability import run_durably
from scheduler.jobs import NO_REPLY, FoundJob, Job, JobStatus, NewJob
from scheduler.results import ENQUEUE_SECONDS

router = APIRouter()

Suffices = Callable[[FoundJob], bool]
"""Whether a job has come as far as its caller waits for."""

MOST_RETRY_AFTER = 30
"""Seconds after which a caller is told to ask again, at most: a tenth of the time that it has waited, at least one."""


def new_job_id() -> str:
    """An id that nobody guesses."""
    return f"job_{uuid.uuid4().hex}"


@router.post(
    "/v1/jobs",
    summary="Hand in a call to be answered later",
    openapi_extra=request_body(JobRequest),
    status_code=202,
    responses={
        202: {"model": JobWithResult, "description": "It is on disk and will be run."},
        200: {"model": JobWithResult, "description": "The idempotency key's job, which has ended."},
    },
)
async def create_job(request: Request) -> Response:
    """A job of any route that pools. What could never be answered is refused at once, as the route would."""
    call = JobRequest.parse(await read_json(request))
    new = _new_job(request, call)
    done = await accepted(request, new, _error_of_body)
    if isinstance(done, Reply):
        return Response(done.body, done.status, done.headers)
    return await accepted_response(request, done)


def _new_job(request: Request, call: JobRequest) -> NewJob:
    options, paths, caller = state_of(request).options, request.app.state.pooling_routes, caller_of(request)
    if call.endpoint not in paths:
        raise bad_request(
            f"endpoint is {call.endpoint!r}, which is no route for jobs; these are: {', '.join(sorted(paths))}.",
            "endpoint",
        )
    webhook = b"" if call.webhook is None else parse_target(call.webhook, options).encode()
    if call.accept is not None and not (call.accept.isascii() and call.accept.isprintable()):
        raise bad_request("accept is not printable ASCII.", "accept")
    try:
        body = orjson.dumps(call.body)
    except TypeError as error:
        raise bad_request(f"body cannot be kept: {error}.", "body") from error
    return NewJob(
        new_job_id(),
        caller.name,
        call.endpoint,
        body,
        {} if call.accept is None else {"accept": call.accept},
        call.lane,
        (call.expires_in or options.job_timeout) * 1000,
        caller.concurrency or 0,
        webhook,
        idempotency_key_of(request),
    )


def _error_of_body(error: ApiError) -> tuple[int, dict[str, Any]]:
    """A refusal of the call that a job holds, whose fields are those of `body`."""
    status, told = openai_error(error)
    if error.param is not None:
        told["error"]["param"] = f"body.{error.param}"
    return status, told


async def accepted_response(request: Request, done: Accepted, headers: Mapping[str, str] | None = None) -> Response:
    """Says that a job is there, and where: 202, or 200 for one that had been handed in before and has ended."""
    found = await found_job(request, done.job_id, with_reply=True)
    more = {"Location": job_path(done.job_id), **(headers or {})}
    if done.replayed:
        more["Idempotent-Replayed"] = "true"
    return _shown(found, 200 if done.replayed and found.job.status.is_final else 202, more)


def _shown(found: FoundJob, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        job_with_result(found), status, {**_state_headers(found.job), **(headers or {})}, media_type="application/json"
    )


def _state_headers(job: Job) -> dict[str, str]:
    headers = {"ETag": etag_of(job), "Cache-Control": "no-store"}
    if not job.status.is_final:
        headers["Retry-After"] = str(retry_after(job, time.time()))
    return headers


def retry_after(job: Job, now: float) -> int:
    """After how many seconds it is worth asking again: the longer it has taken, the longer it may still take."""
    return round(min(MOST_RETRY_AFTER, max(1.0, (now - job.created_ms / 1000) / 10)))


@router.get(
    "/v1/jobs/{job_id}",
    summary="Look at a job",
    openapi_extra=query_parameters(WaitQuery),
    responses={200: {"model": JobWithResult}, 304: {"description": "It is as If-None-Match knows it."}},
)
async def get_job(request: Request, job_id: str) -> Response:
    """A job and, once it has ended, its result. With `wait` the call waits for that, as long as it says."""
    known = request.headers.get("if-none-match")

    def suffices(found: FoundJob) -> bool:
        if known is None:
            return found.job.status.is_final
        return not matches(known, etag_of(found.job))

    found = await _waited(request, job_id, suffices)
    if matches(known, etag_of(found.job)):
        return Response(status_code=304, headers=_state_headers(found.job))
    return _shown(found)


@router.get(
    "/v1/jobs/{job_id}/result",
    summary="Fetch a job's reply",
    openapi_extra=query_parameters(WaitQuery),
    responses={200: {"description": "The reply of its route, as a call that had waited would have got it."}},
    response_class=Response,
)
async def get_job_result(request: Request, job_id: str) -> Response:
    """The reply itself, with its status, its headers and in its very bytes; 409 while there is none."""
    return result_response(await _waited(request, job_id, lambda found: found.job.status.is_final))


def result_response(found: FoundJob, headers: Mapping[str, str] | None = None) -> Response:
    """What a job's route has answered.

    Raises:
        ApiError: 409, there is nothing: it has not ended, or was cancelled.
    """
    job, reply = found.job, found.reply
    if job.status.is_final and reply.status:
        return Response(reply.body, reply.status, {**reply.headers, **(headers or {})})
    if job.status.is_final:
        raise ApiError(409, f"{job.job_id} was {job.status}: it has no result.", code=f"job_{job.status}")
    raise ApiError(
        409,
        f"{job.job_id} is {job.status}: ask again later, or with ?wait=20.",
        code="job_not_done",
        headers={"Retry-After": str(retry_after(job, time.time()))},
    )


async def _waited(request: Request, job_id: str, suffices: Suffices) -> FoundJob:
    query = WaitQuery.parse(dict(request.query_params))
    return await watched(request, job_id, query.wait, suffices)


async def watched(request: Request, job_id: str, seconds: float, suffices: Suffices) -> FoundJob:
    """A job with its reply when it suffices, or as it is after so many seconds; raises as `found_job` does."""

    async def look() -> FoundJob:
        return await found_job(request, job_id, with_reply=True)

    if not seconds:
        return await look()
    return await state_of(request).job_news.watch(job_id, seconds, look, suffices, request.is_disconnected)


@router.get(
    "/v1/jobs",
    summary="List jobs",
    openapi_extra=query_parameters(ListQuery),
    responses={200: {"model": JobList}},
)
async def list_jobs(request: Request) -> Response:
    """The jobs of this key, without their results."""
    query = ListQuery.parse(dict(request.query_params))
    found = await _page(request, query)
    page = found[: query.limit]
    ends = (page[0].job_id, page[-1].job_id) if page else (None, None)
    body = {
        "object": "list",
        "data": [job_fields(each) for each in page],
        "first_id": ends[0],
        "last_id": ends[1],
        "has_more": len(found) > query.limit,
    }
    return Response(orjson.dumps(body), media_type="application/json")


async def _page(request: Request, query: ListQuery) -> list[Job]:
    """The jobs of a page, and one more where there is one."""
    redis, owner = state_of(request).redis, caller_of(request).name
    found: list[Job] = []
    after = query.after or ""
    while True:
        step = jobs.listed(owner, after, query.status or "", newest_first=query.order == "desc")
        reply = await persist(lambda step=step: step.run(redis), ENQUEUE_SECONDS, "list the jobs")  # type: ignore[misc]
        stretch = jobs.stretch(reply)
        if stretch is None:
            raise bad_request(f"after is {after!r}, and there is no such job of this key.", "after")
        after, more = stretch
        found += more
        if not after or len(found) > query.limit:
            return found


_CANCELLED: dict[int | str, dict[str, Any]] = {200: {"model": JobObject}}


@router.post("/v1/jobs/{job_id}/cancel", summary="Cancel a job", responses=_CANCELLED)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Cancels a job that has not ended: a queued one is never begun, of a running one what is left is not done."""
    found = await found_job(request, job_id)
    if not found.job.status.is_final:
        state = state_of(request)
        webhook = webhook_of_end(found.webhook, job_id, JobStatus.CANCELLED)
        step = jobs.end(job_id, JobStatus.CANCELLED, NO_REPLY, state.options.result_ttl * 1000, webhook)
        await run_durably(state.redis, step)
        found = await found_job(request, job_id)
    return Response(orjson.dumps(job_fields(found.job)), media_type="application/json")


router.add_api_route("/v1/jobs/{job_id}", cancel_job, methods=["DELETE"], summary="Cancel a job", responses=_CANCELLED)
