"""How a call becomes a job: it is rehearsed, and accepted once Redis has it in its append-only file."""

import time
from dataclasses import dataclass

from fastapi import Request

from api.deadlines import deadline_of
from api.errors import ApiError, ErrorForm, bad_request
from api.replaying import Call, Reply, rehearse
from api.state import caller_of, state_of
from api.webhooks.events import webhook_about
from api.webhooks.target import Target
from scheduler import jobs
from scheduler.connection import persist
from scheduler.durability import run_durably
from scheduler.jobs import FoundJob, JobStatus, NewJob, Submission
from scheduler.lua import Step
from scheduler.results import ENQUEUE_SECONDS
from scheduler.webhooks import Webhook

IDEMPOTENCY_HEADER = "Idempotency-Key"

LONGEST_IDEMPOTENCY_KEY = 255


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that Redis has.

    Attributes:
        replayed: it was there before, by the same idempotency key.
    """

    job_id: str
    replayed: bool


def idempotency_key_of(request: Request) -> str:
    """The request's idempotency key, "" for none.

    Raises:
        ApiError: 400, it is empty, too long, or not printable ASCII.
    """
    given = request.headers.get(IDEMPOTENCY_HEADER)
    if given is None:
        return ""
    if not (1 <= len(given) <= LONGEST_IDEMPOTENCY_KEY and given.isascii() and given.isprintable()):
        raise bad_request(
            f"{IDEMPOTENCY_HEADER} is 1 to {LONGEST_IDEMPOTENCY_KEY} printable ASCII characters; "
            f"this one is not: {given[:80]!r}.",
            IDEMPOTENCY_HEADER,
        )
    return given


def idempotency_key_reused(became: str) -> ApiError:
    """A 422 for a key that was used for another call, which became the job or batch of this id."""
    return ApiError(
        422,
        f"{IDEMPOTENCY_HEADER} was used for another call, which became {became}: use a new key for each call.",
        param=IDEMPOTENCY_HEADER,
        code="idempotency_key_reused",
    )


async def accepted(request: Request, new: NewJob, error_form: ErrorForm | None = None) -> Accepted | Reply:
    """The job that a call has become, or the refusal that it would meet before it is queued.

    Args:
        error_form: in which such a refusal is told, in place of the route's own.

    Raises:
        ApiError: 422 another call has used this idempotency key.
        NotDurableError: Redis keeps nothing on disk.
        QueueUnavailableError: Redis did not take it in time.
    """
    if new.idempotency_key:
        known = await _handed_in(request, jobs.find(new))
        if known is not None:
            return known
    call = Call(new.path, new.body, new.headers, new.lane)
    refusal = await rehearse(request.app, call, caller_of(request), deadline_of(request), new.job_id, error_form)
    if refusal is not None:
        return refusal
    done = await _handed_in(request, jobs.submit(new))
    assert done is not None
    return done


async def _handed_in(request: Request, step: Step) -> Accepted | None:
    state, job_id = Submission.of(await run_durably(state_of(request).redis, step))
    if state is Submission.OTHER:
        raise idempotency_key_reused(job_id)
    return None if state is Submission.NONE else Accepted(job_id, state is Submission.SAME)


async def found_job(request: Request, job_id: str, *, with_reply: bool = False) -> FoundJob:
    """One of the caller's jobs.

    Raises:
        ApiError: 404 it has no such job, 410 the time of its result is over.
    """
    state = state_of(request)
    step = jobs.look(job_id, caller_of(request).name, with_reply=with_reply)
    reply = await persist(lambda: step.run(state.redis), ENQUEUE_SECONDS, "look at the job")
    found = jobs.looked_at(job_id, reply)
    if isinstance(found, FoundJob):
        return found
    if found == "gone":
        raise ApiError(
            410,
            f"The result of {job_id} was kept for its time (--result-ttl) and is gone.",
            code="result_expired",
        )
    raise ApiError(404, f"There is no job {job_id!r} of this key.", code="job_not_found")


def webhook_of_end(packed_target: bytes, job_id: str, status: JobStatus) -> Webhook | None:
    """Who is told of a job's end, and what; None for nobody."""
    if not packed_target:
        return None
    return webhook_about(Target.decode(packed_target), f"job.{status}", job_id, int(time.time()))
