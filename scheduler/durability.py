"""Steps whose caller goes away afterwards: they count as done only once Redis has them in its append-only file.

Redis appends what a step has written before it replies, but for one case: with `appendfsync everysec` it puts the
appending off, for up to two seconds, while the disk is busy with the last fsync (`aof_delayed_fsync`). What a `kill -9`
meets then is lost though it was answered. So the file is looked at: right behind the step, the file's size and what
waits to be appended to it add up to where the step ends, and the step is safe from the death of the process when the
file has become so long. From the death of the machine it is safe when the disk has it too: `appendfsync always`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from scheduler.connection import end_if_cancelled, persist
from scheduler.errors import NotDurableError, QueueUnavailableError
from scheduler.lua import Step
from scheduler.results import ENQUEUE_SECONDS

FIRST_LOOK, LONGEST_LOOK = 0.002, 0.1
"""Seconds between two looks at the file; doubled each time."""


@dataclass(frozen=True, slots=True)
class _File:
    """The append-only file at one moment.

    Attributes:
        run_id: of the server's process.
        size: in bytes.
        waiting: bytes that are not appended yet.
        base: its size when it was last rewritten, or read at a start.
    """

    run_id: str
    size: int
    waiting: int
    base: int

    @classmethod
    def of(cls, persistence: dict[str, Any], server: dict[str, Any]) -> Self:
        if not persistence.get("aof_enabled"):
            raise NotDurableError(
                "Redis keeps no append-only file, so what it is told would be lost with its process: set `appendonly "
                "yes` there."
            )
        return cls(
            str(server["run_id"]),
            int(persistence["aof_current_size"]),
            int(persistence.get("aof_buffer_length", 0)),
            int(persistence.get("aof_base_size", 0)),
        )

    @property
    def end(self) -> int:
        """The size at which all that was done until now is in it."""
        return max(1, self.size + self.waiting)


async def run_durably(redis: Redis, step: Step, seconds: float = ENQUEUE_SECONDS) -> Any:
    """The reply of a step, once what it wrote is in the append-only file; tried again while Redis is away.

    The step may run several times, so it must be one that changes nothing the second time.

    Raises:
        NotDurableError: there is no such file.
        QueueUnavailableError: Redis did not do it, or did not get it into the file, within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            return await persist(lambda: _run(redis, step), seconds, "keep what it was told")
    except TimeoutError as error:
        raise QueueUnavailableError(
            f"Redis did not write what it was told to its append-only file within {seconds:g} seconds."
        ) from error


async def _run(redis: Redis, step: Step) -> Any:
    reply, file = await _step_and_file(redis, step)
    wanted, pause = file.end, FIRST_LOOK
    while file.size < wanted:
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_LOOK)
        before, file = file, await _file(redis)
        # `asyncio.wait_for`, by which redis-py sends, loses a cancellation that comes as it ends (Python 3.11): the
        # time would be up, and this would look on.
        end_if_cancelled()
        if file.run_id != before.run_id:
            raise RedisConnectionError("it was started again before it had written what it was told")
        if file.base != before.base or file.size < before.size:
            # It was rewritten, and is another file: where the step ended in the old one says nothing of it.
            wanted = file.end
    return reply


async def _step_and_file(redis: Redis, step: Step) -> tuple[Any, _File]:
    """The step's reply, and the file right behind it, seen by the same connection and so from the same process."""
    for with_source in (False, True):
        async with redis.pipeline(transaction=False) as pipeline:
            step.add_to(pipeline, with_source=with_source)
            pipeline.info("persistence")
            pipeline.info("server")
            reply, persistence, server = await pipeline.execute(raise_on_error=False)
        if isinstance(reply, NoScriptError) and not with_source:
            continue
        for each in (reply, persistence, server):
            if isinstance(each, Exception):
                raise each
        return reply, _File.of(persistence, server)
    raise ResponseError("it does not keep the script that it was just given")


async def _file(redis: Redis) -> _File:
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.info("persistence")
        pipeline.info("server")
        persistence, server = await pipeline.execute()
    return _File.of(persistence, server)
