"""Jobs: calls that are kept in Redis until they are run, and their replies until they are fetched.

A job waits in its owner's queue; owners take turns. Whoever claims one runs it under a lease, which is the only way by
which a lost one comes back. It ends once: the first end is kept, counted and told.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import msgpack

from scheduler.keys import JOBS, LANES, Lane
from scheduler.lua import Argument, Step
from scheduler.webhooks import Webhook

JOB_LEASE_MS = 5_000
"""A job whose process does not renew its lease for so long waits again, with one attempt more."""

JOB_ATTEMPTS_ALLOWED = 10
"""A job that was begun so often and never ended is given up: whoever runs it dies of it."""

CLAIMED_BYTES = 16 * 1024 * 1024
"""Of bodies, after which a claim takes no further job."""

SWEPT = 100
"""Jobs that one sweep looks at: it must not hold Redis up."""

LISTED = 200
"""Jobs that one step of a listing looks at."""


class JobStatus(StrEnum):
    """Where a job stands. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A call to be kept.

    Attributes:
        owner: name of the key that it was handed in with, "" for none.
        path, body, headers, lane: of the call.
        expires_ms: from its acceptance until it has expired.
        width: how many of the owner's jobs may run at once, 0 for any number.
        webhook: who is told of its end, encoded; empty for nobody.
        idempotency_key: by which the owner may hand the same call in again; "" for none.
    """

    job_id: str
    owner: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    lane: Lane
    expires_ms: int
    width: int = 0
    webhook: bytes = b""
    idempotency_key: str = ""

    @property
    def fingerprint(self) -> str:
        """Tells this call from another one of the same idempotency key."""
        digest = hashlib.sha256(self.path.encode() + b"\0" + _packed(dict(sorted(self.headers.items()))) + self.body)
        return digest.hexdigest()

    @property
    def key_digest(self) -> str:
        """Of owner and idempotency key, "" for none: a key says nothing to another owner."""
        if not self.idempotency_key:
            return ""
        return hashlib.sha256(f"{self.owner}\0{self.idempotency_key}".encode()).hexdigest()


class Submission(StrEnum):
    """What became of a job that was handed in, or of a look for one with the same idempotency key."""

    NEW = "new"
    SAME = "same"
    OTHER = "other"
    UNDURABLE = "undurable"
    NONE = "none"

    @classmethod
    def of(cls, reply: Sequence[bytes]) -> tuple[Self, str]:
        """The reply of `submit` and `find`: this, and the id of the job that is there."""
        return cls(reply[0].decode()), reply[1].decode()


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job to run.

    Attributes:
        token: of the claim, for `renew` and `give_back`.
        attempts: how often it was begun, this time included.
        left_ms: until it has expired.
    """

    job_id: str
    token: str
    owner: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    lane: Lane
    attempts: int
    left_ms: int
    webhook: bytes


@dataclass(frozen=True, slots=True)
class JobReply:
    """What a route answered to a job: status 0 and nothing where it was never asked."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


NO_REPLY = JobReply()


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its owner sees it. Times are Unix milliseconds; 0 for what has not been.

    Attributes:
        expires_ms: when it has expired if it has not ended.
        kept_ms: until when it is known, once it has ended.
        code: status of the reply.
        place: in the owner's queue, from 1; 0 unless it waits.
    """

    job_id: str
    path: str
    lane: Lane
    status: JobStatus
    created_ms: int
    started_ms: int
    finished_ms: int
    expires_ms: int
    kept_ms: int
    attempts: int
    code: int
    place: int

    @classmethod
    def of(cls, job_id: str, fields: Sequence[Any]) -> Self:
        """From the fields that `job_look` and `job_list` give."""
        path, lane, status, *numbers = fields
        return cls(
            job_id,
            path.decode(),
            Lane(lane.decode()),
            JobStatus(status.decode()),
            *(int(each or 0) for each in numbers),
        )


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job with what it ends with.

    Attributes:
        reply: its route's, if it was asked for.
        webhook: who is told of its end; empty once it was.
    """

    job: Job
    reply: JobReply
    webhook: bytes


def submit(new: NewJob) -> Step:
    """Accepts a job, once, however often it runs; read its reply with `Submission.of`."""
    fields: list[Argument] = ["path", new.path, "lane", new.lane, "headers", _packed(new.headers)]
    fields += ["body", new.body, "webhook", new.webhook]
    known: list[Argument] = [new.key_digest, new.fingerprint, LANES.index(new.lane), new.expires_ms, new.width]
    return _step("job_submit", new.job_id, new.owner, *known, *fields)


def find(new: NewJob) -> Step:
    """Looks for the job of the same idempotency key; read its reply with `Submission.of`."""
    return _step("job_find", new.key_digest, new.fingerprint)


def claim(token: str, count: int) -> Step:
    """Begins up to so many jobs; read its reply with `claimed_jobs`."""
    return _step("job_claim", token, count, CLAIMED_BYTES, JOB_LEASE_MS)


def claimed_jobs(token: str, reply: Sequence[Any]) -> list[ClaimedJob]:
    """What `claim` replied."""
    return [
        ClaimedJob(
            job_id.decode(),
            token,
            owner.decode(),
            path.decode(),
            body,
            msgpack.unpackb(headers),
            Lane(lane.decode()),
            attempts,
            left_ms,
            webhook,
        )
        for job_id, owner, path, body, headers, lane, attempts, left_ms, webhook in reply
    ]


def renew(claims: Sequence[tuple[str, str]]) -> Step:
    """Keeps leases for another `JOB_LEASE_MS`; its reply is, for each id and token, 1, or 0 where it was lost."""
    return _step("job_renew", JOB_LEASE_MS, *(part for each in claims for part in each))


def end(job_id: str, status: JobStatus, reply: JobReply, kept_ms: int, webhook: Webhook | None) -> Step:
    """Ends a job; its reply is 1 when it was this call that did, 0 when it had ended before."""
    packed = webhook.encode() if webhook else b""
    return _step("job_end", job_id, status, reply.status, _packed(reply.headers), reply.body, kept_ms, packed)


def give_back(job: ClaimedJob, pause_ms: int, *, counts: bool) -> Step:
    """Lets a job wait again, in its old place; its reply is 0 when it was lost before.

    Args:
        pause_ms: for which none of the owner's jobs is begun.
        counts: whether this was an attempt.
    """
    return _step("job_return", job.job_id, job.token, pause_ms, int(counts))


def sweep() -> Step:
    """Lets jobs wait again whose leases ran out, and forgets old ones; read its reply with `swept`."""
    return _step("job_sweep", SWEPT)


def swept(reply: Sequence[Any]) -> tuple[int, list[tuple[str, bytes]]]:
    """What `sweep` replied: how many wait again, and the id and webhook of each that has expired."""
    returned, expired = reply
    return returned, [(job_id.decode(), webhook or b"") for job_id, webhook in expired]


def look(job_id: str, owner: str, *, with_reply: bool = False) -> Step:
    """Looks at one of an owner's jobs; read its reply with `looked_at`."""
    return _step("job_look", job_id, owner, int(with_reply))


def looked_at(job_id: str, reply: Any) -> FoundJob | str:
    """What `look` replied: the job, or `none` for one that never was, `gone` for one that is not kept any more."""
    if isinstance(reply, bytes):
        return reply.decode()
    *fields, webhook, headers, body = reply
    job = Job.of(job_id, fields)
    return FoundJob(job, JobReply(job.code, msgpack.unpackb(headers) if headers else {}, body or b""), webhook or b"")


def listed(owner: str, after: str, status: str, *, newest_first: bool) -> Step:
    """A stretch of an owner's jobs behind the one with the id `after`; read its reply with `stretch`."""
    return _step("job_list", owner, after, int(newest_first), LISTED, status)


def stretch(reply: Any) -> tuple[str, list[Job]] | None:
    """What `listed` replied: the id behind which more are, or "", and its jobs; None for an unknown `after`."""
    if isinstance(reply, bytes):
        return None
    last, found = reply
    return last.decode(), [Job.of(job_id.decode(), fields) for job_id, *fields in found]


def _step(name: str, *arguments: Argument) -> Step:
    return Step(name, [JOBS], arguments, shared=("prelude", "outbox", "jobs"))


def _packed(headers: Mapping[str, str]) -> bytes:
    packed: bytes = msgpack.packb(dict(headers))
    return packed
