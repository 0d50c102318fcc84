"""The api's side of the processes that render: starts them, gives each one job at a time, replaces those that end."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from api.sandbox.job import HEADER, SECONDS, framed

T = TypeVar("T")

log = logging.getLogger(__name__)

START_SECONDS = 20.0
"""For a child to start: it takes 0.06 s, on a machine that has nothing else to do."""

RESTART_SECONDS = 0.25
"""Before another attempt to start a child that did not."""

LATE_SECONDS = 0.2
"""After its time a child that has not been ended by its own alarm is killed."""

KEPT_VARIABLES = ("TZ",)
"""Of the environment, which may hold secrets, a child gets the time zone, for strftime_now."""


class TooSlowError(Exception):
    """A child was ended because it took too long."""


class EndedError(Exception):
    """A child ended over its job and did not say why."""


class BusyError(Exception):
    """All children are busy, and were for as long as a job may wait."""


def child_command(niceness: int) -> list[str]:
    """The program of a child, which is so nice to other processes."""
    return [sys.executable, "-P", "-m", "api.sandbox.child", str(niceness)]


def child_environment() -> dict[str, str]:
    """What a child may know of this process's environment, and where it finds this package."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2])}


class Child:
    """One process that renders, one job at a time."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process = process
        self._channel = channel

    @classmethod
    def start(cls, niceness: int) -> Self:
        """Starts a process; that it is ready it says by a first message without content."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                child_command(niceness),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                env=child_environment(),
                cwd="/",
            )
        ours.setblocking(False)
        return cls(process, ours)

    async def exchange(self, data: bytes, longest: int, seconds: float) -> tuple[bytes, bool]:
        """The reply to a message, and whether the child ends after it.

        Args:
            longest: the most bytes that the reply may have.
            seconds: for all of it.

        Raises:
            TooSlowError: the child was out of time, by its own clock or by ours.
            EndedError: it ended, or says what it cannot mean.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(self._channel, framed(data))
                return await self.heard(longest)
        except TimeoutError as error:
            raise TooSlowError from error
        except (OSError, EOFError) as error:
            self.kill()
            status = await asyncio.to_thread(self.wait)
            raise (TooSlowError if status == -signal.SIGALRM else EndedError)(f"exit status {status}") from error

    async def heard(self, longest: int) -> tuple[bytes, bool]:
        """The child's next message, and whether it ends after it.

        Raises:
            EOFError: it has ended.
            OSError: it has ended, or the message is longer than `longest` bytes.
        """
        loop = asyncio.get_running_loop()
        found = bytearray()
        wanted, last = HEADER.size, False
        while len(found) < wanted:
            piece = await loop.sock_recv(self._channel, 256 * 1024)
            if not piece:
                raise EOFError
            if len(found) < HEADER.size <= len(found) + len(piece):
                length, last = HEADER.unpack((bytes(found) + piece)[: HEADER.size])
                if length > longest:
                    raise OSError(f"a child's reply of {length} bytes")
                wanted += length
            found += piece
        return bytes(found[HEADER.size :]), last

    @property
    def lives(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends the process; one that has ended by itself keeps its own exit status."""
        self._channel.close()
        self._process.kill()

    def wait(self) -> int:
        """Waits for the end of a process that was killed or has ended; its exit status."""
        return self._process.wait()


class Children:
    """Some processes that render, and who waits for one."""

    def __init__(self, most: int, niceness: int, patience: float) -> None:
        """Children that are started when they are needed.

        Args:
            most: so many at once.
            niceness: how nice they are to the machine's other processes.
            patience: seconds that a job may wait for a free one.
        """
        self._most = most
        self._niceness = niceness
        self._patience = patience
        self._closed = False
        self._count = 0  # with those that are starting, and those whose end is waited for
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._waiting: deque[asyncio.Future[Child]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Starts a first one, so that nobody waits for it later.

        Raises:
            EndedError: it does not start; the log says why.
        """
        self._count += 1
        await self._start()

    async def exchange(self, data: bytes, longest: int, jobs: int) -> bytes:
        """The reply, of at most `longest` bytes, to a message of so many jobs.

        A child that ends may have done so for another's reasons, such as a machine without memory, which ends them all:
        the message goes to one that was started after.

        Raises:
            TooSlowError: the time of a job was over.
            EndedError: even that one ended over it.
            BusyError: no child was free in time.
        """
        seconds = jobs * SECONDS + LATE_SECONDS
        for _ in range(self._most):
            with suppress(EndedError):
                return await self._exchange(data, longest, seconds)
        return await self._exchange(data, longest, seconds)

    async def close(self) -> None:
        """Ends all; who still waits hears that they are busy."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self._children:
            child.kill()
        for child in self._children:
            child.wait()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(BusyError())

    async def _exchange(self, data: bytes, longest: int, seconds: float) -> bytes:
        child = await self._free()
        # Goes on when the caller leaves: the child is free again only when its job is done.
        return await asyncio.shield(self._kept(self._use(child, data, longest, seconds)))

    async def _use(self, child: Child, data: bytes, longest: int, seconds: float) -> bytes:
        try:
            reply, last = await child.exchange(data, longest, seconds)
        except BaseException:
            self._replace(child)
            raise
        if last:
            self._replace(child)
        else:
            self._give(child)
        return reply

    async def _free(self) -> Child:
        """A child that has nothing to do."""
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            self._replace(child)
        if self._count < self._most:
            self._count += 1
            self._kept(self._start_at_last())
        waiting: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(self._patience):
                return await waiting
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiting.done() and not waiting.cancelled():
                self._give(waiting.result())
            if isinstance(error, TimeoutError):
                raise BusyError from error
            raise

    def _give(self, child: Child) -> None:
        """A child to who has waited longest, or to the idle ones."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(child)
                return
        self._idle.append(child)

    def _replace(self, child: Child) -> None:
        child.kill()
        if not self._closed:
            self._kept(self._forget(child))

    async def _forget(self, child: Child) -> None:
        """Waits for the end of a child that was killed, and starts another."""
        await asyncio.to_thread(child.wait)
        self._children.discard(child)
        await self._start_at_last()

    async def _start_at_last(self) -> None:
        """Starts the child that is counted already, and tries until it can be started."""
        while True:
            try:
                return await self._start()
            except (EndedError, OSError) as error:
                log.warning("a process that renders chat templates does not start: %s", error)
                await asyncio.sleep(RESTART_SECONDS)

    async def _start(self) -> None:
        child = Child.start(self._niceness)
        self._children.add(child)
        try:
            async with asyncio.timeout(START_SECONDS):
                await child.heard(0)
        except (OSError, EOFError, TimeoutError) as error:
            child.kill()
            status = await asyncio.to_thread(child.wait)
            self._children.discard(child)
            raise EndedError(f"exit status {status}") from error
        self._give(child)

    def _kept(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task that is referred to as long as it runs."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
