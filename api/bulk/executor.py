"""`python -m api.bulk.executor`: a Celery worker that runs the chunks of one backfill, one at a time."""

import asyncio
import logging
import os
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from api.bulk.carrier import RUN_CHUNK
from api.bulk.chunking import Chunk
from api.bulk.client import RowsClient
from api.bulk.errors import BulkError
from api.bulk.ledger import Ledger, open_ledger
from api.bulk.pacing import Pace
from api.bulk.reporting import Reporter
from api.bulk.running import ChunkRun
from api.bulk.task import BackfillTask
from scheduler.broker import celery_application
from scheduler.consuming import consume
from scheduler.keys import backfill_queue
from scheduler.logs import set_up_logging
from scheduler.memory import keep_small
from scheduler.readiness import announce_ready, announce_refusal

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""After this the chunk of an executor that died is anybody's."""

RENEWAL_SECONDS = 3.0

STOP_SECONDS = 5.0
"""For giving a chunk back once told to stop. Celery alone may take a minute: while its broker is gone, which dies with
the command, it sleeps for ever longer between two tries to connect, and hears of nothing meanwhile."""


def main() -> int:
    """Runs chunks until SIGTERM; the exit status, 2 when it cannot begin."""
    set_up_logging("executor", "text")
    keep_small()
    task = BackfillTask.from_environment(os.environ)
    reporter = Reporter.from_environment(os.environ)
    try:
        return _consume(task, _Executor(task, reporter))
    except BulkError as error:
        announce_refusal(str(error))
        return 2


@dataclass
class _Executor:
    """Runs chunks in an event loop of the main thread, which is the one that Celery's solo pool runs tasks in."""

    task: BackfillTask
    reporter: Reporter
    ledger: Ledger = field(init=False)
    loop: asyncio.AbstractEventLoop = field(init=False)
    running: "asyncio.Task[Any] | None" = None
    stopping: bool = False

    def __post_init__(self) -> None:
        self.ledger = open_ledger(self.task.backfill_id, self.task.folder, self.task.shared_ledger)
        self.loop = asyncio.new_event_loop()
        self._http = self.task.endpoint.client()
        self._shape = self.task.shape()
        self._pace = Pace()

    def run(self, number: int) -> None:
        """Runs a chunk if it is to be done and free, and tells the command what it should know."""
        token = uuid.uuid4().hex
        try:
            encoded = None if self.stopping else self.ledger.claim(number, token, LEASE_SECONDS)
            if encoded is None:
                return
            with self._renewing(number, token):
                self.running = self.loop.create_task(self._run(number, token, Chunk.decode(encoded)))
                self.loop.run_until_complete(self.running)
        except asyncio.CancelledError:
            log.info("chunk %d is given back", number)
            self._give_back(number, token)
        except BulkError as error:
            self.reporter.stop(str(error))
            self._give_back(number, token)
        except Exception as error:
            log.exception("chunk %d failed", number)
            self.reporter.failed(number, "".join(traceback.format_exception_only(error)).strip())
            self._give_back(number, token)
        finally:
            self.running = None
            self.reporter.ends(number)
            self.reporter.waits(None)

    def _give_back(self, number: int, token: str) -> None:
        """So that nobody waits until the lease has run out; where that cannot be, they do."""
        try:
            self.ledger.release(number, token)
        except BulkError as error:
            log.warning("%s", error)

    async def _run(self, number: int, token: str, chunk: Chunk) -> None:
        client = RowsClient(self._http, self.task.call, self.reporter.waits)

        def done(rows: int) -> None:
            self.reporter.done(number, rows, client.queue_depth)

        run = ChunkRun(client, self._shape, self.task.parts, self.task.output_format, self._pace, done)
        self.reporter.begins(number)
        result = await run.run(chunk, f"{number:08d}-{token}")
        if not await asyncio.to_thread(self.ledger.commit, number, result):
            log.info("chunk %d was done by another", number)
            for name in filter(None, (result.part, result.errors)):
                (self.task.parts / name).unlink(missing_ok=True)

    @contextmanager
    def _renewing(self, number: int, token: str) -> Iterator[None]:
        """Keeps the claim while the chunk runs. A chunk that was lost all the same runs on: the first commit wins."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(RENEWAL_SECONDS):
                try:
                    if not self.ledger.renew(number, token, LEASE_SECONDS):
                        log.info("chunk %d is not held by this executor any more", number)
                        return
                except BulkError as error:
                    log.warning("%s", error)

        thread = threading.Thread(target=renew, name="renewal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()

    def stop(self) -> None:
        """Drops the chunk that runs; called from a signal's handler, in the middle of anything."""
        self.stopping = True
        end = threading.Timer(STOP_SECONDS, os._exit, [0])
        end.daemon = True
        end.start()
        if self.running is not None:
            self.loop.call_soon_threadsafe(self.running.cancel)


def _consume(task: BackfillTask, executor: _Executor) -> int:
    """One chunk at a time, in the main thread."""
    application = celery_application(task.broker_url)

    @application.task(name=RUN_CHUNK)  # type: ignore[untyped-decorator]
    def run_chunk(backfill_id: str, number: int) -> None:
        if backfill_id == task.backfill_id:
            executor.run(number)

    def ready() -> None:
        announce_ready(f"chunks of {task.backfill_id}")

    return consume(application, backfill_queue(task.backfill_id), uuid.uuid4().hex, ready, executor.stop, pool="solo")


if __name__ == "__main__":
    sys.exit(main())
