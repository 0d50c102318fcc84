"""One chunk of a batch: its lines replayed through their route, and what came of them."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from fastapi import FastAPI

from api.batches.lines import Line, lines_of, parse_line, reply_line, tokens_of, unanswered_line
from api.callers import Caller
from api.deadlines import Deadline
from api.errors import ApiError, openai_error
from api.replaying import Call, Reply, replay
from scheduler.batches import Counted
from scheduler.errors import QueueUnavailableError
from scheduler.keys import Lane

BUSY = (429, 503)
"""What a line is told that only comes too early: it waits and is sent again."""

LONGEST_PAUSE = 60.0
"""Seconds before a line that came too early is sent again, whatever the reply's Retry-After."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A line that has its reply.

    Attributes:
        text: its line of the output or error file, with the line's end.
        is_output: in which of both.
        tokens: of input and of all, that it is charged with.
    """

    text: bytes
    is_output: bool
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """What came of a chunk, in the order of its lines."""

    output: bytes
    errors: bytes
    counted: Counted


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the lines of one batch.

    Attributes:
        owner: finds the caller whose batch it is, with the rights of now.
        deadline: Unix seconds at which the batch expires.
        places: bounds how many lines run at once in this process.
    """

    app: FastAPI
    batch_id: str
    endpoint: str
    owner: Callable[[], Caller]
    deadline: int
    places: asyncio.Semaphore

    async def run(self, data: bytes, stop: asyncio.Event) -> ChunkOutput | None:
        """What came of a chunk's lines; of those that are done, when it is to stop before; None when nothing is.

        Lines that were running then are left out: they count as not done.
        """
        lines = [parse_line(each, self.endpoint) for each in lines_of(data)]
        tasks = [asyncio.create_task(self._answer(line)) for line in lines]
        stopping = asyncio.create_task(stop.wait())
        try:
            every = asyncio.gather(*tasks)
            await asyncio.wait((every, stopping), return_when=asyncio.FIRST_COMPLETED)
            done = [task.result() for task in tasks if task.done() and not task.cancelled()]
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
        return _together(done)

    async def _answer(self, line: Line) -> Answered:
        line_id = line_id_of(self.batch_id, line.custom_id)
        async with self.places:
            reply = await self._reply(line, line_id)
        if reply is None:
            text = unanswered_line(line_id, line.custom_id, "batch_expired", "The batch expired before its turn.")
            return Answered(text, False, (0, 0))
        is_output = reply.status < 300
        text = reply_line(line_id, line.custom_id, reply.status, line_id, reply.body)
        return Answered(text, is_output, tokens_of(reply.body) if is_output else (0, 0))

    async def _reply(self, line: Line, request_id: str) -> Reply | None:
        """The reply of a line's route; None when the batch expires first."""
        call = Call(self.endpoint, line.body, lane=Lane.BULK)
        while (left := self.deadline - time.time()) > 0:
            try:
                reply = await replay(self.app, call, self.owner(), Deadline(left, "completion_window"), request_id)
            except ApiError as error:
                return _refused(error)
            except QueueUnavailableError:
                await asyncio.sleep(1.0)
                continue
            if reply.status == 504:  # the deadline it was given is the batch's
                return None
            if reply.status not in BUSY:
                return reply
            await asyncio.sleep(min(float(reply.headers.get("retry-after", 1)), LONGEST_PAUSE, left))
        return None


def line_id_of(batch_id: str, custom_id: str) -> str:
    """The name of a line's call: the same however often it is run."""
    digest = hashlib.blake2b(f"{batch_id}\n{custom_id}".encode("utf-8", "surrogatepass"), digest_size=16)
    return f"batch_req_{digest.hexdigest()}"


def _refused(error: ApiError) -> Reply:
    """The reply for an owner who has lost the key since."""
    status, body = openai_error(error)
    return Reply(status, {}, orjson.dumps(body))


def _together(done: Sequence[Answered]) -> ChunkOutput | None:
    if not done:
        return None
    output = b"".join(each.text for each in done if each.is_output)
    errors = b"".join(each.text for each in done if not each.is_output)
    completed = sum(each.is_output for each in done)
    asked, total = (sum(each.tokens[place] for each in done) for place in (0, 1))
    return ChunkOutput(output, errors, Counted(completed, len(done) - completed, asked, total))
