"""Every Redis key and channel of Millpond, in one place.

All keys of a model share one hash tag, because the commit of a micro-batch touches lanes, leases, requests and results
in one atomic step: on a cluster a model lives on one shard, and models spread over the shards.
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

PREFIX = "millpond:"

MODELS = PREFIX + "models"
"""Set: the models that workers or api processes have named, for schedulers to lead."""

NEW_MODEL_CHANNEL = PREFIX + "models:new"
"""Channel: a model's name, when it is first added to `MODELS`."""

CELERY_KEY_PREFIX = PREFIX + "celery:"
"""Put by kombu before every key of the Celery broker."""


class Lane(StrEnum):
    """A priority class; the order of the members is the order of service."""

    INTERACTIVE = "interactive"
    JOB = "job"
    BULK = "bulk"


LANES = tuple(Lane)


def wake_channel(process_id: str) -> str:
    """The channel on which one api process hears which of its requests are complete."""
    return f"{PREFIX}wake:{process_id}"


def celery_queue(worker_id: str) -> str:
    """The Celery queue of one worker: one short message a micro-batch, and never more than it has slots."""
    return "worker:" + worker_id


@dataclass(frozen=True)
class ModelKeys:
    """The keys of one served model."""

    model: str
    root: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", f"{PREFIX}{{{quote(self.model, safe='')}}}:")

    def lane(self, lane: Lane) -> str:
        """Stream: the items of a class, oldest first.

        Fields, in order: request, index, item, attempts, reasons, deadline.
        """
        return f"{self.root}lane:{lane}"

    @property
    def lanes(self) -> list[str]:
        """The streams of all lanes, in the order of `LANES`."""
        return [self.lane(lane) for lane in LANES]

    @property
    def request_prefix(self) -> str:
        """What stands before a request's id in the key of its hash."""
        return f"{self.root}request:"

    @property
    def result_prefix(self) -> str:
        """What stands before a request's id in the key of its results."""
        return f"{self.root}result:"

    def request(self, request_id: str) -> str:
        """Hash with TTL: count, remaining, channel and, where it has one, deadline (Unix ms).

        Gone once its caller has the results or has left.
        """
        return self.request_prefix + request_id

    def result(self, request_id: str) -> str:
        """Hash with TTL: index -> encoded result."""
        return self.result_prefix + request_id

    @property
    def blob_prefix(self) -> str:
        """What stands before a file's SHA-256 in the key of its bytes."""
        return f"{self.root}blob:"

    def blob(self, name: str) -> str:
        """String with TTL: the bytes of a file; `name` is their SHA-256 in hex."""
        return self.blob_prefix + name

    @property
    def blob_users_prefix(self) -> str:
        """What stands before a file's SHA-256 in the key of its users.

        Sorted set with TTL: request -> the Unix ms until which it counts though its hash is not there.
        """
        return f"{self.root}blob-users:"

    def blob_users(self, name: str) -> str:
        """See `blob_users_prefix`."""
        return self.blob_users_prefix + name

    @property
    def blobs(self) -> str:
        """Sorted set: a file's SHA-256 -> the Redis time in milliseconds at which it was last used."""
        return f"{self.root}blobs"

    @property
    def blob_ends(self) -> str:
        """Sorted set: a file's SHA-256 -> the Redis time in milliseconds at which its TTL is over."""
        return f"{self.root}blob-ends"

    @property
    def blob_sizes(self) -> str:
        """Hash: a file's SHA-256 -> its bytes; `total`, those of all; `evicted`, how many went for want of room."""
        return f"{self.root}blob-sizes"

    @property
    def leases(self) -> str:
        """Sorted set: micro-batch id -> the Redis time in milliseconds at which its lease runs out."""
        return f"{self.root}leases"

    def batch(self, batch_id: str) -> str:
        """Hash: entries, worker, and, once that worker has begun, claimed."""
        return f"{self.root}batch:{batch_id}"

    @property
    def held(self) -> str:
        """Hash: worker -> how many micro-batches it holds, sent ones included: the slots that are taken."""
        return f"{self.root}held"

    @property
    def queued(self) -> str:
        """Hash: tokens accepted and not yet ended, by `LANE` and `LANE/TENANT`; and `LANE#`, tenants with any."""
        return f"{self.root}queued"

    @property
    def pace(self) -> str:
        """String with TTL: tokens that all workers together do in a second, and the milliseconds of a full batch."""
        return f"{self.root}pace"

    @property
    def line(self) -> str:
        """Hash with TTL: `LANE/TENANT` -> the Unix time in ms up to which its refused requests will fill the queue."""
        return f"{self.root}line"

    def promise(self, digest: str) -> str:
        """List with TTL: the Unix times in ms from which refused requests of the same tokens have room."""
        return f"{self.root}promise:{digest}"

    @property
    def claims(self) -> str:
        """Hash: `lane number/entry id` -> the micro-batch that holds the entry."""
        return f"{self.root}claims"

    @property
    def leader(self) -> str:
        """String with TTL: the fencing token of the scheduler that dispatches this model."""
        return f"{self.root}leader"

    @property
    def leader_count(self) -> str:
        """Counter: how many leaders there have been; the source of fencing tokens."""
        return f"{self.root}leader:count"

    @property
    def workers(self) -> str:
        """Set: the ids of this model's workers, living or lately dead."""
        return f"{self.root}workers"

    def worker(self, worker_id: str) -> str:
        """Hash with TTL: a worker's heartbeat. Fields: slots, max_num_seqs, max_num_batched_tokens, fingerprint."""
        return f"{self.root}worker:{worker_id}"

    @property
    def counters(self) -> str:
        """Hash: items and tokens by outcome, counted in the step that decides the outcome.

        An item ends as one of: items_answered; items_given_up; items_abandoned (its caller left before a worker began
        with it); items_expired (its deadline passed before that); items_unwanted (a worker did begin with it, for
        nobody). On the way it may have been counted in items_returned, and a second run of it in items_repeated.
        """
        return f"{self.root}counters"

    @property
    def dead_letters(self) -> str:
        """Stream: items given up on, with the reason of every attempt."""
        return f"{self.root}dead-letters"

    @property
    def scheduler_channel(self) -> str:
        """Channel: wakes the dispatcher.

        `slot WORKER BATCH TOKENS SQUARES SECONDS`: a batch has ended, the last three if it ran; `worker`: one has come.
        """
        return f"{self.root}scheduler"


JOBS = PREFIX + "{jobs}:"
"""What stands before the keys of jobs, batches, files and webhooks: one hash tag, as steps touch several of them.

Those of jobs are made in `lua/jobs.lua`:

    job:ID              hash: owner, key (digest of its idempotency key), path, lane, headers, body, webhook, place,
                        status, created, expires, started, finished, kept (Unix ms each), attempts, runner (token of the
                        claim that runs it), code, reply_headers, reply; with TTL once it has ended
    job-ended:ID        string with TTL: the owner of a job that has ended; outlives its result
    job-key:DIGEST      hash: id, fingerprint: what an idempotency key was used for; with the TTL of the job
    jobs:waiting:OWNER  sorted set: id -> place among the owner's jobs, by lane and age
    jobs:owners         sorted set: owner -> Unix microsecond from which it may be served
    jobs:running        sorted set: id -> Unix ms at which its lease runs out
    jobs:held           hash: owner -> how many of its jobs run
    jobs:widths         hash: owner -> how many of its jobs may run at once, as its key said when it last submitted one
    jobs:due            sorted set: id -> Unix ms at which it expires, or at which its result is forgotten
    jobs:of:OWNER       sorted set: id -> number, in the order of acceptance
    jobs:count          counter: the last number
    jobs:counters       hash: submitted, and how many ended as what
    jobs:coming         channel: a job waits
    jobs:news           channel: the id of a job that has ended
"""

JOB_COUNTERS, JOBS_RUNNING = JOBS + "jobs:counters", JOBS + "jobs:running"
JOBS_COMING, JOB_NEWS = JOBS + "jobs:coming", JOBS + "jobs:news"

WEBHOOKS = JOBS + "webhooks"
"""Sorted set: webhook -> Unix ms when it was handed in; those that are not delivered and not given up."""

WEBHOOK_RECEIVERS = JOBS + "webhooks:receivers"
"""Sorted set: receiver (scheme, host and port of a URL) that is in `WEBHOOK_REACHED` -> Unix ms of its next attempt."""

WEBHOOK_UNPROVEN = JOBS + "webhooks:unproven"
"""As `WEBHOOK_RECEIVERS`, of those that are new or were not reached at the last attempt."""

WEBHOOK_REACHED = JOBS + "webhooks:reached"
"""Sorted set: receiver that answered at the last attempt -> Unix ms when; of the last hour."""

WEBHOOK_FAILURES = JOBS + "webhooks:failures"
"""Hash: receiver -> in how many attempts in a row it was not reached."""

NEW_WEBHOOK_CHANNEL = JOBS + "webhooks:new"
"""Channel: a webhook's id, when it is handed in."""


def webhook(webhook_id: str) -> str:
    """Hash, with TTL once it has ended: receiver, url, secrets, payload, created, attempts, claims, outcome."""
    return f"{JOBS}webhook:{webhook_id}"


def webhooks_to(receiver: str) -> str:
    """Sorted set: webhook -> Unix ms of its next attempt, or of the end of the lease of the one that runs."""
    return f"{JOBS}webhooks:to:{receiver}"


BATCH_OWNERS = JOBS + "batches:owners"
"""Sorted set: owner with batches that have not ended, as in `open_batches` -> when it last had a turn, in Unix
microseconds."""

EXPIRING_FILES = JOBS + "files:expiring"
"""Sorted set: file -> the Unix second at which it goes; also batch that has ended -> when its parts go."""


def file_key(file_id: str) -> str:
    """Hash: owner, filename, bytes, purpose, created, expires (Unix seconds, 0: never)."""
    return f"{JOBS}file:{file_id}"


def file_readers(file_id: str) -> str:
    """Set: the batches that have not ended and read the file."""
    return f"{JOBS}file:{file_id}:readers"


def files_of(owner: str) -> str:
    """Sorted set: file -> the Unix microsecond at which it was made."""
    return f"{JOBS}files:of:{quote(owner, safe='')}"


def batch_key(batch_id: str) -> str:
    """Hash: what was asked for, the state, the counts; see `scheduler/batches.py`."""
    return f"{JOBS}batch:{batch_id}"


def batch_claims(batch_id: str) -> str:
    """Sorted set: a part of a batch that somebody has (a chunk's number, or a stage) -> Unix ms when its lease ends."""
    return f"{JOBS}batch:{batch_id}:claims"


def batch_holders(batch_id: str) -> str:
    """Hash: the work of a batch -> the token of its last claim."""
    return f"{JOBS}batch:{batch_id}:holders"


def batch_chunks(batch_id: str) -> str:
    """Hash: a chunk that is done -> the token of the claim that did it, and the kinds of part files that it wrote."""
    return f"{JOBS}batch:{batch_id}:chunks"


def open_batches(owner: str) -> str:
    """Sorted set: batch that has not ended -> when it last had a turn among the owner's, in Unix microseconds."""
    return f"{JOBS}batches:open:{quote(owner, safe='')}"


def batch_by_key(owner: str, idempotency_key: str) -> str:
    """Hash with TTL: id, fingerprint: the batch that an owner's idempotency key was used for."""
    digest = hashlib.sha256(f"{owner}\0{idempotency_key}".encode()).hexdigest()
    return f"{JOBS}batch-key:{digest}"


def batches_of(owner: str) -> str:
    """Sorted set: batch -> the Unix microsecond at which it was made."""
    return f"{JOBS}batches:of:{quote(owner, safe='')}"


@dataclass(frozen=True)
class TenantKeys:
    """The keys of one tenant whose use is limited. No model's hash tag holds a colon, so none is the same."""

    tenant: str
    root: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", f"{PREFIX}{{tenant:{quote(self.tenant, safe='')}}}:")

    @property
    def usage(self) -> str:
        """Hash with TTL: used (tokens), at (ms, when that was so), call_ms (how long a call takes in the mean)."""
        return f"{self.root}usage"

    @property
    def calls(self) -> str:
        """Sorted set with TTL: call id -> the Redis time in milliseconds at which its lease runs out."""
        return f"{self.root}calls"


def backfill_queue(backfill_id: str) -> str:
    """The Celery queue of one backfill: one short message a chunk, and a few more messages than executors."""
    return "backfill:" + backfill_id


@dataclass(frozen=True)
class BackfillKeys:
    """The keys of one backfill whose ledger is shared. No model's hash tag holds a colon, so none is the same."""

    backfill_id: str
    root: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", f"{PREFIX}{{backfill:{quote(self.backfill_id, safe='')}}}:")

    @property
    def settings(self) -> str:
        """String: all that its results depend on beside the rows themselves, as JSON."""
        return f"{self.root}settings"

    @property
    def chunks(self) -> str:
        """Hash: chunk number -> the chunk as JSON, its digest included; as -1 the end, which is claimed too."""
        return f"{self.root}chunks"

    @property
    def open(self) -> str:
        """Sorted set: the numbers of chunks that nobody holds and nobody has done, by themselves."""
        return f"{self.root}open"

    @property
    def leases(self) -> str:
        """Sorted set: chunk number -> the Redis time in milliseconds at which the lease on it runs out."""
        return f"{self.root}leases"

    @property
    def tokens(self) -> str:
        """Hash: chunk number -> the token of the claim that holds it."""
        return f"{self.root}tokens"

    @property
    def results(self) -> str:
        """Hash: chunk number -> what came of it, as JSON: part file, counts, statistics."""
        return f"{self.root}results"

    @property
    def totals(self) -> str:
        """Hash: planned, done, rows, bad, duplicates: rows of all chunks, done chunks, and their sums."""
        return f"{self.root}totals"
