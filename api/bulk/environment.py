"""The servers around a run: started where they were not given, kept running, stopped at its end."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.bulk.arguments import BulkCommand
from api.bulk.client import Endpoint
from api.bulk.errors import BulkError
from api.bulk.reporting import Reports
from api.bulk.servers import OwnBroker, OwnServer, remove_abandoned, temporary_directory
from api.bulk.stopping import Stop
from api.errors import LaunchError
from api.reaching import check_redis
from api.supervisor import Supervisor


@dataclass(frozen=True)
class Running:
    """What a run uses.

    Attributes:
        supervisor: keeps it running, and takes the executors.
        endpoint: where rows are scored.
        broker_url: of the Redis that carries Celery.
    """

    supervisor: Supervisor
    endpoint: Endpoint
    broker_url: str


@asynccontextmanager
async def running(
    command: BulkCommand, name: str, log: Path, say: Callable[[str], None], stop: Stop
) -> AsyncIterator[Running]:
    """What the command needs, ready.

    Args:
        name: of the temporary directory, short.
        log: of the server that is started.

    Raises:
        BulkError, LaunchError: something does not start.
        Interrupted: the command was told to stop.
    """
    supervisor = Supervisor(say)
    alone = command.ledger is None
    remove_abandoned(name, alone=alone)
    directory = temporary_directory(name)
    try:
        if command.server is None:
            server = OwnServer(command.options, directory, log)
            try:
                await stop.unless(supervisor.start([server.role()]))
            except LaunchError as error:
                raise BulkError(server.reason()) from error
            endpoint, broker_url = Endpoint(server.url, server.key), server.redis_url
        else:
            endpoint, broker_url = Endpoint(command.server, command.key), OwnBroker(directory).url
            if command.ledger is None and not command.dry_run:
                await stop.unless(supervisor.start([OwnBroker(directory).role()]))
        yield Running(supervisor, endpoint, command.ledger or broker_url)
    finally:
        await supervisor.stop()
        shutil.rmtree(directory, ignore_errors=True)
        remove_abandoned(name, alone=alone)


def check_ledger(url: str) -> None:
    """Raises BulkError where no fit Redis answers there."""
    try:
        check_redis(url, "--ledger")
    except LaunchError as error:
        raise BulkError(str(error)) from error


@contextmanager
def reports() -> Iterator[tuple[Reports, int]]:
    """What executors say, and the descriptor that they say it to."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    heard, rest = Reports(), bytearray()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            rest.extend(os.read(reading, 65_536))
        *lines, last = bytes(rest).split(b"\n")
        rest[:] = last
        for line in lines:
            heard.take(line)

    loop = asyncio.get_running_loop()
    loop.add_reader(reading, read)
    try:
        yield heard, writing
    finally:
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
