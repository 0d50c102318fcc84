"""One chunk of a batch: its lines replayed through their route, and what came of them."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
from fastapi import FastAPI

from api.batches.lines import Line, expired_line, lines_of, parse_line, reply_line
from api.batches.pacing import Pace, pause_of
from api.batches.places import ERRORS, OUTPUT
from api.callers import Caller
from api.deadlines import Deadline
from api.errors import ApiError, openai_error
from api.replaying import Call, Reply, replay
from scheduler.batches import Counted
from scheduler.keys import Lane

BUSY = (429, 503)
"""What a line is told that only comes too early: it waits and is sent again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A line that has its reply.

    Attributes:
        text: its line of the output or error file, with the line's end.
        is_output: in which of both.
        tokens: that it is charged with.
    """

    text: bytes
    is_output: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """What came of a chunk.

    Attributes:
        contents: of its part files, by kind, in the order of its lines; one without lines is not there.
    """

    contents: Mapping[str, bytes]
    counted: Counted


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the lines of one batch.

    Attributes:
        owner: finds the caller whose batch it is, with the rights of now.
        deadline: Unix seconds at which the batch expires.
        pace: of the owner, in this process.
    """

    app: FastAPI
    batch_id: str
    endpoint: str
    owner: Callable[[], Caller]
    deadline: int
    pace: Pace

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
        reply = await self._reply(line, line_id)
        if reply is None:
            return Answered(expired_line(line_id, line.custom_id), False, 0)
        is_output = reply.status < 300
        text = reply_line(line_id, line.custom_id, reply.status, line_id, reply.body)
        return Answered(text, is_output, reply.tokens if is_output else 0)

    async def _reply(self, line: Line, request_id: str) -> Reply | None:
        """The reply of a line's route; None when the batch expires first."""
        call = Call(self.endpoint, line.body, lane=Lane.BULK)
        while True:
            async with self.pace.turn():
                left = self.deadline - time.time()
                if left <= 0:
                    return None
                reply = await self._exchange(call, left, request_id)
            if reply.status == 504:  # the deadline it was given is the batch's
                return None
            if reply.status not in BUSY:
                return reply
            self.pace.pause(pause_of(reply.headers))

    async def _exchange(self, call: Call, seconds: float, request_id: str) -> Reply:
        """What the route answers now, or the owner's key that has gone, or cannot be looked for."""
        try:
            owner = self.owner()
        except ApiError as error:
            status, body = openai_error(error)
            return Reply(
                status, {name.lower(): value for name, value in (error.headers or {}).items()}, orjson.dumps(body)
            )
        self.pace.allow(owner.concurrency)
        return await replay(self.app, call, owner, Deadline(seconds, "completion_window"), request_id)


def line_id_of(batch_id: str, custom_id: str) -> str:
    """The name of a line's call: the same however often it is run."""
    digest = hashlib.blake2b(f"{batch_id}\n{custom_id}".encode("utf-8", "surrogatepass"), digest_size=16)
    return f"batch_req_{digest.hexdigest()}"


def _together(done: Sequence[Answered]) -> ChunkOutput | None:
    if not done:
        return None
    contents = {
        OUTPUT: b"".join(each.text for each in done if each.is_output),
        ERRORS: b"".join(each.text for each in done if not each.is_output),
    }
    completed, tokens = sum(each.is_output for each in done), sum(each.tokens for each in done)
    counted = Counted(completed, len(done) - completed, tokens)
    return ChunkOutput({kind: content for kind, content in contents.items() if content}, counted)
