"""Keeps programs running: starts them, says when each is ready, starts again what dies, stops them in order."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from api.errors import LaunchError
from scheduler.readiness import READY, REFUSED

FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0
"""Seconds before a role that died is started again; doubled each time.

The longest is well under the time for which a caller is kept while Redis is away (`scheduler.results.ENQUEUE_SECONDS`):
else an embedded Redis that keeps dying would cost answers.
"""

STEADY_SECONDS = 10.0
"""A role that has run for so long is well again: its next delay is the first one."""

EXIT_CONFIGURATION = 2
"""A role that ends so before it was ever ready has said what is wrong; starting it again would not help."""

LAST_WORDS_SECONDS = 1.0
"""For what a role wrote to be read after its end."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Role:
    """A program to keep running.

    Attributes:
        name: what it is called towards the user.
        command: the program and its arguments.
        environment: added to this process's own.
        descriptors: open files that it inherits.
        stop_seconds: how long it may take to stop before it is killed.
        probe: for a program that does not announce itself: waits until it is ready, and describes it.
        log: the file that its output is added to; None: where this process's goes.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: Sequence[int] = ()
    stop_seconds: float = 10.0
    probe: Callable[[], Awaitable[str]] | None = None
    log: Path | None = None


class Supervisor:
    """Runs groups of roles until it is told to stop. Groups stop in the reverse order of their start."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._groups: list[list[tuple[Role, asyncio.Task[None]]]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False

    async def start(self, *groups: Sequence[Role]) -> None:
        """Starts all roles of all groups side by side; returns when each was ready once.

        Raises:
            LaunchError: one of them refused its configuration, for this reason.
        """
        ready = []
        for group in groups:
            kept = []
            for role in group:
                first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                kept.append((role, asyncio.create_task(self._keep(role, first_ready))))
                ready.append(first_ready)
            self._groups.append(kept)
        await asyncio.gather(*ready)

    async def stop(self) -> None:
        """Stops the roles, the group started last first, each group wholly before the next."""
        self._stopping = True
        for group in reversed(self._groups):
            await asyncio.gather(*(self._stop_role(role, task) for role, task in group))

    async def _stop_role(self, role: Role, keeping: "asyncio.Task[None]") -> None:
        process = self._processes.get(role.name)
        if process is None or process.returncode is not None:
            keeping.cancel()
        elif not await _stop_process(process, role.stop_seconds):
            self._say(f"{role.name} did not stop within {role.stop_seconds:g} s and was killed")
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

    async def _keep(self, role: Role, first_ready: "asyncio.Future[None]") -> None:
        delay = FIRST_DELAY
        while not self._stopping:
            began = time.monotonic()
            try:
                process, announced = await _spawn(role)
            except OSError as error:
                self._say(f"{role.name} cannot be started ({error}): trying again in {delay:g} s")
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY)
                continue
            self._processes[role.name] = process
            ended = asyncio.create_task(process.wait())
            word, _, detail = (await _first(announced, ended, patience=not role.probe) or "").partition(" ")
            if word == READY:
                self._say(f"{role.name} ready in {time.monotonic() - began:.1f} s: {detail}")
                if not first_ready.done():
                    first_ready.set_result(None)
            status = await ended
            if self._stopping:
                return
            if status == EXIT_CONFIGURATION and not first_ready.done():
                first_ready.set_exception(LaunchError(detail or f"{role.name} cannot start: its log says why."))
                return
            if word == REFUSED:
                self._say(f"{role.name} cannot start: {detail}")
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_DELAY
            self._say(f"{role.name} ended ({_reason(status)}): starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)


async def _spawn(role: Role) -> tuple[asyncio.subprocess.Process, "asyncio.Task[str | None]"]:
    """Starts a role on a leash, in a session of its own: a terminal's Ctrl-C reaches only the launcher."""
    output = role.log.open("ab") if role.log else None
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api.leash",
            *role.command,
            env={**os.environ, **role.environment, "MILLPOND_READY_FD": str(writing)},
            pass_fds=(writing, *role.descriptors),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        if output:
            output.close()
    announced = _probed(role.probe) if role.probe else _announcement(reading)
    if role.probe:
        os.close(reading)
    return process, asyncio.ensure_future(announced)


async def _probed(probe: Callable[[], Awaitable[str]]) -> str:
    """What a role that does not announce itself would have written."""
    return f"{READY} {await probe()}"


async def _announcement(reading: int) -> str | None:
    """The line that a role writes when it is ready or refuses to start; None when it ends without one."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb")
    )
    try:
        return (await stream.readline()).decode().strip() or None
    finally:
        transport.close()


async def _first(announced: "asyncio.Task[str | None]", ended: "asyncio.Task[int]", *, patience: bool) -> str | None:
    """What a role announced, or None when it ended before; with patience also what is read after its end."""
    await asyncio.wait((announced, ended), return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait((announced,), timeout=LAST_WORDS_SECONDS if patience else 0)
    if announced.done():
        return announced.result()
    announced.cancel()
    return None


async def _stop_process(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Asks a process to stop, and kills it when it takes too long. Whether it stopped by itself."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False
    return True


def _reason(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
