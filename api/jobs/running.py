"""Runs jobs: claims them, replays each through its route with its owner's rights, and writes down how it ended.

What is claimed is held by a lease. A process that dies is found out by it and its jobs are run by another one, so a job
may be run twice; it ends once.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from fastapi import FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.deadlines import Deadline
from api.errors import ApiError
from api.jobs.outcomes import SHORT_PAUSE_MS, Returned, outcome_of
from api.jobs.submitting import webhook_of_end
from api.protocol.jobs import told_error
from api.replaying import Call, replay
from api.state import State
from scheduler import jobs
from scheduler.connection import BLOCK_MS, end_if_cancelled, is_passing, persist
from scheduler.errors import QueueUnavailableError
from scheduler.jobs import JOB_ATTEMPTS_ALLOWED, SWEPT, ClaimedJob, JobReply, JobStatus
from scheduler.keys import JOB_NEWS, JOBS_COMING
from scheduler.results import ENQUEUE_SECONDS

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""How often waiting jobs are looked for that nobody told of, or whose owner's pause is over."""

RENEWAL_SECONDS = 1.5
"""How often leases are renewed, in one step for all: more than one renewal may go astray."""

SWEEP_SECONDS = 1.0

STOP_SECONDS = 5.0
"""For jobs that run to end at a stop; the others wait again."""


_EXPIRED = ApiError(504, "It did not end before its time was over (expires_in).", code="deadline_exceeded")


async def run_jobs(app: FastAPI, stopping: asyncio.Event) -> None:
    """Runs jobs until the event is set, up to --job-concurrency at once."""
    await _Runner(app, cast("State", app.state.millpond), stopping).run()


@dataclass(slots=True)
class _Run:
    """A job that runs.

    Attributes:
        lost: it has ended, or is another's: nothing is to be written down.
        ending: its reply is there and is being written down, which nothing may disturb.
    """

    job: ClaimedJob
    task: "asyncio.Task[None] | None" = None
    lost: bool = False
    ending: bool = False


class _Runner:
    def __init__(self, app: FastAPI, state: State, stopping: asyncio.Event) -> None:
        self._app = app
        self._redis: Redis = state.redis
        self._keyring = state.keyring
        self._concurrency = state.options.job_concurrency
        self._kept_ms = state.options.result_ttl * 1000
        self._stopping = stopping
        self._runs: dict[str, _Run] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._listen()),
                group.create_task(self._again_and_again(self._renew, RENEWAL_SECONDS)),
                group.create_task(self._again_and_again(self._sweep, SWEEP_SECONDS)),
            ]
            await self._claim_until_stopped()
            await self._let_end()
            for each in beside:
                each.cancel()

    async def _claim_until_stopped(self) -> None:
        """Takes jobs as soon as they come and there is room."""
        stopped = asyncio.ensure_future(self._stopping.wait())
        stopped.add_done_callback(lambda _: self._wake.set())
        while not self._stopping.is_set():
            self._wake.clear()
            room = self._concurrency - len(self._runs)
            claimed = await self._claim(room) if room else []
            for job in claimed:
                run = self._runs[job.job_id] = _Run(job)
                run.task = asyncio.create_task(self._run(run))
            # What a claim left for its bytes is taken by the next.
            if not claimed or len(claimed) == room:
                await self._waked()

    async def _waked(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _claim(self, room: int) -> list[ClaimedJob]:
        token = uuid.uuid4().hex
        try:
            reply = await jobs.claim(token, room).run(self._redis)
        except (RedisError, OSError) as error:
            _raise_unless_passing(error, "jobs could not be claimed")
            return []
        # One that this process still holds has lost its lease and come back: the first run of it goes on.
        return [job for job in jobs.claimed_jobs(token, reply) if not self._holds(job)]

    def _holds(self, job: ClaimedJob) -> bool:
        run = self._runs.get(job.job_id)
        if run is not None:
            run.job = job
        return run is not None

    async def _let_end(self) -> None:
        """Waits for what runs, and gives back what takes too long."""
        tasks = [run.task for run in self._runs.values() if run.task]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        log.info("of %d jobs that ran, %d wait again", len(tasks), len(late))

    async def _run(self, run: _Run) -> None:
        job = run.job
        try:
            reply = await self._reply(job)
            run.ending = True
            await self._write_down(run, reply)
        except asyncio.CancelledError:
            if not run.lost:
                await self._give_back(run, 0, counts=False)
            raise
        except (RedisError, OSError, QueueUnavailableError) as error:
            log.warning("%s is left to be run again: %s", job.job_id, error)
        except Exception:
            log.exception("%s failed inside", job.job_id)
            await self._give_back(run, SHORT_PAUSE_MS, counts=True)
        finally:
            del self._runs[job.job_id]
            self._wake.set()

    async def _reply(self, job: ClaimedJob) -> JobReply:
        """What the job's route answers to its owner, as the owner's rights are now."""
        if job.attempts > JOB_ATTEMPTS_ALLOWED:
            times = f"{JOB_ATTEMPTS_ALLOWED} times, and each time the process that ran it died"
            return told_error(ApiError(500, f"It was begun {times}.", code="job_given_up"))
        try:
            owner = self._keyring.caller_named(job.owner)
        except ApiError as error:
            return told_error(error)
        call = Call(job.path, job.body, job.headers, job.lane)
        deadline = Deadline(job.left_ms / 1000, "the job's expires_in")
        reply = await replay(self._app, call, owner, deadline, job.job_id)
        return JobReply(reply.status, reply.headers, reply.body)

    async def _write_down(self, run: _Run, reply: JobReply) -> None:
        outcome = outcome_of(reply.status, reply.headers)
        if isinstance(outcome, Returned):
            await self._give_back(run, outcome.pause_ms, counts=False)
        else:
            await self._end(run.job.job_id, outcome.status, reply, run.job.webhook)

    async def _end(self, job_id: str, status: JobStatus, reply: JobReply, target: bytes) -> None:
        step = jobs.end(job_id, status, reply, self._kept_ms, webhook_of_end(target, job_id, status))
        await persist(lambda: step.run(self._redis), ENQUEUE_SECONDS, "write down how a job ended")

    async def _give_back(self, run: _Run, pause_ms: int, *, counts: bool) -> None:
        try:
            await jobs.give_back(run.job, pause_ms, counts=counts).run(self._redis)
        except (RedisError, OSError) as error:
            log.info("%s is left to its lease: %s", run.job.job_id, error)

    async def _listen(self) -> None:
        """Hears of jobs that come, and of those that end while they run here: they were cancelled."""
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(JOBS_COMING, JOB_NEWS)
                    while True:
                        end_if_cancelled()
                        message = await subscription.get_message(
                            ignore_subscribe_messages=True, timeout=BLOCK_MS / 1000
                        )
                        if message is not None and message["channel"] == JOBS_COMING.encode():
                            self._wake.set()
                        elif message is not None:
                            self._lose(message["data"].decode())
            except (RedisError, OSError) as error:
                end_if_cancelled()
                _raise_unless_passing(error, "redis is away")
                await asyncio.sleep(0.1)

    def _lose(self, job_id: str) -> None:
        """Ends the run of a job that is not this process's any more."""
        run = self._runs.get(job_id)
        if run is not None and run.task is not None and not run.ending:
            run.lost = True
            run.task.cancel()

    async def _again_and_again(self, call: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await call()
            except (RedisError, OSError, QueueUnavailableError) as error:
                end_if_cancelled()
                if isinstance(error, QueueUnavailableError):
                    log.warning("%s", error)
                else:
                    _raise_unless_passing(error, "jobs could not be looked after")

    async def _renew(self) -> None:
        runs = list(self._runs.values())
        if not runs:
            return
        kept = await jobs.renew([(run.job.job_id, run.job.token) for run in runs]).run(self._redis)
        for run, is_kept in zip(runs, kept, strict=True):
            if not is_kept and self._runs.get(run.job.job_id) is run:
                self._lose(run.job.job_id)

    async def _sweep(self) -> None:
        """Looks after everyone's jobs: those of processes that died, and those whose time is over."""
        while True:
            returned, expired = jobs.swept(await jobs.sweep().run(self._redis))
            if returned:
                log.warning("%d jobs of a process that died wait again", returned)
            for job_id, target in expired:
                await self._end(job_id, JobStatus.EXPIRED, told_error(_EXPIRED), target)
            if returned < SWEPT and len(expired) < SWEPT:
                return


def _raise_unless_passing(error: Exception, what: str) -> None:
    if not is_passing(error):
        raise error
    log.warning("%s: %s", what, error)
