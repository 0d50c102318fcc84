"""The process that runs what nobody waits for: an api process without a port, which calls its own routes."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from fastapi import FastAPI

from api.app import create_app
from api.batches.running import run_batches
from api.jobs.running import run_jobs
from api.options import Options
from api.serving import Served
from api.webhooks.delivering import deliver_webhooks
from scheduler.logs import set_up_logging
from scheduler.readiness import announce_ready

log = logging.getLogger(__name__)

NICENESS = 5
"""Whoever waits for an answer comes first, on the processor too."""

Service = Callable[[FastAPI, asyncio.Event], Coroutine[Any, Any, None]]
"""Works until the event is set, then gives back what it holds and returns, within seconds. What it raises ends the
process: only a fault that a new process cures."""

SERVICES: tuple[Service, ...] = (run_jobs, run_batches, deliver_webhooks)


def main() -> int:
    """Works until SIGTERM; the exit status."""
    options = Options.from_environment()
    set_up_logging("jobs", options.log_format)
    os.nice(NICENESS)
    app = create_app(options, [Served.decode(each) for each in json.loads(os.environ["MILLPOND_SERVED"])])
    uvloop.run(_serve(app, options))
    return 0


async def _serve(app: FastAPI, options: Options) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with app.router.lifespan_context(app), asyncio.TaskGroup() as group:
        for service in SERVICES:
            group.create_task(service(app, stopping))
        announce_ready(f"{options.job_concurrency} calls at once")
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(main())
