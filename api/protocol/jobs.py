"""The wire types of `/v1/jobs`: what is handed in, and how a job is shown."""

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from api.errors import ApiError, openai_error
from api.protocol.common import WireRequest
from scheduler.jobs import FoundJob, Job, JobReply, JobStatus
from scheduler.keys import Lane

LONGEST_EXPIRY = 30 * 86_400
"""Seconds: what is wanted in a month is wanted by nobody any more."""

LONGEST_WAIT = 60.0
"""Seconds for which a call waits for a job to end; proxies break off what is silent for longer."""


class JobRequest(WireRequest):
    """A call to be run later."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {"endpoint": "/v1/embeddings", "body": {"input": "A millpond stores water."}, "expires_in": 3600}
        },
    )

    endpoint: StrictStr = Field(description="The path of the route that answers it, such as `/v1/embeddings`.")
    body: Any = Field(..., description="What would be sent there.")
    accept: StrictStr | None = Field(
        None,
        max_length=255,
        description="What would be sent there as Accept: `application/octet-stream` for numbers in a frame.",
    )
    lane: Lane = Field(
        Lane.JOB, description="The class of its work: it orders the jobs of this key, and its items among all others."
    )
    expires_in: StrictInt | None = Field(
        None,
        ge=1,
        le=LONGEST_EXPIRY,
        description="Seconds after which it has expired when it has not ended; absent: --job-timeout.",
    )
    webhook: Any = Field(None, description='Who is told of its end: a URL, or {"url", "secrets": ["whsec_..."]}.')


class WaitQuery(WireRequest):
    """How long a call waits for a job."""

    wait: float = Field(
        0.0, ge=0, le=LONGEST_WAIT, description="Seconds to wait for its end; with If-None-Match, for any change."
    )


class ListQuery(WireRequest):
    """Which of the jobs are listed."""

    limit: int = Field(20, ge=1, le=100, description="Most jobs of a page.")
    after: str | None = Field(None, description="The id behind which the page begins.")
    order: Literal["asc", "desc"] = Field("desc", description="desc: the newest first.")
    status: JobStatus | None = Field(None, description="Only those that stand so.")


class JobObject(BaseModel):
    """A job. Times are Unix seconds, null for what has not been."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    endpoint: str
    lane: Lane
    position: int | None = Field(description="Its place among the jobs of this key that are queued, from 1.")
    created_at: int
    started_at: int | None
    finished_at: int | None
    expires_at: int = Field(description="When it has expired if it has not ended.")
    result_expires_at: int | None = Field(description="Until when its result is kept.")
    attempts: int = Field(description="How often it was begun.")
    status_code: int | None = Field(description="HTTP status of the reply.")


class JobWithResult(JobObject):
    """A job with what became of it."""

    result: Any = Field(None, description="The reply, when it succeeded and the reply is JSON.")
    error: Any = Field(None, description="The reply, when it failed or expired, in the form of its endpoint.")
    result_url: str | None = Field(None, description="Where the reply itself is.")


class JobList(BaseModel):
    """A page of jobs."""

    object: Literal["list"] = "list"
    data: list[JobObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def job_path(job_id: str) -> str:
    """Where a job is."""
    return f"/v1/jobs/{job_id}"


def job_fields(job: Job) -> dict[str, Any]:
    """A job as JSON shows it, without its result."""
    return {
        "id": job.job_id,
        "object": "job",
        "status": job.status,
        "endpoint": job.path,
        "lane": job.lane,
        "position": job.place or None,
        "created_at": job.created_ms // 1000,
        "started_at": job.started_ms // 1000 or None,
        "finished_at": job.finished_ms // 1000 or None,
        "expires_at": job.expires_ms // 1000,
        "result_expires_at": job.kept_ms // 1000 or None,
        "attempts": job.attempts,
        "status_code": job.code or None,
    }


def job_with_result(found: FoundJob) -> bytes:
    """A job as JSON, with the reply in its very bytes where that is JSON."""
    job, reply = found.job, found.reply
    told = orjson.Fragment(reply.body) if reply.status and is_json(reply.headers) else None
    return orjson.dumps(
        {
            **job_fields(job),
            "result": told if job.status is JobStatus.SUCCEEDED else None,
            "error": told if job.status is not JobStatus.SUCCEEDED else None,
            "result_url": f"{job_path(job.job_id)}/result" if reply.status else None,
        }
    )


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether a reply with these headers is JSON."""
    return headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"


def etag_of(job: Job) -> str:
    """Changes whenever what is shown of a job does."""
    return f'"{job.status}-{job.attempts}-{job.place}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether a caller knows a job as it is, by its If-None-Match."""
    if if_none_match is None:
        return False
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return etag in known or "*" in known


def told_error(error: ApiError) -> JobReply:
    """What a job ends with that no route has answered, in OpenAI's form."""
    status, told = openai_error(error)
    return JobReply(status, {"content-type": "application/json"}, orjson.dumps(told))
